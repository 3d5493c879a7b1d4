//! AVX-VNNI: Alder Lake and later, where there is no AVX-512; also Zen 5.

use core::arch::x86_64::*;

use crate::simd::{Kernel, Simd};

/// Proof that this CPU has AVX-VNNI beside AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct AvxVnni(());

impl AvxVnni {
    /// The token, where the CPU and the operating system allow it.
    pub fn new() -> Option<Self> {
        let has = super::avx2::Avx2::new().is_some() && is_x86_feature_detected!("avxvnni");
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
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn vectorized<K: Kernel>(s: AvxVnni, kernel: K) -> K::Output {
    kernel.run(s)
}

impl Simd for AvxVnni {
    // Twelve accumulators, two weights and a broadcast in 16 registers.
    const INT8_ROWS: usize = 6;
    const GROUP_ROWS: usize = 3;
    const ACTIVATION_OFFSET: i32 = 128;
    const WEIGHT_OFFSET: i32 = 128;

    ymm_methods!();

    #[inline(always)]
    fn dot(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        token!(_mm256_dpbusd_avx_epi32(acc, a, w))
    }
    #[inline(always)]
    fn dot_grouped(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        token!(_mm256_dpbusd_avx_epi32(acc, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), a))
    }
    #[inline(always)]
    fn dot_nibbles(self, acc: __m256i, w: __m256i, a: __m256i) -> __m256i {
        token!(_mm256_dpbusd_avx_epi32(acc, w, a))
    }
}
