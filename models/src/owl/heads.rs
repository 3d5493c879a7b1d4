//! The heads of a detector: every patch is a box, with a vector that phrases are compared with.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::sigmoid};
use ocelli_ops::Activation;

use crate::blocks::Linear;
use crate::linears;

/// Added to a vector's length before it is divided by it.
const LENGTH: f32 = 1e-6;

/// Three linear layers with GELU between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[d, d]`
    pub dense0: Linear,
    /// `[d, d]`
    pub dense1: Linear,
    /// `[d, out]`
    pub dense2: Linear,
}

linears!(Mlp { dense0, dense1, dense2 });

impl Mlp {
    /// With random weights.
    pub fn init(d: usize, output: usize, device: &Device) -> Self {
        Self { dense0: Linear::init(d, d, device), dense1: Linear::init(d, d, device), dense2: Linear::init(d, output, device) }
    }

    /// `[batch, patches, d]` → `[batch, patches, out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.dense0.then(x, Activation::Gelu);
        self.dense2.forward(self.dense1.then(x, Activation::Gelu))
    }
}

/// What a box looks like.
#[derive(Module, Debug)]
pub struct ClassHead {
    /// `[d, joint]`
    pub dense: Linear,
    /// `[d, 1]`
    pub shift: Linear,
    /// `[d, 1]`
    pub scale: Linear,
}

linears!(ClassHead { dense, shift, scale });

impl ClassHead {
    /// With random weights.
    pub fn init(d: usize, joint: usize, device: &Device) -> Self {
        Self { dense: Linear::init(d, joint, device), shift: Linear::init(d, 1, device), scale: Linear::init(d, 1, device) }
    }

    /// What boxes look like: `[1, patches, d]` → `[1, patches, joint]`, not normalised.
    pub fn vectors(&self, features: Tensor<3>) -> Tensor<3> {
        self.dense.forward(features)
    }

    /// (cos(vector, query) + shift) · (elu(scale) + 1): `features [1, patches, d]` and their vectors, `queries [queries, joint]` → `[patches, queries]`.
    pub fn logits(&self, features: Tensor<3>, vectors: Tensor<3>, queries: Tensor<2>) -> Tensor<2> {
        let [_, patches, joint] = vectors.dims();
        let cosines = of_length_one(vectors.reshape([patches, joint])).matmul(of_length_one(queries).transpose());
        let shift = self.shift.forward(features.clone()).reshape([patches, 1]);
        let scale = self.scale.forward(features).reshape([patches, 1]);
        // elu(x) + 1: x + 1 above zero, eˣ below.
        let scale = scale.clone().clamp_min(0.0) + scale.clamp_max(0.0).exp();
        (cosines + shift) * scale
    }
}

fn of_length_one(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().powi_scalar(2).sum_dim(1).sqrt().add_scalar(LENGTH);
    x / length
}

/// Boxes of a grid of patches, `[1, patches, 4]` before the sigmoid → `[patches][centre x, centre y, width, height]`, of a picture of side 1.
///
/// Where the head says nothing, a box ends at its patch's lower right corner and is as large as one.
pub fn boxes(raw: Tensor<3>, grid: usize) -> Tensor<2> {
    let inverse = |x: f32| (x + 1e-4).ln() - (-x + 1e-4).ln_1p();
    let along: Vec<f32> = (1..=grid).map(|i| inverse(i as f32 / grid as f32)).collect();
    let size = inverse(1.0 / grid as f32);
    let bias: Vec<f32> = (0..grid * grid).flat_map(|i| [along[i % grid], along[i / grid], size, size]).collect();
    let bias = Tensor::<1>::from_floats(bias.as_slice(), &raw.device()).reshape([grid * grid, 4]);
    sigmoid(raw.reshape([grid * grid, 4]) + bias)
}
