//! The captioner: what the backbone saw, and a point of the joint space, to one sentence.
//!
//! Two sources of memory tokens, of which either may be left out: 49 from the backbone's feature maps, and four from a joint image-text
//! vector. Vectors, of pictures and of texts alike, are first replaced by a mean of the nearest of a fixed set of text vectors
//! (DeCap, Li et al. 2023, <https://arxiv.org/abs/2303.03032>): so a decoder trained on the vectors of texts can read the vectors of pictures.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_flow::ModelError;
use ocelli_ops::{After, Before, Packed};
use serde::{Deserialize, Serialize};

use super::backbone::HEAD;
use crate::blocks::{DecoderLayer, DecoderState, EncoderLayer, KeyValue, LayerNorm, Linear, Mask};
use crate::linears;
use crate::text::generate::{BeamSettings, Hypothesis, Settings, Start, StepDecoder, beams};

/// Cells of the stride-32 maps, and so picture tokens.
const CELLS: usize = 49;
/// Side of the stride-32 maps.
const SIDE: usize = 7;
/// Channels of the stride-16 map.
const STRIDE16: usize = 112;

/// The tokens that mean something to the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Specials {
    /// Never generated.
    pub pad: u32,
    /// Before the first token; never generated.
    pub start: u32,
    /// Ends a sentence; never generated first.
    pub end: u32,
}

/// Shape of a [`Captioner`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptionerConfig {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the layers.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Longest sentence in tokens, start token included.
    pub max_tokens: usize,
    /// Dimension of the joint space.
    pub joint: usize,
    /// Memory tokens made from a vector.
    pub vector_tokens: usize,
    /// Text vectors that vectors are projected onto.
    pub support: usize,
    /// How many of them take part.
    pub nearest: usize,
    /// Temperature of their softmax.
    pub temperature: f32,
    /// Dropout on residual branches and input features while training.
    pub dropout: f64,
}

impl Default for CaptionerConfig {
    /// nano's.
    fn default() -> Self {
        Self {
            vocabulary: 4096,
            width: 256,
            heads: 4,
            hidden: 1024,
            layers: 3,
            max_tokens: 40,
            joint: 384,
            vector_tokens: 4,
            support: 1024,
            nearest: 24,
            temperature: 0.05,
            dropout: 0.15,
        }
    }
}

/// Encoder of picture tokens and decoder of words; the token table is also the output layer (Press and Wolf 2017,
/// <https://arxiv.org/abs/1608.05859>).
#[derive(Module, Debug)]
pub struct Captioner {
    /// `[1280, width]`
    pub head: Linear,
    /// `[448, width]`, of four neighbouring cells at once.
    pub stride16: Linear,
    /// `[49, width]`
    pub cells: Param<Tensor<2>>,
    /// Over the picture tokens before the encoder.
    pub picture_norm: LayerNorm,
    /// Over the picture tokens.
    pub encoder: EncoderLayer,
    /// `[joint, vector_tokens * width]`
    pub vector: Linear,
    /// `[vector_tokens, width]`
    pub vector_positions: Param<Tensor<2>>,
    /// Over all memory tokens.
    pub memory_norm: LayerNorm,
    /// `[support, joint]`, L2-normalised text vectors; not trained.
    pub support: Param<Tensor<2>>,
    /// `[vocabulary, width]`
    pub tokens: Param<Tensor<2>>,
    /// `[max_tokens, width]`
    pub positions: Param<Tensor<2>>,
    /// Pre-LN layers.
    pub layers: Vec<DecoderLayer>,
    /// After the last layer.
    pub norm: LayerNorm,
    /// `[vocabulary]`, added to the logits.
    pub bias: Param<Tensor<1>>,
    dropout: Dropout,
    #[module(skip)]
    table: Option<Packed>,
    nearest: usize,
    temperature: f32,
}

linears!(Captioner { head, stride16, encoder, vector, layers } tables { tokens => table });

