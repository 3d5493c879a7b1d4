//! Rotary position embedding (Su et al., 2021): pairs of a head's elements turn by an angle that grows with the token's position.

use crate::linear::Engine;
use crate::norm::share;
use crate::shared::SharedMut;
use crate::simd::{Kernel, Simd};

/// Which elements of a head are a pair, of R that turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopePairs {
    /// i and i + R/2: `rotate_half` of Llama and NeoX, as Hugging Face has it.
    Half,
    /// 2 i and 2 i + 1: GPT-J, and Llama's own weights.
    Interleaved,
}

/// Cosines and sines of every position and pair.
#[derive(Debug, Clone)]
pub struct RopeTable {
    pairs: usize,
    /// `[positions][pairs]`
    cos: Vec<f32>,
    /// `[positions][pairs]`
    sin: Vec<f32>,
}

impl RopeTable {
    /// For positions 0 … `positions` − 1 and the first `rotary_dim` elements of a head: pair i turns by `base`^(−2 i / `rotary_dim`) a
    /// position. Models commonly have a base of 10 000.
    ///
    /// # Panics
    /// Where `rotary_dim` is odd.
    pub fn new(positions: usize, rotary_dim: usize, base: f64) -> Self {
        assert!(rotary_dim.is_multiple_of(2), "{rotary_dim} elements are not pairs");
        let frequencies: Vec<f64> = (0..rotary_dim / 2).map(|i| base.powf(-2.0 * i as f64 / rotary_dim as f64)).collect();
        Self::from_frequencies(positions, &frequencies)
    }

    /// For positions 0 … `positions` − 1, and pairs that turn by `frequencies` radians a position: for models that scale them.
    pub fn from_frequencies(positions: usize, frequencies: &[f64]) -> Self {
        let angles = || (0..positions).flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency));
        let cos = angles().map(|angle| angle.cos() as f32).collect();
        let sin = angles().map(|angle| angle.sin() as f32).collect();
        Self { pairs: frequencies.len(), cos, sin }
    }

    /// Takes tables `[positions][pairs]` that lie somewhere.
    ///
    /// # Panics
    /// Where they are not whole rows of one size.
    pub fn from_tables(pairs: usize, cos: Vec<f32>, sin: Vec<f32>) -> Self {
        let whole = if pairs == 0 { cos.is_empty() } else { cos.len().is_multiple_of(pairs) };
        assert!(whole && cos.len() == sin.len(), "{} cosines and {} sines of {pairs} pairs", cos.len(), sin.len());
        Self { pairs, cos, sin }
    }

    /// Elements of a head that turn.
    pub fn rotary_dim(&self) -> usize {
        2 * self.pairs
    }

    /// Positions there are.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.pairs).unwrap_or(usize::MAX)
    }

    /// Cosines and sines of a position, one a pair.
    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let from = position * self.pairs;
        (&self.cos[from..from + self.pairs], &self.sin[from..from + self.pairs])
    }
}

/// Where tokens stand.
#[derive(Debug, Clone, Copy)]
pub enum Positions<'a> {
    /// One after the other from this one on.
    From(usize),
    /// One a token.
    Each(&'a [u32]),
}

impl Positions<'_> {
    #[inline(always)]
    fn of(&self, token: usize) -> usize {
        match self {
            Self::From(first) => first + token,
            Self::Each(positions) => positions[token] as usize,
        }
    }
}

/// Rows of heads that turn, with strides in elements: token t, head h begins at `t * row_stride + h * head_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Rope<'a> {
    /// Angles.
    pub table: &'a RopeTable,
    /// Which elements are a pair.
    pub pairs: RopePairs,
    /// Where tokens stand.
    pub positions: Positions<'a>,
    /// T
    pub tokens: usize,
    /// Heads of a token.
    pub heads: usize,
    /// Elements of a head; those beyond the table's [`RopeTable::rotary_dim`] stay as they are.
    pub dim: usize,
    /// From one token to the next.
    pub row_stride: usize,
    /// From one head to the next.
    pub head_stride: usize,
}

