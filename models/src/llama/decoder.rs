//! Token ids, or vectors in their place, to logits, with a cache of keys and values.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, module};
use ocelli_flow::ModelError;
use ocelli_ops::{Activation, After, Angles, AttentionOptions, Before, KeyValueCache, Packed, Rotary, cached_attention};

use super::config::DecoderConfig;
use crate::blocks::{DecoderCache, Linear, RmsNorm, in_pieces, token_vectors};
use crate::linears;
use crate::text::generate::StepDecoder;

/// A layer: grouped-query attention and a gated feed-forward network.
#[derive(Module, Debug)]
pub struct Layer {
    /// Before the attention.
    pub attention_norm: RmsNorm,
    /// `[d, (heads + 2 kv_heads) · head]`: queries, keys and values side by side.
    pub qkv: Linear,
    /// `[heads · head, d]`
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
    fn init(config: &DecoderConfig, device: &Device) -> Self {
        let (d, q, kv) = (config.width, config.q_width(), config.kv_width());
        let norm = || RmsNorm::init(d, config.epsilon, device);
        let linear = |input, output| Linear::init_as(input, output, false, device);
        Self {
            attention_norm: norm(),
            qkv: linear(d, q + 2 * kv),
            output: linear(q, d),
            feed_forward_norm: norm(),
            gate_up: linear(d, 2 * config.hidden),
            down: linear(config.hidden, d),
        }
    }
}

/// A decoder.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocabulary, d]`; the output layer, too, where there is no other.
    pub tokens: Param<Tensor<2>>,
    /// Layers.
    pub layers: Vec<Layer>,
    /// After the last one.
    pub norm: RmsNorm,
    /// `[d, vocabulary]`
    pub head: Option<Linear>,
    #[module(skip)]
    table: Option<Packed>,
    #[module(skip)]
    rotary: Rotary,
    #[module(skip)]
    config: DecoderConfig,
}

linears!(Decoder { layers, head } tables { tokens => table });

impl Decoder {
    /// A decoder with random weights.
    pub fn init(config: &DecoderConfig, device: &Device) -> Self {
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self {
            tokens: small.init([config.vocabulary, config.width], device),
            layers: (0..config.layers).map(|_| Layer::init(config, device)).collect(),
            norm: RmsNorm::init(config.width, config.epsilon, device),
            head: (!config.tied).then(|| Linear::init_as(config.width, config.vocabulary, false, device)),
            table: None,
            rotary: Rotary::new(config.head, config.rotary_base),
            config: config.clone(),
        }
    }

    /// Its shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// An empty cache for `rows` sequences of at most `context` tokens.
    pub fn cache(&self, rows: usize, context: usize, device: &Device) -> DecoderCache {
        DecoderCache::new(self.layers.len(), rows, context, self.config.kv_width(), Vec::new(), device).reserved()
    }

    /// The vectors of tokens: `[1, ids, d]`.
    ///
    /// # Errors
    /// Where an id is beyond the vocabulary.
    pub fn embed(&self, ids: &[u32], device: &Device) -> Result<Tensor<3>, ModelError> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocabulary) {
            return Err(failed(format!("token {id} is beyond the vocabulary of {}", self.config.vocabulary)));
        }
        Ok(token_vectors(self.table.as_ref(), &self.tokens, ids, device).unsqueeze::<3>())
    }

    /// The layers: vectors `[rows, tokens, d]`, which follow what the cache holds, to the same before the last norm.
    ///
    /// # Errors
    /// Where the cache has no room for so many.
    pub fn forward(&self, x: Tensor<3>, cache: &mut DecoderCache) -> Result<Tensor<3>, ModelError> {
        let (first, count, most) = (cache.tokens(), x.dims()[1], cache.context().min(self.config.context));
        if count == 0 || first + count > most {
            return Err(failed(format!("{count} tokens after {first} where {most} are the most")));
        }
        let angles = self.rotary.angles(first, count, &x.device());
        Ok(cache.advance(x, |i, x, past, first, _| self.layer(&self.layers[i], x, past, first, &angles)))
    }

    /// The output layer over `[rows, tokens, d]`: `[rows, tokens, vocabulary]`.
    pub fn logits(&self, x: Tensor<3>) -> Tensor<3> {
        match (&self.head, &self.table) {
            (Some(head), _) => head.apply(x, self.norm.before(), Activation::None, None),
            (None, Some(table)) => ocelli_ops::linear(x, self.norm.before(), table, After::default()),
            (None, None) => module::linear(self.norm.forward(x), self.tokens.val().transpose(), None),
        }
    }

    /// The logits of the token after each row's last.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn last_logits(&self, x: Tensor<3>) -> Result<Vec<f32>, ModelError> {
        let count = x.dims()[1];
        let logits = self.logits(x.narrow(1, count - 1, 1));
        logits.into_data().try_into_vec().map_err(|error| failed(error.to_string()))
    }

    /// Reads tokens, which follow on what the cache holds: the logits of the next.
    ///
    /// # Errors
    /// Where an id is beyond the vocabulary, or the cache has no room for so many.
    pub fn read(&self, ids: &[u32], cache: &mut DecoderCache, device: &Device) -> Result<Vec<f32>, ModelError> {
        let x = self.forward(self.embed(ids, device)?, cache)?;
        self.last_logits(x)
    }

    /// One layer, and its keys and values with those of the tokens from `first` on.
    fn layer(&self, layer: &Layer, x: Tensor<3>, cache: KeyValueCache, first: usize, angles: &Angles) -> (Tensor<3>, KeyValueCache) {
        let DecoderConfig { heads, kv_heads, .. } = self.config;
        let qkv = layer.qkv.apply(x.clone(), layer.attention_norm.before(), Activation::None, None);
        let scale = (self.config.head as f32).sqrt().recip();
        let options = AttentionOptions { heads, kv_heads, scale, causal: true, fast: false };
        let (joined, cache) = cached_attention(qkv, cache, Some(angles), first, options, false);
        let x = layer.output.plus(joined, x);
        let x = in_pieces(x, 2 * self.config.hidden, |x| {
            let gated = layer.gate_up.apply(x.clone(), layer.feed_forward_norm.before(), Activation::None, None);
            layer.down.apply(gated, Before::SiluMul, Activation::None, Some(x))
        });
        (x, cache)
    }
}

impl StepDecoder for Decoder {
    type State = DecoderCache;

    fn step(&self, tokens: &[u32], state: &mut DecoderCache) -> Result<Vec<f32>, ModelError> {
        let device = self.norm.gamma.device();
        let x = self.embed(tokens, &device)?.swap_dims(0, 1); // [rows, 1, d]
        let x = self.forward(x, state)?;
        self.last_logits(x)
    }

    fn reorder(&self, state: &mut DecoderCache, rows: &[usize]) {
        state.reorder(rows);
    }
}

fn failed(reason: String) -> ModelError {
    ModelError::Compute { stage: "decode", reason }
}