impl Captioner {
    /// A captioner with random weights and an empty support.
    pub fn init(config: &CaptionerConfig, device: &Device) -> Self {
        let d = config.width;
        let norm = || LayerNorm::init(d, device);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let layer = |_| DecoderLayer::init(d, config.heads, config.hidden, config.dropout, device).with_relu();
        Self {
            head: Linear::init(HEAD, d, device),
            stride16: Linear::init(4 * STRIDE16, d, device),
            cells: small.init([CELLS, d], device),
            picture_norm: norm(),
            encoder: EncoderLayer::init(d, config.heads, config.hidden, config.dropout, device).with_relu(),
            vector: Linear::init(config.joint, config.vector_tokens * d, device),
            vector_positions: small.init([config.vector_tokens, d], device),
            memory_norm: norm(),
            support: Param::from_tensor(Tensor::zeros([config.support, config.joint], device)).set_require_grad(false),
            tokens: small.init([config.vocabulary, d], device),
            positions: small.init([config.max_tokens, d], device),
            layers: (0..config.layers).map(layer).collect(),
            norm: norm(),
            bias: Initializer::Zeros.init([config.vocabulary], device),
            dropout: DropoutConfig::new(config.dropout).init(),
            table: None,
            nearest: config.nearest,
            temperature: config.temperature,
        }
    }

    /// The same with other text vectors to project onto: `[support, joint]`, L2-normalised.
    pub fn with_support(self, support: Tensor<2>) -> Self {
        Self { support: Param::from_tensor(support).set_require_grad(false), ..self }
    }

    /// Memory tokens of pictures: `head [batch, 49, 1280]` and `stride16 [batch, 196, 112]` → `[batch, 49, width]`.
    pub fn picture_tokens(&self, head: Tensor<3>, stride16: Tensor<3>) -> Tensor<3> {
        let head = self.head.forward(self.dropout.forward(head));
        let stride16 = self.stride16.forward(self.dropout.forward(space_to_depth(stride16)));
        let x = head + stride16 + self.cells.val().unsqueeze::<3>();
        self.encoder.forward(self.picture_norm.forward(x), &Mask::Nothing)
    }

    /// Memory tokens of L2-normalised vectors of the joint space: `[batch, joint]` → `[batch, vector_tokens, width]`.
    pub fn vector_tokens(&self, vectors: Tensor<2>) -> Tensor<3> {
        let [batch, _] = vectors.dims();
        let [tokens, d] = self.vector_positions.dims();
        let x = self.vector.forward(self.nearest_texts(vectors)).reshape([batch, tokens, d]);
        x + self.vector_positions.val().unsqueeze::<3>()
    }

    /// Each vector as a mean of the support's nearest, weighted by softmax(similarity / temperature) and L2-normalised.
    pub fn nearest_texts(&self, vectors: Tensor<2>) -> Tensor<2> {
        let support = self.support.val().detach();
        let (device, [rows, count]) = (vectors.device(), [vectors.dims()[0], support.dims()[0]]);
        let mut weights: Vec<f32> = vectors.matmul(support.clone().transpose()).into_data().iter::<f32>().collect();
        for row in weights.chunks_mut(count.max(1)) {
            keep_nearest(row, self.nearest, self.temperature);
        }
        let mean = Tensor::<2>::from_data(TensorData::new(weights, [rows, count]), &device).matmul(support); // [batch, joint]
        let norm = mean.clone().powi_scalar(2).sum_dim(1).add_scalar(1e-12).sqrt();
        mean / norm
    }

    /// Keys and values of memory tokens `[batch, tokens, width]` for every decoder layer: once a picture.
    pub fn memory(&self, tokens: Tensor<3>) -> Vec<KeyValue> {
        let tokens = self.memory_norm.forward(tokens);
        self.layers.iter().map(|layer| layer.cross.key_value(tokens.clone())).collect()
    }

    /// The decoder over whole sentences: `ids [rows, tokens]` → `[rows, tokens, width]`, what the output layer reads.
    /// As many neighbouring rows share a row of the memory as it has fewer.
    pub fn decode(&self, ids: Tensor<2, Int>, memory: &[KeyValue]) -> Tensor<3> {
        let mut x = self.dropout.forward(self.embed(ids, 0));
        for (layer, memory) in self.layers.iter().zip(memory) {
            x = layer.forward(x, memory);
        }
        self.norm.forward(x)
    }

