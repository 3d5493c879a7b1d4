//! Phrase grounding: features and a phrase to scored boxes.
//!
//! A 14×14 grid is made once a picture: the backbone's 7×7 head cells and the picture's joint vector pass an attention layer, are
//! up-sampled, and join the finer maps; depthwise 5×5 blocks let cells see their neighbours. A phrase then asks every cell: an inner
//! product says how well a cell fits, FiLM (Perez et al. 2018, <https://arxiv.org/abs/1709.07871>) says which box the cell's thing
//! has, as distances to the four sides (FCOS, Tian et al. 2019, <https://arxiv.org/abs/1904.01355>). Whether the phrase is there at
//! all is a question of its own, answered from where the phrase looks, from the whole picture, and from the joint space.
//!
//! | module | what |
//! |---|---|
//! | [`cells`] | the grid, and the maps on it |
//! | [`mixer`] | the depthwise block |
//! | [`presence`] | whether a phrase is there at all |
//! | [`phrase`] | the form phrases are embedded in |
//! | [`mod@detect`] | cells to calibrated, non-overlapping boxes |

pub mod cells;
pub mod detect;
pub mod mixer;
pub mod phrase;
pub mod presence;

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

pub use self::cells::{CELLS, SIDE, cell_centre};
use self::cells::{COARSE, cell_centres, side_by_side, upsampling};
pub use self::detect::{Calibration, Found, PhraseScores, detect};
use self::mixer::Mixer;
pub use self::phrase::normalise_phrase;
use self::presence::EVIDENCE;
use super::backbone::{Features, HEAD};
use crate::blocks::{EncoderLayer, LayerNorm, Linear, Mask};
use crate::linears;

const MIDDLE_CHANNELS: usize = 112;
const FINE_CHANNELS: usize = 40;
/// A unit vector's elements are small; times this they are of a size that layers learn from quickly.
const VECTOR_SCALE: f64 = 4.0;
/// Logarithm of a box side's smallest and largest distance from its cell, in pictures.
const LOG_DISTANCE: (f64, f64) = (-6.0, 2.0);

/// Shape of a [`GroundHead`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroundConfig {
    /// Width of the grid and of phrases.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the box branch.
    pub box_width: usize,
    /// Dimension of the joint space.
    pub joint: usize,
    /// Dropout while training.
    pub dropout: f64,
}

impl Default for GroundConfig {
    /// nano's.
    fn default() -> Self {
        Self { width: 160, heads: 5, box_width: 128, joint: 512, dropout: 0.1 }
    }
}

/// Features and phrases → where, which box, and whether at all.
#[derive(Debug, Module)]
pub struct GroundHead {
    /// `[HEAD, width]`, for the 7×7 cells.
    pub coarse: Linear,
    /// Over the cells' width.
    pub coarse_norm: LayerNorm,
    /// `[joint, width]`, for the picture's joint vector.
    pub global: Linear,
    /// `[50, width]`: 49 cells and the picture as a whole.
    pub positions: Param<Tensor<2>>,
    /// Over the 50 tokens.
    pub layer: EncoderLayer,
    /// `[112, width]`, stride 16.
    pub middle: Linear,
    /// `[160, width]`, four cells of stride 8 side by side.
    pub fine: Linear,
    /// Over the grid's width.
    pub grid_norm: LayerNorm,
    /// Neighbours, twice.
    pub mixers: Vec<Mixer>,
    /// After the mixers.
    pub output_norm: LayerNorm,
    /// `[width, width]`, what cells answer to.
    pub keys: Linear,
    /// `[width, width]`, what cells say of presence.
    pub values: Linear,
    /// `[width, box_width]`, cells' input to the box branch.
    pub cell_boxes: Linear,
    /// `[joint, width]`
    pub text: Linear,
    /// `[width, width]`, on the residual.
    pub text_more: Linear,
    /// `[width, width]`, what a phrase asks of cells.
    pub queries: Linear,
    /// `[width, 2 * box_width]`, a phrase's scale and shift of the box branch.
    pub film: Linear,
    /// `[box_width, 64]`
    pub box_hidden: Linear,
    /// `[64, 5]`: a correction of the cell's logit, and the logarithms of the distances to left, top, right, bottom.
    pub box_output: Linear,
    /// `[width, width]`, what a phrase wants where it looks.
    pub local_query: Linear,
    /// `[width, width]`, what a phrase wants of the picture.
    pub global_query: Linear,
    /// `[width, 64]`
    pub presence_local: Linear,
    /// `[width, 64]`
    pub presence_global: Linear,
    /// `[width, 64]`
    pub presence_text: Linear,
    /// `[64, 1]`
    pub presence_output: Linear,
    /// `[6, 1]`
    pub presence_evidence: Linear,
    /// `[1]`: logarithm of what inner products are multiplied with.
    pub log_scale: Param<Tensor<1>>,
    /// `[joint]`: the mean of pictures' joint vectors.
    pub joint_mean: Param<Tensor<1>>,
    /// `[joint]`: the mean of phrases' joint vectors.
    pub text_mean: Param<Tensor<1>>,
    dropout: Dropout,
}

