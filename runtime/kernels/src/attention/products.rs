//! What tiles multiply: floats, or pairs of bfloat16 where the instruction set has them.
//!
//! A word is as large as an f32 and holds [`Products::PER_WORD`] elements that are summed over: neighbours along D of a query and key,
//! neighbouring keys of weights and values. So both kinds have the same tiles, the second with half as many steps.

use crate::simd::Simd;

pub(super) trait Products: Copy {
    /// Elements of a word.
    const PER_WORD: usize;
    /// A vector of words.
    type Words<S: Simd>: Copy;
    /// # Safety
    /// `LANES` words must be readable at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> Self::Words<S>;
    /// The same word in every lane.
    ///
    /// # Safety
    /// A word must be readable at `p`.
    unsafe fn splat<S: Simd>(s: S, p: *const f32) -> Self::Words<S>;
    /// acc + a · b, summed over a word.
    fn fma<S: Simd>(s: S, a: Self::Words<S>, b: Self::Words<S>, acc: S::F) -> S::F;
    /// Words of elements that follow each other in what is summed over; with one element a word, `odd` does not count.
    ///
    /// # Safety
    /// `LANES` words must be writable at `p`.
    unsafe fn store<S: Simd>(s: S, p: *mut f32, even: S::F, odd: S::F);
    /// Lanes that follow each other in what is summed over.
    ///
    /// # Safety
    /// `LANES / PER_WORD` words must be writable at `p`.
    unsafe fn store_row<S: Simd>(s: S, p: *mut f32, row: S::F);
}

/// Floats, one a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Single;

impl Products for Single {
    const PER_WORD: usize = 1;
    type Words<S: Simd> = S::F;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::F {
        // SAFETY: the caller's.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(s: S, p: *const f32) -> S::F {
        // SAFETY: the caller's.
        unsafe { s.splat(*p) }
    }
    #[inline(always)]
    fn fma<S: Simd>(s: S, a: S::F, b: S::F, acc: S::F) -> S::F {
        s.fma(a, b, acc)
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, even: S::F, _odd: S::F) {
        // SAFETY: the caller's.
        unsafe { s.store(p, even) }
    }
    #[inline(always)]
    unsafe fn store_row<S: Simd>(s: S, p: *mut f32, row: S::F) {
        // SAFETY: the caller's.
        unsafe { s.store(p, row) }
    }
}

/// bfloat16, two a word. Sums are f32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bf16;

impl Products for Bf16 {
    const PER_WORD: usize = 2;
    type Words<S: Simd> = S::B;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::B {
        // SAFETY: the caller's.
        unsafe { s.load_b(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(s: S, p: *const f32) -> S::B {
        // SAFETY: the caller's.
        unsafe { s.splat_b(p.cast()) }
    }
    #[inline(always)]
    fn fma<S: Simd>(s: S, a: S::B, b: S::B, acc: S::F) -> S::F {
        s.dot_bf16(acc, a, b)
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, even: S::F, odd: S::F) {
        // SAFETY: the caller's.
        unsafe { s.store_b(p.cast(), s.pair_bf16(even, odd)) }
    }
    #[inline(always)]
    unsafe fn store_row<S: Simd>(s: S, p: *mut f32, row: S::F) {
        // SAFETY: the caller's.
        unsafe { s.store_bf16(p.cast(), row) }
    }
}