    /// The output layer: `[rows, width]` → `[rows, vocabulary]`
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let bias = self.bias.val();
        match &self.table {
            Some(table) => ocelli_ops::linear(x, Before::Nothing, table, After { bias: Some(bias), ..After::default() }),
            None => x.matmul(self.tokens.val().transpose()) + bias.unsqueeze::<2>(),
        }
    }

    /// Sentences for every row of `memory_tokens [batch, tokens, width]`, best first, each of which begins after token `start`; see [`beams`].
    pub fn captions(
        &self,
        memory_tokens: Tensor<3>,
        start: u32,
        settings: &Settings,
        search: &BeamSettings,
    ) -> Result<Vec<Vec<Hypothesis>>, ModelError> {
        let [pictures, ..] = memory_tokens.dims();
        let mut state = self.start(memory_tokens);
        let logits = self.step(&vec![start; pictures], &mut state)?;
        beams(self, Start { state: &mut state, logits, prompt: vec![start] }, pictures, settings, search, &mut ())
    }

    /// Most tokens that can be written after the start token.
    pub fn room(&self) -> usize {
        self.positions.dims()[0] - 1
    }

    /// The decoder's state before the first token.
    pub fn start(&self, memory_tokens: Tensor<3>) -> CaptionState {
        let state = |cross| DecoderState { cross, past: None };
        CaptionState { layers: self.memory(memory_tokens).into_iter().map(state).collect(), position: 0 }
    }

    /// Token vectors with those of their positions, the first of which is `position`.
    fn embed(&self, ids: Tensor<2, Int>, position: usize) -> Tensor<3> {
        let [rows, tokens] = ids.dims();
        let positions = self.positions.val().narrow(0, position, tokens);
        let vectors = match &self.table {
            Some(table) => ocelli_ops::embedding(ids.reshape([rows * tokens]), table).reshape([rows, tokens, table.k()]),
            None => embedding(self.tokens.val(), ids),
        };
        vectors + positions.unsqueeze::<3>()
    }
}

/// A decoder between two steps.
#[derive(Debug, Clone)]
pub struct CaptionState {
    layers: Vec<DecoderState>,
    position: usize,
}

impl StepDecoder for Captioner {
    type State = CaptionState;

    fn step(&self, tokens: &[u32], state: &mut CaptionState) -> Result<Vec<f32>, ModelError> {
        let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), &self.positions.device()).reshape([tokens.len(), 1]);
        let mut x = self.embed(ids, state.position); // [rows, 1, width]
        for (layer, state) in self.layers.iter().zip(&mut state.layers) {
            x = layer.step(x, state);
        }
        state.position += 1;
        let logits = self.logits(self.norm.forward(x).squeeze_dim(1));
        logits.into_data().try_into_vec().map_err(|error| ModelError::Compute { stage: "caption", reason: error.to_string() })
    }

    fn reorder(&self, state: &mut CaptionState, rows: &[usize]) {
        let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let rows = Tensor::<1, Int>::from_ints(rows.as_slice(), &self.positions.device());
        for layer in &mut state.layers {
            layer.past = layer.past.take().map(|past| past.select(rows.clone()));
        }
    }
}

/// Four neighbouring cells of the stride-16 map side by side: `[batch, 196, 112]` → `[batch, 49, 448]`
fn space_to_depth(x: Tensor<3>) -> Tensor<3> {
    let [batch, _, channels] = x.dims();
    let x = x.reshape([batch, SIDE, 2, SIDE, 2, channels]).permute([0, 1, 3, 2, 4, 5]);
    x.reshape([batch, CELLS, 4 * channels])
}

/// Similarities to weights: softmax over the `nearest` largest, nothing for the rest.
fn keep_nearest(row: &mut [f32], nearest: usize, temperature: f32) {
    let mut sorted = row.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let Some(&largest) = sorted.first() else { return };
    let least = sorted[nearest.clamp(1, sorted.len()) - 1];
    row.iter_mut().for_each(|x| *x = if *x >= least { ((*x - largest) / temperature).exp() } else { 0.0 });
    let total: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= total);
}

#[cfg(test)]
#[path = "caption_tests.rs"]
mod tests;