/// What the head makes of pictures, whatever the phrases.
#[derive(Debug, Clone)]
pub struct Grid {
    /// `[batch, CELLS, width]`
    pub keys: Tensor<3>,
    /// `[batch, CELLS, width]`
    pub values: Tensor<3>,
    /// `[batch, CELLS, box_width]`
    pub cells: Tensor<3>,
    /// `[batch, width]`
    pub global: Tensor<2>,
    /// `[batch, joint]`, L2-normalised, or zero.
    pub joint: Tensor<2>,
}

impl Grid {
    /// Picture `index` alone.
    pub fn picture(&self, index: usize) -> Self {
        let of = |x: &Tensor<3>| x.clone().narrow(0, index, 1);
        Self {
            keys: of(&self.keys),
            values: of(&self.values),
            cells: of(&self.cells),
            global: self.global.clone().narrow(0, index, 1),
            joint: self.joint.clone().narrow(0, index, 1),
        }
    }
}

/// What the head makes of phrases, whatever the pictures.
#[derive(Debug, Clone)]
pub struct Phrases {
    /// `[phrases, joint]`, as they came in.
    pub vectors: Tensor<2>,
    /// `[phrases, width]`
    pub queries: Tensor<2>,
    /// `[phrases, 2 * box_width]`
    pub film: Tensor<2>,
    /// `[phrases, width]`
    pub local: Tensor<2>,
    /// `[phrases, width]`
    pub global: Tensor<2>,
    /// `[phrases, 64]`
    pub presence: Tensor<2>,
}

/// What the head says of one picture and some phrases.
#[derive(Debug, Clone)]
pub struct Scores {
    /// `[phrases, CELLS]`, before softmax over the cells.
    pub cells: Tensor<2>,
    /// `[phrases, CELLS, 4]`: left, top, right, bottom in 0..1 of the picture; may reach out of it.
    pub boxes: Tensor<3>,
    /// `[phrases]`, before the calibrated sigmoid.
    pub presence: Tensor<1>,
}

linears!(GroundHead {
    coarse,
    global,
    layer,
    middle,
    fine,
    mixers,
    keys,
    values,
    cell_boxes,
    text,
    text_more,
    queries,
    film,
    box_hidden,
    box_output,
    local_query,
    global_query,
    presence_local,
    presence_global,
    presence_text,
    presence_output,
    presence_evidence,
});

impl GroundHead {
    /// A head with random weights.
    pub fn init(config: &GroundConfig, device: &Device) -> Self {
        let GroundConfig { width: d, box_width, joint, .. } = *config;
        let linear = |from: usize, to: usize| Linear::init(from, to, device);
        let norm = || LayerNorm::init(d, device);
        let zeros = |n: usize| Initializer::Zeros.init([n], device);
        let mut head = Self {
            coarse: linear(HEAD, d),
            coarse_norm: norm(),
            global: linear(joint, d),
            positions: Initializer::Normal { mean: 0.0, std: 0.02 }.init([COARSE + 1, d], device),
            layer: EncoderLayer::init(d, config.heads, 2 * d, config.dropout, device).with_relu(),
            middle: linear(MIDDLE_CHANNELS, d),
            fine: linear(4 * FINE_CHANNELS, d),
            grid_norm: norm(),
            mixers: (0..2).map(|_| Mixer::init(d, device)).collect(),
            output_norm: norm(),
            keys: linear(d, d),
            values: linear(d, d),
            cell_boxes: linear(d, box_width),
            text: linear(joint, d),
            text_more: linear(d, d),
            queries: linear(d, d),
            film: linear(d, 2 * box_width),
            box_hidden: linear(box_width, 64),
            box_output: Linear::init_with(64, 5, Initializer::Uniform { min: -0.0125, max: 0.0125 }, device),
            local_query: linear(d, d),
            global_query: linear(d, d),
            presence_local: linear(d, 64),
            presence_global: linear(d, 64),
            presence_text: linear(d, 64),
            presence_output: linear(64, 1),
            presence_evidence: Linear::init_with(EVIDENCE, 1, Initializer::Zeros, device),
            log_scale: Initializer::Ones.init([1], device),
            joint_mean: zeros(joint),
            text_mean: zeros(joint),
            dropout: DropoutConfig::new(config.dropout).init(),
        };
        // A new head's boxes are half a picture wide, and it thinks that most phrases are absent.
        head.box_output.bias = Some(Param::from_tensor(Tensor::from_floats([0.0, -1.4, -1.4, -1.4, -1.4], device)));
        head.presence_output.bias = Some(Param::from_tensor(Tensor::from_floats([-2.0], device)));
        head
    }

