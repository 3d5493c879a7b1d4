//! The text towers of CLIP, SigLIP and OWL-ViT: prompts to points of the joint space.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_ops::{Activation, Packed};
use serde::{Deserialize, Serialize};

use super::prompt::Prompt;
use crate::blocks::vision_config::check_layers;
use crate::blocks::{LayerNorm, Linear, ViTLayer, activation, check_sizes};
use crate::linears;

/// Which token stands for the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The first of the largest ids: the end of the text where it is the last of the vocabulary (OpenAI's CLIP, OWL-ViT).
    LargestId,
    /// The first of this id (`eos_token_id`); the first token where there is none.
    First(u32),
    /// The last token, padding or not (SigLIP).
    Last,
}

/// Shape of a [`TextEncoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
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
    /// Of the feed-forward networks.
    #[serde(with = "activation")]
    pub activation: Activation,
    /// ε of the norms.
    pub epsilon: f64,
    /// Whether a token sees those before it only.
    pub causal: bool,
    /// Which token stands for the text.
    pub pooling: Pooling,
    /// Whether texts are padded to `max_tokens`.
    pub padded: bool,
    /// Whether no token sees padding.
    pub padding_hidden: bool,
    /// Dimension of the joint space.
    pub joint: usize,
    /// Whether the projection to it has a bias.
    pub joint_bias: bool,
}

impl TextConfig {
    /// Whether the sizes can be true: a configuration asks for memory before a tensor proves it.
    ///
    /// # Errors
    /// Says which is not.
    pub fn check(&self) -> Result<(), String> {
        check_layers([self.width, self.layers, self.heads, self.hidden])?;
        check_sizes(&[("vocabulary", self.vocabulary), ("joint", self.joint)])?;
        // Two tokens mark the beginning and the end.
        if !(3..=4096).contains(&self.max_tokens) {
            return Err(format!("max_tokens is {}, not within 3 to 4096", self.max_tokens));
        }
        Ok(())
    }
}

/// A transformer over tokens, of which one is normed and projected.
#[derive(Module, Debug)]
pub struct TextEncoder {
    /// `[vocabulary, d]`
    pub tokens: Embedding,
    /// `[max_tokens, d]`
    pub positions: Param<Tensor<2>>,
    /// Layers.
    pub layers: Vec<ViTLayer>,
    /// After the last layer.
    pub norm: LayerNorm,
    /// `[d, joint]`
    pub projection: Linear,
    causal: bool,
    padding_hidden: bool,
    #[module(skip)]
    pooling: Pooling,
    #[module(skip)]
    table: Option<Packed>,
}

linears!(TextEncoder { layers, projection } tables { tokens.weight => table });

impl TextEncoder {
    /// An encoder with random weights.
    pub fn init(config: &TextConfig, device: &Device) -> Self {
        let d = config.width;
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let layer = |_| ViTLayer::init(d, config.hidden, config.heads, config.activation, config.epsilon, device);
        Self {
            tokens: EmbeddingConfig::new(config.vocabulary, d).with_initializer(small.clone()).init(device),
            positions: small.init([config.max_tokens, d], device),
            layers: (0..config.layers).map(layer).collect(),
            norm: LayerNorm::init_with(d, config.epsilon, device),
            projection: Linear::init_as(d, config.joint, config.joint_bias, device),
            causal: config.causal,
            padding_hidden: config.padding_hidden,
            pooling: config.pooling,
            table: None,
        }
    }

    /// Prompts, none longer than the positions → `[prompts, joint]`, not normalised.
    ///
    /// Shorter prompts are filled up behind their end: in a causal encoder no token that counts sees that. In one that is not, the
    /// tokenizer pads them all to one length.
    pub fn forward(&self, prompts: &[Prompt]) -> Tensor<2> {
        let device = self.positions.device();
        let batch = prompts.len();
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(1);
        let mut ids = vec![0; batch * longest];
        let mut hidden = vec![f32::NEG_INFINITY; batch * longest];
        let mut ends = Vec::with_capacity(batch);
        for (i, prompt) in prompts.iter().enumerate() {
            for (j, (&id, &attended)) in prompt.ids.iter().zip(&prompt.attended).enumerate() {
                ids[i * longest + j] = id as i32;
                hidden[i * longest + j] = if attended || !self.padding_hidden { 0.0 } else { f32::NEG_INFINITY };
            }
            ends.push((i * longest + self.pooling.place(&prompt.ids)) as i32);
        }
        let masked = !self.causal && hidden.iter().any(|&added| added != 0.0);
        let mask = masked.then(|| Tensor::from_data(TensorData::new(hidden, [batch, longest]), &device));

        let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), &device);
        let vectors = match &self.table {
            Some(table) => ocelli_ops::embedding(ids, table),
            None => self.tokens.forward(ids.unsqueeze::<2>()).squeeze_dim::<2>(0),
        };
        let [_, d] = vectors.dims();
        let positions = self.positions.val().narrow(0, 0, longest).unsqueeze::<3>();
        let mut x = vectors.reshape([batch, longest, d]) + positions;
        for layer in &self.layers {
            x = layer.forward_masked(x, mask.clone(), self.causal);
        }
        let ends = Tensor::<1, Int>::from_ints(ends.as_slice(), &device);
        let pooled = x.reshape([batch * longest, d]).select(0, ends);
        self.projection.normed(&self.norm, pooled)
    }
}

impl Pooling {
    /// Index of the token that stands for the text.
    fn place(self, ids: &[u32]) -> usize {
        match self {
            Self::Last => ids.len().saturating_sub(1),
            Self::First(end) => ids.iter().position(|&id| id == end).unwrap_or(0),
            Self::LargestId => {
                let largest = ids.iter().max();
                ids.iter().position(|id| Some(id) == largest).unwrap_or(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_that_stands_for_the_text() {
        let ids = [7, 3, 9, 9, 2];
        assert_eq!(Pooling::LargestId.place(&ids), 2);
        assert_eq!(Pooling::First(3).place(&ids), 1);
        assert_eq!(Pooling::First(8).place(&ids), 0);
        assert_eq!(Pooling::Last.place(&ids), 4);
    }
}
