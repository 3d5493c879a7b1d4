//! Florence-2's equations.
//!
//! ```text
//! map = davit(pixels) + positions         picture = norm([mean(map), map] W)         memory = encoder([picture, tokens])
//! ```

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::FlorenceConfig;
use super::bart::Bart;
use super::davit::{DaViT, Map};
use crate::blocks::{LayerNorm, Linear};
use crate::linears;

/// The whole model.
#[derive(Module, Debug)]
pub struct Florence {
    /// Of pictures.
    pub vision: DaViT,
    /// From maps to tokens.
    pub projector: Projector,
    /// Of texts.
    pub text: Bart,
}

linears!(Florence { vision, projector, text });

/// From the last map to tokens that the encoder reads.
#[derive(Module, Debug)]
pub struct Projector {
    /// `[positions, d / 2]`
    pub rows: Param<Tensor<2>>,
    /// `[positions, d - d / 2]`
    pub columns: Param<Tensor<2>>,
    /// `[d, width]`
    pub dense: Linear,
    /// Over the width.
    pub norm: LayerNorm,
}

linears!(Projector { dense });

impl Florence {
    /// With random weights.
    pub fn init(config: &FlorenceConfig, device: &Device) -> Self {
        let (d, positions) = (config.vision.width(), config.vision.positions);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self {
            vision: DaViT::init(&config.vision, device),
            projector: Projector {
                rows: small.init([positions, d / 2], device),
                columns: small.init([positions, d - d / 2], device),
                dense: Linear::init_as(d, config.text.width, false, device),
                norm: LayerNorm::init(config.text.width, device),
            },
            text: Bart::init(&config.text, device),
        }
    }

    /// A normalised picture `[1, 3, side, side]` → its tokens `[1, 1 + cells, width]`.
    pub fn see(&self, picture: Tensor<4>) -> Tensor<3> {
        self.projector.forward(self.vision.forward(picture))
    }

    /// A picture's tokens and a prompt's ids → what the decoder attends to.
    pub fn read(&self, picture: Tensor<3>, prompt: &[u32]) -> Tensor<3> {
        let prompt = self.text.embed(prompt).unsqueeze::<3>();
        self.text.encode(Tensor::cat(vec![picture, prompt], 1))
    }
}

impl Projector {
    /// The last map → tokens: the mean of all cells, then each cell.
    pub fn forward(&self, Map { cells, rows, columns }: Map) -> Tensor<3> {
        let [_, _, d] = cells.dims();
        let across = self.columns.val().narrow(0, 0, columns).unsqueeze::<3>().expand([rows, columns, d - d / 2]);
        let down = self.rows.val().narrow(0, 0, rows).unsqueeze_dim::<3>(1).expand([rows, columns, d / 2]);
        let positions = Tensor::cat(vec![across, down], 2).reshape([1, rows * columns, d]);
        // The first picture of a film: its place in time is sin 0, cos 0, sin 0, …
        let time: Vec<f32> = (0..d).map(|i| (i % 2) as f32).collect();
        let time = Tensor::<1>::from_floats(time.as_slice(), &cells.device());
        let cells = cells + positions + time.unsqueeze::<3>();
        let tokens = Tensor::cat(vec![cells.clone().mean_dim(1), cells], 1);
        self.norm.forward(self.dense.forward(tokens))
    }
}
