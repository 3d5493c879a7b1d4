//! Transformers over tokens that may look at a memory: the decoders of GPT-2, TrOCR and BLIP, and BLIP's text encoder.
//!
//! ```text
//! x = token · scale + position        embedded, normed where the model has a norm there
//! x = layer(x, memory)                for every layer, then the last norm where there is one
//! logits = E · transform(x) + bias    E is the table of tokens, or a matrix of its own
//! ```

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_flow::ModelError;
use ocelli_ops::{Activation, After, Before, Packed};
use serde::{Deserialize, Serialize};

use super::generate::StepDecoder;
use crate::blocks::vision_config::check_layers;
use crate::blocks::{
    DecoderCache, KeyValue, LayerNorm, Linear, NormPlace, TextLayer, TextLayerConfig, activation, check_sizes, token_vectors,
};
use crate::linears;

/// Where a token's place comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A table.
    Learned,
    /// Sines and cosines, the first place standing for this number (Vaswani et al. 2017, section 3.5; in the order of tensor2tensor).
    Sines(usize),
}

/// What makes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogitHead {
    /// Whether the matrix is the table of tokens (Press and Wolf 2017, <https://arxiv.org/abs/1608.05859>).
    pub shared: bool,
    /// Whether logits have a bias.
    pub bias: bool,
    /// Whether a linear layer, the activation and a norm come first (BERT).
    pub transform: bool,
}

/// Shape of a [`TextTransformer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextTransformerConfig {
    /// Rows of the token table.
    pub vocabulary: usize,
    /// Width of the layers.
    pub width: usize,
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Of the feed-forward networks, and of the head's transform.
    #[serde(with = "activation")]
    pub activation: Activation,
    /// ε of the norms.
    pub epsilon: f64,
    /// Where the layers' norms stand.
    pub norms: NormPlace,
    /// Width of the memory.
    pub memory: usize,
    /// Where a token's place comes from.
    pub positions: Positions,
    /// Whether tokens are multiplied by the root of the width.
    pub scaled: bool,
    /// Whether embedded tokens are normed.
    pub embedding_norm: bool,
    /// Whether there is a norm after the last layer.
    pub last_norm: bool,
    /// What makes logits; `None`: an encoder.
    pub head: Option<LogitHead>,
}

impl TextTransformerConfig {
    /// Whether the sizes can be true: a configuration asks for memory before a tensor proves it.
    ///
    /// # Errors
    /// Says which is not.
    pub fn check(&self) -> Result<(), String> {
        check_layers([self.width, self.layers, self.heads, self.hidden])?;
        check_sizes(&[("vocabulary", self.vocabulary), ("memory", self.memory)])?;
        if !(2..=1 << 16).contains(&self.max_tokens) {
            return Err(format!("texts have at most {} tokens, not within 2 to {}", self.max_tokens, 1 << 16));
        }
        match self.positions {
            Positions::Sines(first) if self.width < 4 || first > self.max_tokens => {
                Err(format!("a width of {} leaves no sines for place {first}", self.width))
            }
            // No tensor proves these.
            Positions::Sines(_) if self.max_tokens * self.width > 1 << 24 => {
                Err(format!("{} places of {} numbers are more than any model has", self.max_tokens, self.width))
            }
            _ => Ok(()),
        }
    }

    fn layer(&self) -> TextLayerConfig {
        TextLayerConfig {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
            activation: self.activation,
            epsilon: self.epsilon,
            norms: self.norms,
            memory: Some(self.memory),
        }
    }
}

/// What comes before the logits' matrix in BERT.
#[derive(Module, Debug)]
pub struct HeadTransform {
    /// `[d, d]`
    pub dense: Linear,
    /// After the activation.
    pub norm: LayerNorm,
}

linears!(HeadTransform { dense });

/// A transformer over tokens.
#[derive(Module, Debug)]
pub struct TextTransformer {
    /// `[vocabulary, d]`
    pub tokens: Param<Tensor<2>>,
    /// `[max_tokens, d]`, where they are learned.
    pub positions: Option<Param<Tensor<2>>>,
    /// Over embedded tokens.
    pub embedding_norm: Option<LayerNorm>,
    /// Layers.
    pub layers: Vec<TextLayer>,
    /// After the last layer.
    pub norm: Option<LayerNorm>,
    /// Before the logits' matrix.
    pub transform: Option<HeadTransform>,
    /// `[d, vocabulary]`, where it is not the table of tokens.
    pub head: Option<Linear>,
    /// `[vocabulary]`, added to the logits where the matrix is the table of tokens.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    sines: Option<Tensor<2>>,
    #[module(skip)]
    table: Option<Packed>,
    #[module(skip)]
    activation: Activation,
    max_tokens: usize,
    scale: f64,
}

linears!(TextTransformer { layers, transform, head } tables { tokens => table });

impl TextTransformer {
    /// A transformer with random weights.
    pub fn init(config: &TextTransformerConfig, device: &Device) -> Self {
        let d = config.width;
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let norm = |there: bool| there.then(|| LayerNorm::init_with(d, config.epsilon, device));
        let head = config.head;
        let transform = || HeadTransform { dense: Linear::init(d, d, device), norm: LayerNorm::init_with(d, config.epsilon, device) };
        let own = |head: LogitHead| Linear::init_as(d, config.vocabulary, head.bias, device);
        let (positions, sines) = match config.positions {
            Positions::Learned => (Some(small.init([config.max_tokens, d], device)), None),
            Positions::Sines(first) => {
                let data = TensorData::new(sines(first, config.max_tokens, d), [config.max_tokens, d]);
                (None, Some(Tensor::from_data(data, device)))
            }
        };
        Self {
            tokens: small.init([config.vocabulary, d], device),
            positions,
            embedding_norm: norm(config.embedding_norm),
            layers: (0..config.layers).map(|_| TextLayer::init(&config.layer(), device)).collect(),
            norm: norm(config.last_norm),
            transform: head.filter(|head| head.transform).map(|_| transform()),
            head: head.filter(|head| !head.shared).map(own),
            bias: head.filter(|head| head.shared && head.bias).map(|_| Initializer::Zeros.init([config.vocabulary], device)),
            sines,
            table: None,
            activation: config.activation,
            max_tokens: config.max_tokens,
            scale: if config.scaled { (d as f64).sqrt() } else { 1.0 },
        }
    }

