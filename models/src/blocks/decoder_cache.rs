//! What a decoder keeps between steps.

use burn::tensor::{Device, Tensor};
use ocelli_ops::{KeyValueCache, reorder_rows};

use super::KeyValue;

/// Keys and values of the tokens so far, of every layer; and those of a memory that was read once.
///
/// What is read first takes memory for itself alone; all that is asked for is taken once, for as many sequences as are then written.
#[derive(Debug)]
pub struct DecoderCache {
    layers: Vec<KeyValueCache>,
    memory: Vec<Option<KeyValue>>,
    /// Sequences.
    rows: usize,
    /// Tokens of each that it holds, that there is memory for, and most that it can hold.
    tokens: usize,
    room: usize,
    context: usize,
}

impl DecoderCache {
    /// An empty one: `rows` sequences of at most `context` tokens, with keys of `width` in every layer. `memory` has an entry a layer, or none.
    pub fn new(layers: usize, rows: usize, context: usize, width: usize, memory: Vec<Option<KeyValue>>, device: &Device) -> Self {
        // A token's place, so that there is something to grow.
        let empty = || [Tensor::zeros([rows, 1, width], device), Tensor::zeros([rows, 1, width], device)];
        Self { layers: (0..layers).map(|_| empty()).collect(), memory, rows, tokens: 0, room: 1, context }
    }

    /// The same with memory for all its tokens now: for one sequence with a prompt that is long.
    pub fn reserved(mut self) -> Self {
        if self.room < self.context {
            self.make_room(self.context);
        }
        self
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
    ///
    /// # Panics
    /// Where they are more than it can hold.
    pub fn advance(
        &mut self,
        mut x: Tensor<3>,
        mut layer: impl FnMut(usize, Tensor<3>, KeyValueCache, usize, Option<&KeyValue>) -> (Tensor<3>, KeyValueCache),
    ) -> Tensor<3> {
        let count = x.dims()[1];
        let needed = self.tokens + count;
        assert!(needed <= self.context, "{count} tokens after {} in a cache of {}", self.tokens, self.context);
        if needed > self.room {
            self.make_room(if self.tokens == 0 { needed } else { self.context });
        }
        // Moved out and in again: a tensor that only one owns is written in place.
        for (i, past) in std::mem::take(&mut self.layers).into_iter().enumerate() {
            let memory = self.memory.get(i).and_then(Option::as_ref);
            let (y, past) = layer(i, x, past, self.tokens, memory);
            x = y;
            self.layers.push(past);
        }
        self.tokens = needed;
        x
    }

    /// Row i becomes what row `rows[i]` was; there may be more rows than before. The memory's rows stay: only sequences of one memory change
    /// places.
    pub fn reorder(&mut self, rows: &[usize]) {
        let used = self.tokens;
        let layers = std::mem::take(&mut self.layers);
        self.layers = layers.into_iter().map(|past| past.map(|past| reorder_rows(past, rows, used))).collect();
        self.rows = rows.len();
    }

    /// The same with room for `context` tokens.
    pub fn grown(mut self, context: usize) -> Self {
        self.context = context;
        self.reserved()
    }

    /// Memory for `room` tokens: more than there was.
    fn make_room(&mut self, room: usize) {
        let (rows, tokens) = (self.rows, self.tokens);
        let grow = |past: Tensor<3>| {
            let [_, _, width] = past.dims();
            let larger = Tensor::zeros([rows, room, width], &past.device());
            if tokens == 0 { larger } else { larger.slice_assign([0..rows, 0..tokens, 0..width], past.narrow(1, 0, tokens)) }
        };
        // One after the other, so that the old and the new are held of one tensor alone.
        let layers = std::mem::take(&mut self.layers);
        self.layers = layers.into_iter().map(|past| past.map(grow)).collect();
        self.room = room;
    }

    /// A copy of which beams may be made, while this one keeps what it holds.
    pub fn fork(&self) -> Self {
        Self { layers: self.layers.clone(), memory: self.memory.clone(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Puts `x` in as keys, and its negative as values, as a layer would.
    fn put(cache: &mut DecoderCache, x: &Tensor<3>) {
        let [rows, tokens, width] = x.dims();
        cache.advance(x.clone(), |_, x, [keys, values], first, _| {
            let place = [0..rows, first..first + tokens, 0..width];
            (x.clone(), [keys.slice_assign(place.clone(), x.clone()), values.slice_assign(place, -x)])
        });
    }

    fn kept(cache: &DecoderCache, row: usize) -> Vec<f32> {
        let [keys, values] = cache.layers[1].clone();
        let (keys, values) = (keys.narrow(1, 0, cache.tokens()), values.narrow(1, 0, cache.tokens()));
        assert_eq!((keys.clone() + values).abs().max().into_scalar::<f32>(), 0.0);
        keys.narrow(0, row, 1).into_data().try_to_vec().unwrap()
    }

    #[test]
    fn what_was_read_stays_when_room_is_made() {
        let device = Device::flex();
        let random = |rows, tokens| Tensor::<3>::random([rows, tokens, 4], Distribution::Normal(0.0, 1.0), &device);
        let (prompt, next) = (random(1, 3), random(2, 1));
        for reserved in [false, true] {
            let mut cache = DecoderCache::new(2, 1, 6, 4, Vec::new(), &device);
            if reserved {
                cache = cache.reserved();
            }
            put(&mut cache, &prompt);
            // Without a reserve, only the prompt has taken memory before there are beams.
            assert_eq!(cache.layers[0][0].dims(), [1, if reserved { 6 } else { 3 }, 4]);
            cache.reorder(&[0, 0]);
            put(&mut cache, &next);
            assert_eq!((cache.layers[0][0].dims(), cache.tokens(), cache.context()), ([2, 6, 4], 4, 6));
            cache.reorder(&[1, 0]);
            for (row, other) in [(0, 1), (1, 0)] {
                let mut should: Vec<f32> = prompt.clone().into_data().try_to_vec().unwrap();
                should.extend(next.clone().narrow(0, other, 1).into_data().try_to_vec::<f32>().unwrap());
                assert_eq!(kept(&cache, row), should, "row {row}");
            }
            let before = kept(&cache, 1);
            let cache = cache.grown(9);
            assert_eq!((kept(&cache, 1), cache.context()), (before, 9));
        }
    }

    #[test]
    #[should_panic(expected = "3 tokens after 4 in a cache of 6")]
    fn more_than_fits_is_refused() {
        let device = Device::flex();
        let mut cache = DecoderCache::new(1, 1, 6, 4, Vec::new(), &device);
        put(&mut cache, &Tensor::zeros([1, 4, 4], &device));
        put(&mut cache, &Tensor::zeros([1, 3, 4], &device));
    }
}
