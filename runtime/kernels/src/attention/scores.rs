//! A block of scores, `[R][KEYS]`: bias, mask and the online softmax.

use super::Attention;
use super::products::Products;
use crate::linear::load_some;
use crate::math::exp2;
use crate::simd::Simd;

/// Most keys of a block: with a dozen rows their scores fill a third of a first-level cache.
pub(super) const KEYS: usize = 256;

/// One row's state between blocks of keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// Greatest score so far.
    pub greatest: f32,
    /// Sum of 2^(x − greatest).
    pub sum: f32,
}

impl State {
    /// Before any key.
    pub(super) const START: Self = Self { greatest: f32::NEG_INFINITY, sum: 0.0 };

    /// What a row is multiplied by in the end: zero where it saw no key.
    #[inline(always)]
    pub(super) fn inverse(self) -> f32 {
        if self.sum == 0.0 { 0.0 } else { 1.0 / self.sum }
    }
}

/// Scales one row of scores and adds mask and bias, for the keys `start .. start + keys`.
///
/// # Safety
/// `scores` has room for whole vectors; `head` and `query` exist, and so do the keys.
#[inline(always)]
pub(super) unsafe fn add_bias<S: Simd>(
    s: S,
    scores: *mut f32,
    attention: &Attention<'_>,
    head: usize,
    query: usize,
    start: usize,
    keys: usize,
) {
    let scale = s.splat(attention.scale.abs());
    // SAFETY: the caller's; `check` has seen that mask and bias reach that far.
    unsafe {
        let mut j = 0;
        while j < keys {
            let width = (keys - j).min(S::LANES);
            let mut score = s.mul(s.load(scores.add(j)), scale);
            if let Some(mask) = attention.key_mask {
                score = s.add(score, load_some(s, mask.as_ptr().add(start + j), width));
            }
            if let Some(bias) = attention.bias {
                let from = bias.values.as_ptr().add(head * bias.head_stride + query * bias.row_stride + start);
                score = s.add(score, load_some(s, from.add(j), width));
            }
            s.store(scores.add(j), score);
            j += S::LANES;
        }
    }
}

/// Turns one row of scores x into weights 2^(unit · (x − greatest)), and returns what the sums so far must be multiplied by.
///
/// The first `seen` scores count, those up to `padded` become zero. Weights take the scores' place, as words of [`Products`]. The product of unit and greatest is rounded once for all weights of
/// the row, so that its error is a common factor and cancels, however great the scores.
///
/// # Safety
/// There are `padded` scores, whole vectors.
#[inline(always)]
pub(super) unsafe fn weigh<S: Simd, P: Products>(s: S, scores: *mut f32, seen: usize, padded: usize, unit: f32, state: &mut State) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let mut j = seen;
        while j < padded {
            *scores.add(j) = f32::NEG_INFINITY;
            j += 1;
        }
        // What is no number is passed over here and comes back below: its weight is NaN, and so is the sum.
        let mut greatest = s.splat(state.greatest);
        let mut j = 0;
        while j < padded {
            greatest = s.max(s.load(scores.add(j)), greatest);
            j += S::LANES;
        }
        let greatest = s.greatest(greatest);
        // Before the first key that counts, any finite number will do.
        let base = if greatest == f32::NEG_INFINITY { 0.0 } else { greatest * unit };
        let (unit_lanes, base_lanes) = (s.splat(unit), s.splat(-base));
        let mut sum = s.splat(0.0);
        let mut j = 0;
        while j < padded {
            let weight = exp2(s, s.fma(s.load(scores.add(j)), unit_lanes, base_lanes));
            // Never beyond what has been read.
            P::store_row(s, scores.add(j / P::PER_WORD), weight);
            sum = s.add(sum, weight);
            j += S::LANES;
        }
        let mut before = [0.0_f32; 16];
        s.store(before.as_mut_ptr(), exp2(s, s.splat(state.greatest * unit - base)));
        let before = before[0];
        *state = State { greatest, sum: state.sum * before + s.sum(sum) };
        before
    }
}
