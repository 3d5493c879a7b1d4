//! AVX2 with FMA: Haswell, Zen and later. Multiplies unsigned bytes by signed ones, pairs saturating at 16 bits.

use core::arch::x86_64::*;

use crate::simd::{Kernel, PANEL, Simd};

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The token, where the CPU and the operating system allow it.
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token proves that the CPU has these features.
        unsafe { vectorized(self, kernel) }
    }
}

/// # Safety
/// The CPU must have the features.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn vectorized<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
    kernel.run(s)
}

impl Simd for Avx2 {
    // Eight accumulators, two weights, a magnitude, its sign, a product and the ones in 16 registers.
    const INT8_ROWS: usize = 4;
    const GROUP_ROWS: usize = 3;
    const ACTIVATION_OFFSET: i32 = 0;
    const WEIGHT_OFFSET: i32 = 0;
    // A sign instruction goes the way that products go, of which there are two; an exclusive or goes any of four.
    const SIGNS_APART: bool = true;
    const SHORT_NIBBLES: bool = true;

    ymm_methods!();

    #[inline(always)]
    unsafe fn signs_apart(self, p: *const u8, to: *mut u8, stride: usize, count: usize) -> [i32; 8] {
        let mut sums = [0; 8];
        // SAFETY: the caller's.
        token!({
            let mut sum = _mm256_setzero_si256();
            let mut i = 0;
            while i < count {
                let a = _mm256_loadu_si256(p.add(i * stride * 4).cast());
                let (magnitudes, signs) = (_mm256_abs_epi8(a), _mm256_cmpgt_epi8(_mm256_setzero_si256(), a));
                // Fours of both in turn; within halves of a register, so those change places after it.
                let (low, high) = (_mm256_unpacklo_epi32(magnitudes, signs), _mm256_unpackhi_epi32(magnitudes, signs));
                let to = to.add(i * stride * 8);
                _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256(low, high, 0x20));
                _mm256_storeu_si256(to.add(32).cast(), _mm256_permute2x128_si256(low, high, 0x31));
                let negative = _mm256_maddubs_epi16(_mm256_and_si256(magnitudes, signs), _mm256_set1_epi8(1));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(negative, _mm256_set1_epi16(1)));
                i += 1;
            }
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), sum);
        });
        sums
    }

    #[inline(always)]
    unsafe fn dot_columns<const R: usize, const V: usize>(
        self,
        acc: &mut [[__m256i; V]; R],
        w: *const u8,
        panel_stride: usize,
        a: *const u8,
        quads: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { self.columns::<R, V, true>(acc, w, panel_stride, a, quads) }
    }

    #[inline(always)]
    unsafe fn dot_unsigned_columns<const R: usize, const V: usize>(
        self,
        acc: &mut [[__m256i; V]; R],
        w: *const u8,
        panel_stride: usize,
        a: *const u8,
        quads: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { self.columns::<R, V, false>(acc, w, panel_stride, a, quads) }
    }

    #[inline(always)]
    fn dot(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        // |a| · (sign(a) w): with both within ±127 a pair is at most 2 · 127², which fits 16 bits.
        token!({
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(w, a));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn dot_grouped(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        self.dot(acc, w, a)
    }
    #[inline(always)]
    fn dot_short(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        token!(_mm256_add_epi16(acc, _mm256_maddubs_epi16(w, a)))
    }
    #[inline(always)]
    fn add_halves(self, acc: __m256i, halves: __m256i) -> __m256i {
        token!(_mm256_add_epi32(acc, _mm256_madd_epi16(halves, _mm256_set1_epi16(1))))
    }
    #[inline(always)]
    fn dot_nibbles(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        token!(_mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1))))
    }
}

impl Avx2 {
    /// Products down `quads` fours; a row's four has its signs behind it where activations are `SIGNED`.
    ///
    /// # Safety
    /// As [`Simd::dot_columns`].
    #[inline(always)]
    unsafe fn columns<const R: usize, const V: usize, const SIGNED: bool>(
        self,
        acc: &mut [[__m256i; V]; R],
        mut w: *const u8,
        panel_stride: usize,
        mut a: *const u8,
        quads: usize,
    ) {
        const PER_PANEL: usize = PANEL / 8;
        let four = if SIGNED { 8 } else { 4 };
        let mut quad = 0;
        while quad < quads {
            // SAFETY: the caller's; beyond the weight's end nothing is read.
            token!({
                let mut weights = [_mm256_setzero_si256(); V];
                let mut v = 0;
                while v < V {
                    weights[v] = _mm256_loadu_si256(w.add(v / PER_PANEL * panel_stride + v % PER_PANEL * 32).cast());
                    v += 1;
                }
                // The same place in the next strip, which lies behind this one.
                let mut panel = if R > 1 { 0 } else { V };
                while panel < V / PER_PANEL {
                    self.prefetch(w.wrapping_add((panel + V / PER_PANEL) * panel_stride));
                    panel += 1;
                }
                let mut r = 0;
                while r < R {
                    let word = a.add(r * four).cast::<i32>();
                    let magnitudes = _mm256_set1_epi32(word.read_unaligned());
                    let mut signs = _mm256_setzero_si256();
                    if SIGNED {
                        signs = _mm256_set1_epi32(word.add(1).read_unaligned());
                    }
                    let mut v = 0;
                    while v < V {
                        let weight = if SIGNED { _mm256_xor_si256(weights[v], signs) } else { weights[v] };
                        // A pair is at most 127 · (127 + 128), which fits 16 bits.
                        let pairs = _mm256_maddubs_epi16(magnitudes, weight);
                        acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                        v += 1;
                    }
                    r += 1;
                }
                a = a.add(R * four);
                w = w.add(PANEL * 4);
            });
            quad += 1;
        }
    }
}
