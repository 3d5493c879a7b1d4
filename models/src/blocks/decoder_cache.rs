//! What a decoder keeps between steps.

use burn::tensor::{Device, Tensor};
use ocelli_ops::{KeyValueCache, reorder_rows};

use super::KeyValue;

/// Keys and values of the tokens so far, of every layer, in memory that is allocated once; and those of a memory that was read once.
#[derive(Debug)]
pub struct DecoderCache {
    layers: Vec<KeyValueCache>,
    memory: Vec<Option<KeyValue>>,
    tokens: usize,
    context: usize,
}

impl DecoderCache {
    /// An empty one: `rows` sequences of at most `context` tokens, with keys of `width` in every layer. `memory` has an entry a layer, or none.
    pub fn new(layers: usize, rows: usize, context: usize, width: usize, memory: Vec<Option<KeyValue>>, device: &Device) -> Self {
        let empty = || [Tensor::zeros([rows, context, width], device), Tensor::zeros([rows, context, width], device)];
        Self { layers: (0..layers).map(|_| empty()).collect(), memory, tokens: 0, context }
    }

    /// Tokens it holds.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Most tokens it can hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Forgets all but the first `tokens`.
    pub fn truncate(&mut self, tokens: usize) {
        self.tokens = self.tokens.min(tokens);
    }

    /// Runs `x [rows, tokens, d]` through layers: `layer(i, x, past, first, memory)` gives the next `x` and the cache with its tokens.
    pub fn advance(
        &mut self,
        mut x: Tensor<3>,
        mut layer: impl FnMut(usize, Tensor<3>, KeyValueCache, usize, Option<&KeyValue>) -> (Tensor<3>, KeyValueCache),
    ) -> Tensor<3> {
        let count = x.dims()[1];
        // Moved out and in again: a tensor that only one owns is written in place.
        for (i, past) in std::mem::take(&mut self.layers).into_iter().enumerate() {
            let memory = self.memory.get(i).and_then(Option::as_ref);
            let (y, past) = layer(i, x, past, self.tokens, memory);
            x = y;
            self.layers.push(past);
        }
        self.tokens += count;
        x
    }

    /// Row i becomes what row `rows[i]` was; there may be more rows than before. The memory's rows stay: only sequences of one memory change
    /// places.
    pub fn reorder(&mut self, rows: &[usize]) {
        let used = self.tokens;
        let layers = std::mem::take(&mut self.layers);
        self.layers = layers.into_iter().map(|past| past.map(|past| reorder_rows(past, rows, used))).collect();
    }

    /// The same with room for `context` tokens.
    pub fn grown(self, context: usize) -> Self {
        let grow = |past: Tensor<3>| {
            let [rows, _, width] = past.dims();
            let room = Tensor::zeros([rows, context, width], &past.device());
            room.slice_assign([0..rows, 0..self.tokens, 0..width], past.narrow(1, 0, self.tokens))
        };
        let layers = self.layers.into_iter().map(|past| past.map(grow)).collect();
        Self { layers, context, memory: self.memory, tokens: self.tokens }
    }

    /// A copy of which beams may be made, while this one keeps what it holds.
    pub fn fork(&self) -> Self {
        Self { layers: self.layers.clone(), memory: self.memory.clone(), ..*self }
    }
}
