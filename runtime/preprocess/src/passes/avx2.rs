//! The passes of 8-bit pictures on AVX2, through [`pulp`]'s safe intrinsics.
//!
//! Both are built on `vpmaddwd`, which multiplies 16 pairs of 16-bit numbers and adds neighbours: two pixels' worth of a channel at once.

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};
use std::arch::x86_64::__m256i;

use super::{Across, CHANNELS, Down, GROUP, portable_down};

/// Columns that are summed side by side going down.
const COLUMNS: usize = 32;

/// A closure that is compiled into its caller, and with it for the caller's instruction set.
pub(super) struct Call<F>(pub F);

impl<F: FnOnce()> NullaryFnOnce for Call<F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        (self.0)()
    }
}

pub(super) fn across<const N: usize>(token: V3, across: &Across<i16>, rows: [&[u8]; N], out: [&mut [u8]; N]) {
    token.vectorize(Rows { token, across, rows, out });
}

pub(super) fn down(token: V3, down: Down<'_, i16>) {
    token.vectorize(Columns { token, down });
}

struct Rows<'a, const N: usize> {
    token: V3,
    across: &'a Across<i16>,
    rows: [&'a [u8]; N],
    out: [&'a mut [u8]; N],
}

impl<const N: usize> NullaryFnOnce for Rows<'_, N> {
    type Output = ();

    /// Two rows share a register, one in each half, and all of them the loads of the weights.
    #[inline(always)]
    fn call(self) {
        let Self { token, across, rows, out } = self;
        let mut out = out.map(|out| out.as_chunks_mut::<CHANNELS>().0);
        // Of four pixels: the first two, or the last two, as pairs of 16 bits, channel by channel.
        let early = pairs_of([0, 3, 1, 4, 2, 5]);
        let late = pairs_of([6, 9, 7, 10, 8, 11]);
        let half = token.avx._mm256_set1_epi32((1 << across.shift) >> 1);
        let shift = cast([i64::from(across.shift), 0]);
        for (i, (first, weights)) in across.iter().enumerate() {
            let pixels = weights.len() * CHANNELS;
            let windows = rows.map(|row| &row[first..first + pixels + super::BEYOND]);
            let mut sums = [half; 2];
            for (k, weights) in weights.as_chunks::<GROUP>().0.iter().enumerate() {
                let [a, b, c, d] = *weights;
                let ab = token.avx._mm256_set1_epi32(cast([a, b]));
                let cd = token.avx._mm256_set1_epi32(cast([c, d]));
                let at = k * GROUP * CHANNELS;
                for (pair, sums) in sums.iter_mut().enumerate().take(N.div_ceil(2)) {
                    // Where rows are odd in number, the last one is there twice.
                    let source = cast([group(windows[2 * pair], at), group(windows[(2 * pair + 1).min(N - 1)], at)]);
                    for (order, weights) in [(early, ab), (late, cd)] {
                        let pixels = token.avx2._mm256_shuffle_epi8(source, order);
                        *sums = token.avx2._mm256_add_epi32(*sums, token.avx2._mm256_madd_epi16(pixels, weights));
                    }
                }
            }
            for (pair, sums) in sums.into_iter().enumerate().take(N.div_ceil(2)) {
                let words = token.avx2._mm256_sra_epi32(sums, shift);
                let words = token.avx2._mm256_packs_epi32(words, words);
                let pixels: [[u8; 16]; 2] = cast(token.avx2._mm256_packus_epi16(words, words));
                for (out, pixel) in out.iter_mut().skip(2 * pair).zip(pixels) {
                    out[i] = [pixel[0], pixel[1], pixel[2]];
                }
            }
        }
    }
}

/// Four pixels from `at` on, and a third of one.
#[inline(always)]
fn group(window: &[u8], at: usize) -> [u8; 16] {
    window[at..].first_chunk().copied().unwrap_or_default()
}

/// Bytes at these places as 16-bit numbers, in both halves; the rest is 0.
fn pairs_of(places: [i8; 6]) -> __m256i {
    let mut order = [-1; 16];
    for (order, place) in order.as_chunks_mut::<2>().0.iter_mut().zip(places) {
        order[0] = place;
    }
    cast([order, order])
}

struct Columns<'a> {
    token: V3,
    down: Down<'a, i16>,
}

impl NullaryFnOnce for Columns<'_> {
    type Output = ();

    /// Bytes of two rows are interleaved, then widened: halves stay halves, so that packing the sums restores the order.
    #[inline(always)]
    fn call(self) {
        let Self { token, down } = self;
        let stride = down.out.len();
        let zero = token.avx._mm256_setzero_si256();
        let half = token.avx._mm256_set1_epi32((1 << down.shift) >> 1);
        let shift = cast([i64::from(down.shift), 0]);
        let blocks = stride / COLUMNS;
        for at in (0..blocks).map(|block| block * COLUMNS) {
            let mut sums = [half; 4];
            let (pairs, last) = down.weights.as_chunks::<2>();
            for (i, &weights) in pairs.iter().enumerate() {
                sums = add_rows(token, sums, [load(&down, 2 * i, at), load(&down, 2 * i + 1, at)], weights);
            }
            if let [weight] = *last {
                sums = add_rows(token, sums, [load(&down, down.weights.len() - 1, at), zero], [weight, 0]);
            }
            for sum in &mut sums {
                *sum = token.avx2._mm256_sra_epi32(*sum, shift);
            }
            let [a, b, c, d] = sums;
            let words = [token.avx2._mm256_packs_epi32(a, b), token.avx2._mm256_packs_epi32(c, d)];
            let bytes: [u8; COLUMNS] = cast(token.avx2._mm256_packus_epi16(words[0], words[1]));
            down.out[at..at + COLUMNS].copy_from_slice(&bytes);
        }
        portable_down(down, blocks * COLUMNS);
    }
}

/// Columns `at..at + 32` of the row for weight `i`.
#[inline(always)]
fn load(down: &Down<'_, i16>, i: usize, at: usize) -> __m256i {
    cast(down.row(i)[at..].first_chunk::<COLUMNS>().copied().unwrap_or_default())
}

/// Adds both rows, each times its weight.
#[inline(always)]
fn add_rows(token: V3, sums: [__m256i; 4], [a, b]: [__m256i; 2], weights: [i16; 2]) -> [__m256i; 4] {
    let zero = token.avx._mm256_setzero_si256();
    let weights = token.avx._mm256_set1_epi32(cast(weights));
    let (low, high) = (token.avx2._mm256_unpacklo_epi8(a, b), token.avx2._mm256_unpackhi_epi8(a, b));
    let words = [
        token.avx2._mm256_unpacklo_epi8(low, zero),
        token.avx2._mm256_unpackhi_epi8(low, zero),
        token.avx2._mm256_unpacklo_epi8(high, zero),
        token.avx2._mm256_unpackhi_epi8(high, zero),
    ];
    let [s, t, u, v] = sums;
    [
        token.avx2._mm256_add_epi32(s, token.avx2._mm256_madd_epi16(words[0], weights)),
        token.avx2._mm256_add_epi32(t, token.avx2._mm256_madd_epi16(words[1], weights)),
        token.avx2._mm256_add_epi32(u, token.avx2._mm256_madd_epi16(words[2], weights)),
        token.avx2._mm256_add_epi32(v, token.avx2._mm256_madd_epi16(words[3], weights)),
    ]
}