    /// The grid of pictures from their features and L2-normalised joint vectors `[batch, joint]`.
    pub fn encode(&self, features: &Features, joint: Tensor<2>) -> Grid {
        self.encode_maps(features.stride8.clone(), features.stride16.clone(), features.head.clone(), joint)
    }

    /// The same from the three maps it reads: `[batch, 784, 40]`, `[batch, 196, 112]`, `[batch, 49, 1280]`.
    pub fn encode_maps(&self, stride8: Tensor<3>, stride16: Tensor<3>, head: Tensor<3>, joint: Tensor<2>) -> Grid {
        let [batch, _, d] = [head.dims()[0], COARSE, self.positions.dims()[1]];
        let device = head.device();
        let coarse = self.coarse.forward(self.dropout.forward(head)); // [batch, 49, d]
        let global = self.global.forward(joint.clone().mul_scalar(VECTOR_SCALE)).unsqueeze_dim::<3>(1) + coarse.clone().mean_dim(1);
        let tokens = Tensor::cat(vec![self.coarse_norm.forward(coarse), global], 1) + self.positions.val().unsqueeze::<3>();
        let tokens = self.layer.forward(tokens, &Mask::Nothing); // [batch, 50, d]
        let global = tokens.clone().narrow(1, COARSE, 1).reshape([batch, d]);

        let upsampling = upsampling(&device).unsqueeze::<3>().expand([batch, CELLS, COARSE]);
        let grid = upsampling.matmul(tokens.narrow(1, 0, COARSE)); // [batch, CELLS, d]
        let grid = grid + self.middle.forward(stride16) + self.fine.forward(side_by_side(stride8));
        let grid = self.mixers.iter().fold(self.grid_norm.forward(grid), |grid, mixer| mixer.forward(grid));
        let grid = self.output_norm.forward(grid);
        Grid {
            keys: self.keys.forward(grid.clone()),
            values: self.values.forward(grid.clone()),
            cells: self.cell_boxes.forward(grid),
            global,
            joint,
        }
    }

    /// Phrases from their L2-normalised joint vectors `[phrases, joint]`.
    pub fn phrases(&self, vectors: Tensor<2>) -> Phrases {
        let z = self.text.forward(vectors.clone().mul_scalar(VECTOR_SCALE));
        let z = z.clone() + self.text_more.forward(gelu(z)); // [phrases, width]
        Phrases {
            vectors,
            queries: self.queries.forward(z.clone()),
            film: self.film.forward(z.clone()),
            local: self.local_query.forward(z.clone()),
            global: self.global_query.forward(z.clone()),
            presence: self.presence_text.forward(z),
        }
    }

    /// Every phrase asked of one picture.
    pub fn score(&self, picture: &Grid, phrases: &Phrases) -> Scores {
        let dots = self.dots(picture, phrases); // [1, phrases, CELLS]
        let presence = self.presence(picture, phrases, &dots);
        let [_, count, _] = dots.dims();
        let (cells, boxes) = self.boxes(picture.cells.clone(), phrases.film.clone(), dots.reshape([count, CELLS]));
        Scores { cells, boxes, presence: presence.reshape([count]) }
    }

    /// How well each cell fits each phrase: `[batch, phrases, CELLS]`.
    pub fn dots(&self, grid: &Grid, phrases: &Phrases) -> Tensor<3> {
        let [batch, _, width] = grid.keys.dims();
        let [count, _] = phrases.queries.dims();
        let scale = self.log_scale.val().exp().div_scalar((width as f64).sqrt());
        let queries = (phrases.queries.clone() * scale.unsqueeze::<2>()).unsqueeze::<3>().expand([batch, count, width]);
        queries.matmul(grid.keys.clone().swap_dims(1, 2))
    }

