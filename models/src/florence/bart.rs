//! BART (Lewis et al. 2020, <https://arxiv.org/abs/1910.13461>): an encoder that reads a picture's tokens and a prompt, and a decoder that writes.
//! As in transformers' `modeling_bart.py` at 5.23.
//!
//! ```text
//! x = norm(tokens + positions), then layers with norms after each sum          logits = x tokensᵀ
//! ```

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use ocelli_flow::ModelError;
use ocelli_ops::{After, Before, Packed};

use super::config::{BartConfig, LayersConfig};
use crate::blocks::{DecoderCache, LayerNorm, NormPlace, TextLayer, TextLayerConfig, token_vectors};
use crate::linears;
use crate::text::generate::StepDecoder;

/// The first positions of BART's tables belong to no token.
const OFFSET: usize = 2;

/// Encoder and decoder over one table of tokens.
#[derive(Module, Debug)]
pub struct Bart {
    /// `[vocabulary, d]`, the output layer, too.
    pub tokens: Param<Tensor<2>>,
    /// What reads.
    pub encoder: Layers,
    /// What writes.
    pub decoder: Layers,
    scale: Option<f32>,
    max_tokens: usize,
    #[module(skip)]
    table: Option<Packed>,
}

linears!(Bart { encoder, decoder } tables { tokens => table });

/// Positions and layers.
#[derive(Module, Debug)]
pub struct Layers {
    /// `[2 + max_tokens, d]`
    pub positions: Param<Tensor<2>>,
    /// Of what goes into the first layer.
    pub norm: LayerNorm,
    /// Layers.
    pub layers: Vec<TextLayer>,
}

linears!(Layers { layers });

impl Layers {
    fn init(config: &BartConfig, layers: &LayersConfig, memory: Option<usize>, device: &Device) -> Self {
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let LayersConfig { heads, hidden, .. } = *layers;
        let (width, activation) = (config.width, config.activation);
        let layer = TextLayerConfig { width, heads, hidden, activation, epsilon: 1e-5, norms: NormPlace::After, memory };
        Self {
            positions: small.init([OFFSET + config.max_tokens, width], device),
            norm: LayerNorm::init(width, device),
            layers: (0..layers.layers).map(|_| TextLayer::init(&layer, device)).collect(),
        }
    }

    /// What goes into the first layer: token vectors `[rows, tokens, d]`, the first of which stands at place `first`.
    fn enter(&self, vectors: Tensor<3>, first: usize) -> Tensor<3> {
        let [_, tokens, _] = vectors.dims();
        let positions = self.positions.val().narrow(0, OFFSET + first, tokens);
        self.norm.forward(vectors + positions.unsqueeze::<3>())
    }
}

impl Bart {
    /// With random weights.
    pub fn init(config: &BartConfig, device: &Device) -> Self {
        let d = config.width;
        Self {
            tokens: Initializer::Normal { mean: 0.0, std: 0.02 }.init([config.vocabulary, d], device),
            encoder: Layers::init(config, &config.encoder, None, device),
            decoder: Layers::init(config, &config.decoder, Some(d), device),
            scale: config.scaled.then(|| (d as f32).sqrt()),
            max_tokens: config.max_tokens,
            table: None,
        }
    }

    /// Most tokens that the encoder reads, and that the decoder writes, its start token included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Token vectors: `[tokens, d]`.
    pub fn embed(&self, ids: &[u32]) -> Tensor<2> {
        let vectors = token_vectors(self.table.as_ref(), &self.tokens, ids, &self.decoder.positions.device());
        match self.scale {
            Some(scale) => vectors.mul_scalar(scale),
            None => vectors,
        }
    }

    /// Vectors `[1, tokens, d]` of at most [`Bart::max_tokens`] → what the decoder attends to.
    pub fn encode(&self, vectors: Tensor<3>) -> Tensor<3> {
        let mut x = self.encoder.enter(vectors, 0);
        for layer in &self.encoder.layers {
            x = layer.encode(x, None, None);
        }
        x
    }

    /// The decoder's cache before its first token, with room for `context`; `memory [1, tokens, d]` is what [`Bart::encode`] gave.
    pub fn cache(&self, memory: &Tensor<3>, context: usize) -> DecoderCache {
        let layers = &self.decoder.layers;
        let memories = layers.iter().map(|layer| layer.memory(memory.clone())).collect();
        DecoderCache::new(layers.len(), 1, context, memory.dims()[2], memories, &memory.device())
    }

    /// `ids [rows][tokens]` after what the cache holds → what the output layer reads, `[rows, tokens, d]`.
    pub fn decode(&self, ids: &[u32], rows: usize, cache: &mut DecoderCache) -> Tensor<3> {
        let vectors = self.embed(ids);
        let [count, d] = vectors.dims();
        let x = self.decoder.enter(vectors.reshape([rows, count / rows, d]), cache.tokens());
        cache.advance(x, |i, x, past, first, memory| self.decoder.layers[i].decode(x, past, first, memory))
    }

    /// The output layer: `[rows, tokens, d]` → `[rows, tokens, vocabulary]`
    pub fn logits(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.table {
            Some(table) => ocelli_ops::linear(x, Before::Nothing, table, After::default()),
            None => x.matmul(self.tokens.val().transpose().unsqueeze::<3>()),
        }
    }
}

impl StepDecoder for Bart {
    type State = DecoderCache;

    fn step(&self, tokens: &[u32], state: &mut DecoderCache) -> Result<Vec<f32>, ModelError> {
        let logits = self.logits(self.decode(tokens, tokens.len(), state));
        logits.into_data().try_into_vec().map_err(|error| ModelError::Compute { stage: "decode", reason: error.to_string() })
    }

    fn reorder(&self, state: &mut DecoderCache, rows: &[usize]) {
        state.reorder(rows);
    }
}
