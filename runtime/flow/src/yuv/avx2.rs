//! Sixteen pixels at a time from luma and chroma to RGB, through [`pulp`]'s safe intrinsics.

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};
use std::arch::x86_64::{__m128i, __m256i};

use super::Converter;

/// Pixels converted together.
pub(super) const TOGETHER: usize = 16;

/// Converts as many pixels as come in whole groups; returns how many.
pub(super) fn yuyv(token: V3, convert: &Converter, row: &[u8], out: &mut [[u8; 3]]) -> usize {
    token.vectorize(Groups { token, convert, planes: Quads(row), out })
}

/// The same from a row of luma and a row of chroma.
pub(super) fn nv12(token: V3, convert: &Converter, luma: &[u8], chroma: &[u8], out: &mut [[u8; 3]]) -> usize {
    token.vectorize(Groups { token, convert, planes: Rows(luma, chroma), out })
}

/// Where groups of pixels come from.
trait Planes {
    /// The luma of group `i`, and the chroma of every other pixel of it, U V U V; `None` beyond the last whole group.
    fn group(&self, token: V3, i: usize) -> Option<[__m128i; 2]>;
}

struct Quads<'a>(&'a [u8]);
struct Rows<'a>(&'a [u8], &'a [u8]);

impl Planes for Quads<'_> {
    #[inline(always)]
    fn group(&self, token: V3, i: usize) -> Option<[__m128i; 2]> {
        let [low, high]: [__m128i; 2] = cast(*self.0.as_chunks::<{ 2 * TOGETHER }>().0.get(i)?);
        let low = token.ssse3._mm_shuffle_epi8(low, cast(APART));
        let high = token.ssse3._mm_shuffle_epi8(high, cast(APART));
        Some([token.sse2._mm_unpacklo_epi64(low, high), token.sse2._mm_unpackhi_epi64(low, high)])
    }
}

impl Planes for Rows<'_> {
    #[inline(always)]
    fn group(&self, _: V3, i: usize) -> Option<[__m128i; 2]> {
        let luma = self.0.as_chunks::<TOGETHER>().0.get(i)?;
        let chroma = self.1.as_chunks::<TOGETHER>().0.get(i)?;
        Some([cast(*luma), cast(*chroma)])
    }
}

/// Bytes at even places, then those at odd ones.
const APART: [i8; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15];
/// The U of each pixel, and its V, from chroma of every other pixel.
const US: [i8; 16] = [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14];
const VS: [i8; 16] = [1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15];

struct Groups<'a, P> {
    token: V3,
    convert: &'a Converter,
    planes: P,
    out: &'a mut [[u8; 3]],
}

impl<P: Planes> NullaryFnOnce for Groups<'_, P> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        let Self { token, convert, planes, out } = self;
        let mut done = 0;
        for (i, out) in out.as_chunks_mut::<TOGETHER>().0.iter_mut().enumerate() {
            let Some([ys, chroma]) = planes.group(token, i) else { break };
            let [mut r, mut g, mut b] = [[token.avx._mm256_setzero_si256(); 2]; 3];
            let us = token.ssse3._mm_shuffle_epi8(chroma, cast(US));
            let vs = token.ssse3._mm_shuffle_epi8(chroma, cast(VS));
            for (half, [y, u, v]) in [[ys, us, vs], upper(token, [ys, us, vs])].into_iter().enumerate() {
                let rounding = token.avx._mm256_set1_epi32(1 << 15);
                let y = token.avx2._mm256_add_epi32(times(token, number(token, y, convert.black), convert.y), rounding);
                let (u, v) = (number(token, u, 128), number(token, v, 128));
                r[half] = token.avx2._mm256_add_epi32(y, times(token, v, convert.rv));
                g[half] =
                    token.avx2._mm256_sub_epi32(token.avx2._mm256_sub_epi32(y, times(token, u, convert.gu)), times(token, v, convert.gv));
                b[half] = token.avx2._mm256_add_epi32(y, times(token, u, convert.bu));
            }
            let [r, g, b] = [levels(token, r), levels(token, g), levels(token, b)];
            *out = cast(interleaved(token, [r, g, b]));
            done += TOGETHER;
        }
        done
    }
}

#[inline(always)]
fn number(token: V3, bytes: __m128i, less: i32) -> __m256i {
    token.avx2._mm256_sub_epi32(token.avx2._mm256_cvtepu8_epi32(bytes), token.avx._mm256_set1_epi32(less))
}

#[inline(always)]
fn times(token: V3, numbers: __m256i, factor: i32) -> __m256i {
    token.avx2._mm256_mullo_epi32(numbers, token.avx._mm256_set1_epi32(factor))
}

#[inline(always)]
fn upper(token: V3, [y, u, v]: [__m128i; 3]) -> [__m128i; 3] {
    [token.sse2._mm_unpackhi_epi64(y, y), token.sse2._mm_unpackhi_epi64(u, u), token.sse2._mm_unpackhi_epi64(v, v)]
}

/// Sixteen sums in 16.16 fixed point as grey levels.
#[inline(always)]
fn levels(token: V3, [low, high]: [__m256i; 2]) -> __m128i {
    let [low, high]: [[__m128i; 2]; 2] = [cast(token.avx2._mm256_srai_epi32::<16>(low)), cast(token.avx2._mm256_srai_epi32::<16>(high))];
    token.sse2._mm_packus_epi16(token.sse2._mm_packs_epi32(low[0], low[1]), token.sse2._mm_packs_epi32(high[0], high[1]))
}

/// Three registers whose bytes are red, green and blue in turn.
#[inline(always)]
fn interleaved(token: V3, channels: [__m128i; 3]) -> [__m128i; 3] {
    let mut out = [token.sse2._mm_setzero_si128(); 3];
    for (part, out) in out.iter_mut().enumerate() {
        for (c, channel) in channels.into_iter().enumerate() {
            *out = token.sse2._mm_or_si128(*out, token.ssse3._mm_shuffle_epi8(channel, cast(ORDERS[part][c])));
        }
    }
    out
}

/// Of which pixel each byte is, by part and channel; -1: of another channel.
const ORDERS: [[[i8; 16]; 3]; 3] = {
    let mut orders = [[[-1; 16]; 3]; 3];
    let mut byte = 0;
    while byte < 48 {
        orders[byte / 16][byte % 3][byte % 16] = (byte / 3) as i8;
        byte += 1;
    }
    orders
};
