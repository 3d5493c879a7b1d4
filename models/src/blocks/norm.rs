//! Normalisation over the last axis.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, module};
use ocelli_ops::Before;

/// Layer normalisation (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>).
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[d]`
    pub gamma: Param<Tensor<1>>,
    /// `[d]`
    pub beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Over `d` channels, with ε = 10⁻⁵.
    pub fn init(d: usize, device: &Device) -> Self {
        Self::init_with(d, 1e-5, device)
    }

    /// Over `d` channels.
    pub fn init_with(d: usize, epsilon: f64, device: &Device) -> Self {
        Self { gamma: Initializer::Ones.init([d], device), beta: Initializer::Zeros.init([d], device), epsilon }
    }

    /// `[..., d]` → the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::layer_norm(x, self.gamma.val(), Some(self.beta.val()), self.epsilon)
    }

    /// As a linear layer takes it before its product.
    pub fn before(&self) -> Before {
        Before::LayerNorm { weight: self.gamma.val(), bias: self.beta.val(), epsilon: self.epsilon as f32 }
    }
}

/// Division by the root of the mean of squares (Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>).
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[d]`
    pub gamma: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// A norm with these gains.
    pub fn new(gamma: Tensor<1>, epsilon: f64) -> Self {
        Self { gamma: Param::from_tensor(gamma), epsilon }
    }

    /// Over `d` channels.
    pub fn init(d: usize, epsilon: f64, device: &Device) -> Self {
        Self { gamma: Initializer::Ones.init([d], device), epsilon }
    }

    /// `[..., d]` → the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let root = x.clone().powi_scalar(2).mean_dim(D - 1).add_scalar(self.epsilon).sqrt();
        x / root * self.gamma.val().unsqueeze()
    }

    /// As a linear layer takes it before its product.
    pub fn before(&self) -> Before {
        Before::RmsNorm { weight: self.gamma.val(), epsilon: self.epsilon as f32 }
    }
}
