//! The transformer layer of vision towers (Dosovitskiy et al. 2021, <https://arxiv.org/abs/2010.11929>), for running.

use burn::module::Module;
use burn::tensor::Tensor;
use ocelli_ops::{Activation, AttentionOptions, attention};

use super::{LayerNorm, Linear};
use crate::linears;

/// Self-attention and a feed-forward network, each after a norm and added to what came in. Queries, keys and values are one projection.
#[derive(Module, Debug)]
pub struct ViTLayer {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// `[d, 3 d]`: queries, keys and values side by side.
    pub qkv: Linear,
    /// `[d, d]`
    pub output: Linear,
    /// Before the feed-forward network.
    pub norm2: LayerNorm,
    /// `[d, hidden]`
    pub up: Linear,
    /// `[hidden, d]`
    pub down: Linear,
    heads: usize,
    #[module(skip)]
    activation: Activation,
}

linears!(ViTLayer { qkv, output, up, down });

impl ViTLayer {
    /// A layer of these parts.
    pub fn new(norms: [LayerNorm; 2], linears: [Linear; 4], heads: usize, activation: Activation) -> Self {
        let ([norm1, norm2], [qkv, output, up, down]) = (norms, linears);
        Self { norm1, qkv, output, norm2, up, down, heads, activation }
    }

    /// `[batch, tokens, d]` → the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, _, d] = x.dims();
        let qkv = self.qkv.normed(&self.norm1, x.clone());
        let part = |i: usize| qkv.clone().narrow(2, i * d, d);
        let scale = ((d / self.heads) as f32).sqrt().recip();
        let options = AttentionOptions { heads: self.heads, kv_heads: self.heads, scale, causal: false, fast: self.qkv.is_quantized() };
        let x = self.output.plus(attention(part(0), part(1), part(2), None, options), x);
        let hidden = self.up.normed_then(&self.norm2, x.clone(), self.activation);
        self.down.plus(hidden, x)
    }
}
