//! Token ids to logits, with a cache of keys and values.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ocelli_flow::ModelError;
use ocelli_ops::{Activation, AttentionOptions, Before, KeyValueCache, Packed, RotaryTable, cached_attention, embedding};

use super::config::DecoderConfig;
use crate::blocks::{Linear, RmsNorm};
use crate::linears;

/// A layer: grouped-query attention and a gated feed-forward network.
#[derive(Module, Debug)]
pub struct Layer {
    /// Before the attention.
    pub attention_norm: RmsNorm,
    /// `[d, (heads + 2 kv_heads) · head]`: queries, keys and values side by side.
    pub qkv: Linear,
    /// `[d, d]`
    pub output: Linear,
    /// Before the feed-forward network.
    pub feed_forward_norm: RmsNorm,
    /// `[d, 2 hidden]`: gates and values side by side.
    pub gate_up: Linear,
    /// `[hidden, d]`
    pub down: Linear,
}

linears!(Layer { qkv, output, gate_up, down });

impl Layer {
    /// A layer of these parts.
    pub fn new(norms: [RmsNorm; 2], linears: [Linear; 4]) -> Self {
        let ([attention_norm, feed_forward_norm], [qkv, output, gate_up, down]) = (norms, linears);
        Self { attention_norm, qkv, output, feed_forward_norm, gate_up, down }
    }
}

/// A decoder; its token table is the output layer, too.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Layers.
    pub layers: Vec<Layer>,
    /// After the last one.
    pub norm: RmsNorm,
    #[module(skip)]
    tokens: Packed,
    #[module(skip)]
    angles: RotaryTable,
    #[module(skip)]
    config: DecoderConfig,
}

linears!(Decoder { layers });

/// Keys and values of the tokens so far, of every layer.
#[derive(Debug)]
pub struct Cache {
    /// `[1, context, kv_heads · head]`, keys and values.
    layers: Vec<KeyValueCache>,
    tokens: usize,
}

impl Cache {
    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Forgets all but the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
    }
}

impl Decoder {
    /// A decoder of these parts.
    pub fn new(config: DecoderConfig, tokens: Packed, layers: Vec<Layer>, norm: RmsNorm, device: &Device) -> Self {
        let angles = RotaryTable::new(config.context, config.head(), config.rotary_base, device);
        Self { layers, norm, tokens, angles, config }
    }

    /// An empty cache.
    pub fn cache(&self, device: &Device) -> Cache {
        let shape = [1, self.config.context, self.config.kv_heads * self.config.head()];
        let empty = || [Tensor::zeros(shape, device), Tensor::zeros(shape, device)];
        Cache { layers: self.layers.iter().map(|_| empty()).collect(), tokens: 0 }
    }

    /// The logits of the token after `ids`, which follow on what the cache holds: `[vocabulary]`.
    ///
    /// # Errors
    /// Where an id is beyond the vocabulary, or the cache has no room for so many.
    pub fn forward(&self, ids: &[u32], cache: &mut Cache, device: &Device) -> Result<Tensor<1>, ModelError> {
        let (first, count) = (cache.tokens, ids.len());
        let failed = |reason: String| ModelError::Compute { stage: "decode", reason };
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocabulary) {
            return Err(failed(format!("token {id} is beyond the vocabulary of {}", self.config.vocabulary)));
        }
        if count == 0 || first + count > self.config.context {
            return Err(failed(format!("{count} tokens after {first} where {} are the most", self.config.context)));
        }
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::<1, Int>::from_data(ids.as_slice(), device);
        let mut x = embedding(ids, &self.tokens).unsqueeze::<3>(); // [1, count, d]
        // Moved out and in again: a tensor that only one owns is written in place.
        for (layer, past) in self.layers.iter().zip(std::mem::take(&mut cache.layers)) {
            let (y, past) = self.layer(layer, x, past, first);
            x = y;
            cache.layers.push(past);
        }
        cache.tokens += count;
        let last = x.narrow(1, count - 1, 1);
        let after = ocelli_ops::After { bias: None, activation: Activation::None, residual: None };
        Ok(ocelli_ops::linear(last, self.norm.before(), &self.tokens, after).reshape([self.config.vocabulary]))
    }

    /// One layer, and its keys and values with those of the tokens from `first` on.
    fn layer(&self, layer: &Layer, x: Tensor<3>, cache: KeyValueCache, first: usize) -> (Tensor<3>, KeyValueCache) {
        let DecoderConfig { heads, kv_heads, .. } = self.config;
        let qkv = layer.qkv.apply(x.clone(), layer.attention_norm.before(), Activation::None, None);
        let scale = (self.config.head() as f32).sqrt().recip();
        let options = AttentionOptions { heads, kv_heads, scale, causal: true, fast: layer.qkv.is_quantized() };
        let (joined, cache) = cached_attention(qkv, cache, Some(&self.angles), first, options, false);
        let x = layer.output.plus(joined, x);
        let gated = layer.gate_up.apply(x.clone(), layer.feed_forward_norm.before(), Activation::None, None);
        (layer.down.apply(gated, Before::SiluMul, Activation::None, Some(x)), cache)
    }
}
