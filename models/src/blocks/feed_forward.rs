//! Position-wise feed-forward network with GELU.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::gelu};

/// `down(gelu(up(x)))`
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `[d, hidden]`
    pub up: Linear,
    /// `[hidden, d]`
    pub down: Linear,
}

impl FeedForward {
    /// From width `d` to `hidden` and back.
    pub fn init(d: usize, hidden: usize, device: &Device) -> Self {
        Self { up: LinearConfig::new(d, hidden).init(device), down: LinearConfig::new(hidden, d).init(device) }
    }

    /// `[…, d]` → `[…, d]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.down.forward(gelu(self.up.forward(x)))
    }
}