    /// Longest text in tokens.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Keys and values of a memory `[1, tokens, memory]` for every layer, once for all texts.
    pub fn memory(&self, tokens: &Tensor<3>) -> Vec<Option<KeyValue>> {
        self.layers.iter().map(|layer| layer.memory(tokens.clone())).collect()
    }

    /// Every token of one text sees every other and the memory, if there is one: → `[1, tokens, d]`. There must be a place for every token.
    pub fn encode(&self, ids: &[u32], memory: &[Option<KeyValue>]) -> Tensor<3> {
        let mut x = self.embed(ids, 1, 0);
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.encode(x, None, memory.get(i).and_then(Option::as_ref));
        }
        self.last(x)
    }

    /// What a text of at most `context` tokens is written in, about a memory.
    pub fn cache(&self, memory: Vec<Option<KeyValue>>, context: usize) -> DecoderCache {
        let [_, d] = self.tokens.lazy_shape().dims();
        DecoderCache::new(self.layers.len(), 1, context, d, memory, &self.device())
    }

    /// The next tokens of `rows` texts, `ids` row by row, each of which sees those before it: → `[rows, tokens, d]`.
    pub fn decode(&self, ids: &[u32], rows: usize, cache: &mut DecoderCache) -> Tensor<3> {
        let x = self.embed(ids, rows, cache.tokens());
        let x = cache.advance(x, |i, x, past, first, memory| self.layers[i].decode(x, past, first, memory));
        self.last(x)
    }

    /// `[rows, d]` → `[rows, vocabulary]`
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match &self.transform {
            Some(transform) => transform.norm.forward(transform.dense.then(x, self.activation)),
            None => x,
        };
        if let Some(head) = &self.head {
            return head.forward(x);
        }
        let bias = self.bias.as_ref().map(Param::val);
        match (&self.table, bias) {
            (Some(table), bias) => ocelli_ops::linear(x, Before::Nothing, table, After { bias, ..After::default() }),
            (None, None) => x.matmul(self.tokens.val().transpose()),
            (None, Some(bias)) => x.matmul(self.tokens.val().transpose()) + bias.unsqueeze::<2>(),
        }
    }

    /// Reads a prompt about a memory, with room for `more` tokens after it: what it is written in, and the logits of the next token.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn start(&self, memory: &Tensor<3>, prompt: &[u32], more: usize) -> Result<(DecoderCache, Vec<f32>), ModelError> {
        let mut state = self.cache(self.memory(memory), prompt.len() + more);
        let read = self.decode(prompt, 1, &mut state);
        let [_, tokens, d] = read.dims();
        let logits = floats(self.logits(read.narrow(1, tokens - 1, 1).reshape([1, d])))?;
        Ok((state, logits))
    }

    /// Token vectors with their places, the first of which is `first`: `ids` row by row → `[rows, tokens, d]`.
    fn embed(&self, ids: &[u32], rows: usize, first: usize) -> Tensor<3> {
        let tokens = ids.len() / rows;
        let mut x = token_vectors(self.table.as_ref(), &self.tokens, ids, &self.device());
        if self.scale != 1.0 {
            x = x.mul_scalar(self.scale);
        }
        let [_, d] = x.dims();
        let places = self.positions.as_ref().map(Param::val).or_else(|| self.sines.clone());
        let mut x = x.reshape([rows, tokens, d]);
        if let Some(places) = places {
            x = x + places.narrow(0, first, tokens).unsqueeze::<3>();
        }
        match &self.embedding_norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    fn last(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    fn device(&self) -> Device {
        self.layers.first().map_or_else(|| self.tokens.device(), |layer| layer.attention_norm.gamma.device())
    }
}

impl StepDecoder for TextTransformer {
    type State = DecoderCache;

    fn step(&self, tokens: &[u32], state: &mut DecoderCache) -> Result<Vec<f32>, ModelError> {
        let x = self.decode(tokens, tokens.len(), state);
        floats(self.logits(x.squeeze_dim(1)))
    }

    fn reorder(&self, state: &mut DecoderCache, rows: &[usize]) {
        state.reorder(rows);
    }
}

fn floats(logits: Tensor<2>) -> Result<Vec<f32>, ModelError> {
    logits.into_data().try_into_vec().map_err(|error| ModelError::Compute { stage: "decode", reason: error.to_string() })
}

/// `[count, d]`: sines of the places from `first` on, then their cosines, at d / 2 wavelengths from 2 π to 20 000 π.
fn sines(first: usize, count: usize, d: usize) -> Vec<f32> {
    let half = d / 2;
    let step = -((10_000f64).ln() / (half - 1) as f64) as f32;
    let mut rows = vec![0.0; count * d];
    for (place, row) in rows.chunks_exact_mut(d).enumerate() {
        for i in 0..half {
            let angle = (first + place) as f32 * (i as f32 * step).exp();
            (row[i], row[half + i]) = (angle.sin(), angle.cos());
        }
    }
    rows
}
