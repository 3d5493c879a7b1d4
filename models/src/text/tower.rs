//! A small text tower: token ids to a point of the joint space.
//!
//! The embedding table is factored (a narrow table and a projection, as in ALBERT, Lan et al. 2019,
//! <https://arxiv.org/abs/1909.11942>, section 3.1); the tokens' mean after the last norm is projected to the joint space.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Bool, Device, Int, Tensor};
use ocelli_ops::Packed;
use serde::{Deserialize, Serialize};

use crate::blocks::{EncoderLayer, LayerNorm, Linear, Mask, padding};
use crate::linears;

/// Shape of a [`TextTower`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextTowerConfig {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the token table.
    pub factor: usize,
    /// Width of the layers.
    pub width: usize,
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Number of layers.
    pub layers: usize,
    /// Longest text in tokens; what comes after is cut off.
    pub max_tokens: usize,
    /// Dimension of the joint space.
    pub joint: usize,
    /// Dropout on the residual branches while training.
    pub dropout: f64,
}

impl Default for TextTowerConfig {
    /// nano's.
    fn default() -> Self {
        Self { vocabulary: 4096, factor: 128, width: 256, hidden: 512, heads: 4, layers: 2, max_tokens: 48, joint: 384, dropout: 0.0 }
    }
}

/// Transformer encoder over tokens with mean pooling.
#[derive(Module, Debug)]
pub struct TextTower {
    /// `[vocabulary, factor]`
    pub tokens: Embedding,
    /// `[factor, width]`
    pub widen: Linear,
    /// `[max_tokens, width]`
    pub positions: Param<Tensor<2>>,
    /// Pre-LN layers.
    pub layers: Vec<EncoderLayer>,
    /// After the last layer.
    pub norm: LayerNorm,
    /// `[width, joint]`
    pub joint: Linear,
    #[module(skip)]
    table: Option<Packed>,
}

linears!(TextTower { widen, layers, joint } tables { tokens.weight => table });

impl TextTower {
    /// A tower with random weights.
    pub fn init(config: &TextTowerConfig, device: &Device) -> Self {
        let layer = |_| EncoderLayer::init(config.width, config.heads, config.hidden, config.dropout, device);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self {
            tokens: EmbeddingConfig::new(config.vocabulary, config.factor).with_initializer(small.clone()).init(device),
            widen: Linear::init(config.factor, config.width, device),
            positions: small.init([config.max_tokens, config.width], device),
            layers: (0..config.layers).map(layer).collect(),
            norm: LayerNorm::init(config.width, device),
            joint: Linear::init(config.width, config.joint, device),
            table: None,
        }
    }

    /// Embeds texts: `ids [batch, tokens]`, padded after `lengths[i]` tokens → `[batch, joint]`, not normalised.
    pub fn forward(&self, ids: Tensor<2, Int>, lengths: &[usize]) -> Tensor<2> {
        let [texts, tokens] = ids.dims();
        let device = ids.device();
        let [_, width] = self.positions.dims();
        let hidden = padding(lengths, tokens, &device);
        let mask = Mask::Padding(hidden.clone());
        let positions = self.positions.val().slice([0..tokens, 0..width]).unsqueeze::<3>();
        let vectors = match &self.table {
            Some(table) => ocelli_ops::embedding(ids.reshape([texts * tokens]), table).reshape([texts, tokens, table.k()]),
            None => self.tokens.forward(ids),
        };
        let mut x = self.widen.forward(vectors) + positions; // [batch, tokens, width]
        for layer in &self.layers {
            x = layer.forward(x, &mask);
        }
        let x = self.norm.forward(x);
        self.joint.forward(mean_of_tokens(x, hidden, lengths))
    }
}

/// Mean over the tokens that are not padding: `[batch, tokens, width]` → `[batch, width]`.
fn mean_of_tokens(x: Tensor<3>, padding: Tensor<2, Bool>, lengths: &[usize]) -> Tensor<2> {
    let [batch, _, width] = x.dims();
    let shape = x.dims();
    let sum = x.mask_fill(padding.unsqueeze_dim::<3>(2).expand(shape), 0.0).sum_dim(1).reshape([batch, width]);
    let counts: Vec<f32> = lengths.iter().map(|&n| n.max(1) as f32).collect();
    let device = sum.device();
    sum / Tensor::<1>::from_floats(counts.as_slice(), &device).unsqueeze_dim::<2>(1)
}

/// Token ids of several texts as one padded batch: `[texts, longest]` and the lengths. Texts are cut at `max_tokens`.
pub fn pad_batch(texts: &[Vec<u32>], pad: u32, max_tokens: usize, device: &Device) -> (Tensor<2, Int>, Vec<usize>) {
    let lengths: Vec<usize> = texts.iter().map(|ids| ids.len().min(max_tokens)).collect();
    let longest = lengths.iter().copied().max().unwrap_or(1).max(1);
    let mut ids = vec![pad as i32; texts.len() * longest];
    for ((row, text), &length) in ids.chunks_mut(longest).zip(texts).zip(&lengths) {
        for (slot, &id) in row.iter_mut().zip(&text[..length]) {
            *slot = id as i32;
        }
    }
    let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), device).reshape([texts.len(), longest]);
    (ids, lengths)
}