impl Engine<'_> {
    /// Turns the rows of heads in `x`, in place.
    ///
    /// # Panics
    /// Where lengths do not fit, heads overlap, or a position is beyond the table.
    pub fn rope(&self, rope: &Rope<'_>, x: &mut [f32]) {
        let Rope { table, positions, tokens, heads, dim, row_stride, head_stride, .. } = *rope;
        if tokens == 0 || heads == 0 {
            return;
        }
        assert!(table.rotary_dim() <= dim, "{} elements turn in heads of {dim}", table.rotary_dim());
        let head_reach = (heads - 1).checked_mul(head_stride).and_then(|reach| reach.checked_add(dim));
        let reach = head_reach.and_then(|head| (tokens - 1).checked_mul(row_stride)?.checked_add(head));
        assert!(reach.is_some_and(|reach| reach <= x.len()), "{} elements, where strides reach over {reach:?}", x.len());
        // Tokens are shared among threads: no two may have elements in common. Either rows hold all heads, or heads all rows.
        let rows = head_reach.is_some_and(|reach| reach <= row_stride);
        let by_head = dim <= row_stride && (tokens - 1) * row_stride + dim <= head_stride;
        assert!((tokens == 1 || rows || by_head) && (heads == 1 || dim <= head_stride), "heads overlap");
        match positions {
            Positions::From(first) => {
                let end = first.checked_add(tokens);
                assert!(end.is_some_and(|end| end <= table.positions()), "positions to {end:?} of {}", table.positions());
            }
            Positions::Each(each) => {
                assert!(each.len() == tokens, "{} positions of {tokens} tokens", each.len());
                let last = each.iter().copied().max().unwrap_or_default() as usize;
                assert!(last < table.positions(), "position {last} of {}", table.positions());
            }
        }
        let x = SharedMut::new(x);
        share(self.isa, self.pool, tokens, heads * dim, &|isa, from, to| isa.run(Turn { rope, x, from, to }));
    }
}

struct Turn<'a> {
    rope: &'a Rope<'a>,
    x: SharedMut<f32>,
    from: usize,
    to: usize,
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rope { table, pairs, positions, heads, row_stride, head_stride, .. } = *self.rope;
        for token in self.from..self.to {
            let (cos, sin) = table.row(positions.of(token));
            for head in 0..heads {
                // SAFETY: `rope` has seen that strides reach no further than the slice, and tokens are one task's alone.
                let x = unsafe { std::slice::from_raw_parts_mut(self.x.at(token * row_stride + head * head_stride), 2 * cos.len()) };
                match pairs {
                    RopePairs::Half => turn_half(s, x, cos, sin),
                    RopePairs::Interleaved => turn_interleaved(x, cos, sin),
                }
            }
        }
    }
}

#[inline(always)]
fn turn_half<S: Simd>(s: S, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (left, right) = x.split_at_mut(cos.len());
    let whole = cos.len() - cos.len() % S::LANES;
    let mut i = 0;
    while i < whole {
        // SAFETY: whole vectors within all four.
        unsafe {
            let (a, b) = (s.load(left.as_ptr().add(i)), s.load(right.as_ptr().add(i)));
            let (cos, sin) = (s.load(cos.as_ptr().add(i)), s.load(sin.as_ptr().add(i)));
            s.store(left.as_mut_ptr().add(i), s.sub(s.mul(a, cos), s.mul(b, sin)));
            s.store(right.as_mut_ptr().add(i), s.fma(a, sin, s.mul(b, cos)));
        }
        i += S::LANES;
    }
    for i in whole..cos.len() {
        let (a, b) = (left[i], right[i]);
        left[i] = a * cos[i] - b * sin[i];
        right[i] = a * sin[i] + b * cos[i];
    }
}

/// In plain code, which compilers turn into shuffles well enough.
#[inline(always)]
fn turn_interleaved(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, &cos), &sin) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = a * sin + b * cos;
    }
}
