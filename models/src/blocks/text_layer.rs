//! The transformer layer of text encoders and decoders (GPT-2, BERT, BART): self-attention, attention over a memory where there is one, and a
//! feed-forward network, with norms before or after each.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_ops::{Activation, AttentionOptions, KeyValueCache, attention, cached_attention};
use serde::{Deserialize, Serialize};

use super::{KeyValue, LayerNorm, Linear, in_pieces};
use crate::linears;

/// Where the norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// Before each part: x + f(norm(x)) (GPT-2).
    #[default]
    Before,
    /// After the sum: norm(x + f(x)) (Vaswani et al. 2017; BERT, BART).
    After,
}

/// Shape of a [`TextLayer`].
#[derive(Debug, Clone, PartialEq)]
pub struct TextLayerConfig {
    /// Width of the layer.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// Hidden width of the feed-forward network.
    pub hidden: usize,
    /// Of the feed-forward network.
    pub activation: Activation,
    /// ε of the norms.
    pub epsilon: f64,
    /// Where the norms stand.
    pub norms: NormPlace,
    /// Width of the memory; `None`: no attention over one.
    pub memory: Option<usize>,
}

/// Attention over a memory, such as a picture's tokens.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Before, or after the sum.
    pub norm: LayerNorm,
    /// `[d, d]`
    pub q: Linear,
    /// `[memory, 2 d]`: keys and values side by side.
    pub kv: Linear,
    /// `[d, d]`
    pub output: Linear,
}

linears!(CrossAttention { q, kv, output });

/// A layer.
#[derive(Module, Debug)]
pub struct TextLayer {
    /// Of the self-attention.
    pub attention_norm: LayerNorm,
    /// `[d, 3 d]`: queries, keys and values side by side.
    pub qkv: Linear,
    /// `[d, d]`
    pub output: Linear,
    /// Over the memory.
    pub cross: Option<CrossAttention>,
    /// Of the feed-forward network.
    pub feed_forward_norm: LayerNorm,
    /// `[d, hidden]`
    pub up: Linear,
    /// `[hidden, d]`
    pub down: Linear,
    heads: usize,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    norms: NormPlace,
}

linears!(TextLayer { qkv, output, cross, up, down });

impl TextLayer {
    /// A layer with random weights.
    pub fn init(config: &TextLayerConfig, device: &Device) -> Self {
        let d = config.width;
        let norm = || LayerNorm::init_with(d, config.epsilon, device);
        let cross = |memory| CrossAttention {
            norm: norm(),
            q: Linear::init(d, d, device),
            kv: Linear::init(memory, 2 * d, device),
            output: Linear::init(d, d, device),
        };
        Self {
            attention_norm: norm(),
            qkv: Linear::init(d, 3 * d, device),
            output: Linear::init(d, d, device),
            cross: config.memory.map(cross),
            feed_forward_norm: norm(),
            up: Linear::init(d, config.hidden, device),
            down: Linear::init(config.hidden, d, device),
            heads: config.heads,
            activation: config.activation,
            norms: config.norms,
        }
    }

    /// Keys and values of a memory `[batch, tokens, memory]`, once for all steps; `None` where the layer has no attention over one.
    pub fn memory(&self, tokens: Tensor<3>) -> Option<KeyValue> {
        let cross = self.cross.as_ref()?;
        let kv = cross.kv.forward(tokens);
        let d = kv.dims()[2] / 2;
        Some(KeyValue { k: kv.clone().narrow(2, 0, d), v: kv.narrow(2, d, d) })
    }

    /// Every token sees every other: `x [batch, tokens, d]`, `mask [batch, tokens]` is added to the scores of keys.
    pub fn encode(&self, x: Tensor<3>, mask: Option<Tensor<2>>, memory: Option<&KeyValue>) -> Tensor<3> {
        let d = x.dims()[2];
        let heads = {
            let qkv = self.enter(&self.qkv, &self.attention_norm, &x);
            let part = |i: usize| qkv.clone().narrow(2, i * d, d);
            attention(part(0), part(1), part(2), mask, self.options(d, false))
        };
        let x = self.leave(&self.output, &self.attention_norm, heads, x);
        self.finish(x, memory)
    }

    /// Every token sees those before it: `x [rows, tokens, d]`, which follow `first` tokens in the cache.
    ///
    /// A memory may have fewer rows than `x`: then as many neighbouring rows of `x` share each (the beams of a picture).
    pub fn decode(&self, x: Tensor<3>, past: KeyValueCache, first: usize, memory: Option<&KeyValue>) -> (Tensor<3>, KeyValueCache) {
        let qkv = self.enter(&self.qkv, &self.attention_norm, &x);
        let (heads, past) = cached_attention(qkv, past, None, first, self.options(x.dims()[2], true), false);
        let x = self.leave(&self.output, &self.attention_norm, heads, x);
        (self.finish(x, memory), past)
    }

    /// Attention over the memory, and the feed-forward network.
    fn finish(&self, mut x: Tensor<3>, memory: Option<&KeyValue>) -> Tensor<3> {
        if let (Some(cross), Some(memory)) = (&self.cross, memory) {
            let [rows, tokens, d] = x.dims();
            let memories = memory.k.dims()[0];
            // Rows that share a memory lie side by side as queries of one row, so that nothing of the memory is repeated.
            let beside = x.reshape([memories, rows / memories * tokens, d]);
            let q = self.enter(&cross.q, &cross.norm, &beside);
            let heads = attention(q, memory.k.clone(), memory.v.clone(), None, self.options(d, false));
            x = self.leave(&cross.output, &cross.norm, heads, beside).reshape([rows, tokens, d]);
        }
        in_pieces(x, self.up.shape()[1], |x| {
            let hidden = match self.norms {
                NormPlace::Before => self.up.normed_then(&self.feed_forward_norm, x.clone(), self.activation),
                NormPlace::After => self.up.then(x.clone(), self.activation),
            };
            self.leave(&self.down, &self.feed_forward_norm, hidden, x)
        })
    }

    /// A part's first product.
    fn enter(&self, linear: &Linear, norm: &LayerNorm, x: &Tensor<3>) -> Tensor<3> {
        match self.norms {
            NormPlace::Before => linear.normed(norm, x.clone()),
            NormPlace::After => linear.forward(x.clone()),
        }
    }

    /// A part's last product, and the sum with what came in.
    fn leave(&self, linear: &Linear, norm: &LayerNorm, y: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
        let sum = linear.plus(y, x);
        match self.norms {
            NormPlace::Before => sum,
            NormPlace::After => norm.forward(sum),
        }
    }

    fn options(&self, d: usize, causal: bool) -> AttentionOptions {
        let scale = ((d / self.heads) as f32).sqrt().recip();
        AttentionOptions { heads: self.heads, kv_heads: self.heads, scale, causal, fast: !causal && self.qkv.is_quantized() }
    }
}