    /// Cells' logits `[pairs, CELLS]` and boxes `[pairs, CELLS, 4]` of pairs of a picture and a phrase.
    ///
    /// `cells [pairs or 1, CELLS, box_width]` are the pictures', `film [pairs, 2 * box_width]` the phrases', `dots [pairs, CELLS]` both's.
    pub fn boxes(&self, cells: Tensor<3>, film: Tensor<2>, dots: Tensor<2>) -> (Tensor<2>, Tensor<3>) {
        let [pairs, _] = dots.dims();
        let [_, _, width] = cells.dims();
        let part = |start: usize| film.clone().narrow(1, start, width).unsqueeze_dim::<3>(1); // [pairs, 1, box_width]
        let x = relu(cells * part(0).add_scalar(1.0) + part(width));
        let x = self.box_output.forward(relu(self.box_hidden.forward(x))); // [pairs, CELLS, 5]
        let logits = x.clone().narrow(2, 0, 1).reshape([pairs, CELLS]) + dots;
        let distances = x.narrow(2, 1, 4).clamp(LOG_DISTANCE.0, LOG_DISTANCE.1).exp();
        let (centres, signs) = (cell_centres(&logits.device()), Tensor::<1>::from_floats([-1.0, -1.0, 1.0, 1.0], &logits.device()));
        let boxes = distances * signs.unsqueeze::<3>() + centres.unsqueeze::<3>();
        (logits, boxes)
    }

    /// Pairs out of a batch: pair `i` is picture `pictures[i]` with phrase `phrases_of[i]`. As [`Self::boxes`].
    pub fn pair_boxes(
        &self,
        grid: &Grid,
        phrases: &Phrases,
        dots: &Tensor<3>,
        pictures: &[i32],
        phrases_of: &[i32],
    ) -> (Tensor<2>, Tensor<3>) {
        let device = grid.cells.device();
        let [batch, count, _] = dots.dims();
        let ints = |values: &[i32]| Tensor::<1, Int>::from_ints(values, &device);
        let flat: Vec<i32> = pictures.iter().zip(phrases_of).map(|(&picture, &phrase)| picture * count as i32 + phrase).collect();
        let dots = dots.clone().reshape([batch * count, CELLS]).select(0, ints(&flat));
        let cells = grid.cells.clone().select(0, ints(pictures));
        self.boxes(cells, phrases.film.clone().select(0, ints(phrases_of)), dots)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::nano::embed::normalise;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    fn random_grid(head: &GroundHead, batch: usize, device: &Device) -> Grid {
        let random = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), device);
        let joint = normalise(Tensor::random([batch, 512], Distribution::Normal(0.0, 1.0), device));
        head.encode_maps(random([batch, 784, 40]), random([batch, 196, 112]), random([batch, 49, 1280]), joint)
    }

    #[test]
    fn shapes_and_size() {
        let device = Device::flex();
        let head = GroundHead::init(&GroundConfig::default(), &device);
        assert_eq!(head.num_params(), 1_100_174);
        let grid = random_grid(&head, 2, &device);
        let phrases = head.phrases(normalise(Tensor::random([3, 512], Distribution::Normal(0.0, 1.0), &device)));
        let scores = head.score(&grid.picture(1), &phrases);
        assert_eq!(scores.cells.dims(), [3, CELLS]);
        assert_eq!(scores.boxes.dims(), [3, CELLS, 4]);
        assert_eq!(scores.presence.dims(), [3]);

        // A picture and a phrase out of a batch say the same as alone.
        let dots = head.dots(&grid, &phrases);
        let (cells, boxes) = head.pair_boxes(&grid, &phrases, &dots, &[1], &[2]);
        let near = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4) && a.len() == b.len();
        assert!(near(values(cells), values(scores.cells.narrow(0, 2, 1))));
        assert!(near(values(boxes), values(scores.boxes.narrow(0, 2, 1))));
        assert!(near(values(head.presence(&grid, &phrases, &dots).narrow(0, 1, 1)), values(scores.presence)));
    }

    #[test]
    fn a_picture_without_a_joint_vector_has_finite_scores() {
        let device = Device::flex();
        let head = GroundHead::init(&GroundConfig::default(), &device);
        let mut grid = random_grid(&head, 1, &device);
        grid.joint = grid.joint.zeros_like();
        let phrases = head.phrases(Tensor::zeros([1, 512], &device));
        assert!(values(head.score(&grid, &phrases).presence)[0].is_finite());
    }
}
