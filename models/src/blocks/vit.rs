//! The pre-norm transformer layer of vision towers (Dosovitskiy et al. 2021, <https://arxiv.org/abs/2010.11929>) and of the text towers beside
//! them, for running.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_ops::{Activation, AttentionOptions, attention};

use super::{LayerNorm, Linear, in_pieces};
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
    /// A layer of width `d` with random weights.
    pub fn init(d: usize, hidden: usize, heads: usize, activation: Activation, epsilon: f64, device: &Device) -> Self {
        Self {
            norm1: LayerNorm::init_with(d, epsilon, device),
            qkv: Linear::init(d, 3 * d, device),
            output: Linear::init(d, d, device),
            norm2: LayerNorm::init_with(d, epsilon, device),
            up: Linear::init(d, hidden, device),
            down: Linear::init(hidden, d, device),
            heads,
            activation,
        }
    }

    /// `[batch, tokens, d]` → the same; every token sees every other.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_masked(x, None, false)
    }

    /// [`ViTLayer::forward`] where `mask [batch, tokens]` is added to the scores of keys, and a token sees those before it only where `causal`.
    pub fn forward_masked(&self, x: Tensor<3>, mask: Option<Tensor<2>>, causal: bool) -> Tensor<3> {
        let x = self.output.plus(self.seen(x.clone(), mask, causal), x);
        in_pieces(x, self.up.shape()[1], |x| {
            let hidden = self.up.normed_then(&self.norm2, x.clone(), self.activation);
            self.down.plus(hidden, x)
        })
    }

    /// softmax(q kᵀ / √d_head) v, heads side by side.
    fn seen(&self, x: Tensor<3>, mask: Option<Tensor<2>>, causal: bool) -> Tensor<3> {
        let [_, _, d] = x.dims();
        let qkv = self.qkv.normed(&self.norm1, x);
        let part = |i: usize| qkv.clone().narrow(2, i * d, d);
        let scale = ((d / self.heads) as f32).sqrt().recip();
        let options = AttentionOptions { heads: self.heads, kv_heads: self.heads, scale, causal, fast: self.qkv.is_quantized() };
        attention(part(0), part(1), part(2), mask, options)
    }
}
