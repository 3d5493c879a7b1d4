//! Pooling by attention.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use ocelli_ops::{Activation, AttentionOptions, attention};

use super::{LayerNorm, Linear, VisionConfig};
use crate::linears;

/// A learned query that attends to tokens, and a feed-forward network (SigLIP's `MultiheadAttentionPoolingHead`).
#[derive(Module, Debug)]
pub struct AttentionPool {
    /// `[1, d]`
    pub probe: Param<Tensor<2>>,
    /// `[d, d]`
    pub q: Linear,
    /// `[d, 2 d]`: keys and values side by side.
    pub kv: Linear,
    /// `[d, d]`
    pub output: Linear,
    /// Before the feed-forward network.
    pub norm: LayerNorm,
    /// `[d, hidden]`
    pub up: Linear,
    /// `[hidden, d]`
    pub down: Linear,
    heads: usize,
    #[module(skip)]
    activation: Activation,
}

linears!(AttentionPool { q, kv, output, up, down });

impl AttentionPool {
    /// A pool of a tower's shape.
    pub fn init(config: &VisionConfig, device: &Device) -> Self {
        let (d, hidden) = (config.width, config.hidden);
        Self {
            probe: Initializer::Normal { mean: 0.0, std: 0.02 }.init([1, d], device),
            q: Linear::init(d, d, device),
            kv: Linear::init(d, 2 * d, device),
            output: Linear::init(d, d, device),
            norm: LayerNorm::init_with(d, config.epsilon, device),
            up: Linear::init(d, hidden, device),
            down: Linear::init(hidden, d, device),
            heads: config.heads,
            activation: config.activation,
        }
    }

    /// `[batch, tokens, d]` → `[batch, d]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let [batch, _, d] = x.dims();
        let q = self.q.forward(self.probe.val().unsqueeze::<3>().expand([batch, 1, d]));
        let kv = self.kv.forward(x);
        let scale = ((d / self.heads) as f32).sqrt().recip();
        let options = AttentionOptions { heads: self.heads, kv_heads: self.heads, scale, causal: false, fast: false };
        let pooled = attention(q, kv.clone().narrow(2, 0, d), kv.narrow(2, d, d), None, options);
        let x = self.output.forward(pooled);
        let hidden = self.up.normed_then(&self.norm, x.clone(), self.activation);
        self.down.plus(hidden, x).reshape([batch, d])
    }
}
