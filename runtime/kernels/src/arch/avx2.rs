//! AVX2 with FMA: Haswell, Zen and later. Multiplies unsigned bytes by signed ones, pairs saturating at 16 bits.

use core::arch::x86_64::*;

use crate::simd::{Kernel, Simd};

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
    // Eight accumulators, two weights, a broadcast, its magnitude, a product and the ones in 16 registers.
    const INT8_ROWS: usize = 4;
    const GROUP_ROWS: usize = 2;
    const ACTIVATION_OFFSET: i32 = 0;
    const WEIGHT_OFFSET: i32 = 0;

    ymm_methods!();

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
    fn dot_nibbles(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        token!(_mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1))))
    }
}
