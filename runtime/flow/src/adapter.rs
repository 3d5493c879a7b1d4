//! Small changes to a model's weights, which can be put on and taken off again.

use std::ops::Range;

/// A low-rank adapter (LoRA, Hu et al. 2021, <https://arxiv.org/abs/2106.09685>) of one model: its parts name tensors of that model's bundle.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Adapter {
    /// Its name, for people.
    pub name: String,
    /// What is added to which weight; several parts may be about one.
    pub parts: Vec<LowRank>,
}

/// What is added to some output channels of a linear layer: y += b a x.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// The layer's weight in the bundle.
    pub tensor: String,
    /// The output channels.
    pub outputs: Range<usize>,
    /// Rows of `a`.
    pub rank: usize,
    /// `[rank, in]`
    pub a: Vec<f32>,
    /// `[outputs, rank]`, scaled.
    pub b: Vec<f32>,
}

impl LowRank {
    /// Input channels.
    pub fn inputs(&self) -> usize {
        self.a.len().checked_div(self.rank).unwrap_or_default()
    }

    /// Whether the parts have the sizes that they say, and the layer `[inputs, outputs]` has room for them.
    pub fn fits(&self, inputs: usize, outputs: usize) -> bool {
        let sizes = self.rank.checked_mul(inputs) == Some(self.a.len()) && self.rank.checked_mul(self.outputs.len()) == Some(self.b.len());
        self.rank > 0 && sizes && self.outputs.start < self.outputs.end && self.outputs.end <= outputs
    }
}
