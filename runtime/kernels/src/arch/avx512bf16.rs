//! AVX-512 with VNNI and BF16: Cooper Lake, Zen 4 and later. Multiplies pairs of bfloat16 into f32, twice as many as it does f32.

use core::arch::x86_64::*;

use crate::simd::{Kernel, Simd};

/// Proof that this CPU has AVX-512 BF16 beside F, BW, DQ, VL and VNNI.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Bf16(());

impl Avx512Bf16 {
    /// The token, where the CPU and the operating system allow it.
    pub fn new() -> Option<Self> {
        let has = super::avx512vnni::Avx512Vnni::new().is_some() && is_x86_feature_detected!("avx512bf16");
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c,bmi2")]
unsafe fn vectorized<K: Kernel>(s: Avx512Bf16, kernel: K) -> K::Output {
    kernel.run(s)
}

impl Simd for Avx512Bf16 {
    const BF16: bool = true;

    zmm_methods!();

    #[inline(always)]
    fn pair_bf16(self, even: __m512, odd: __m512) -> __m512i {
        token!({
            let even = _mm512_cvtepu16_epi32(core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(even)));
            let odd = _mm512_cvtepu16_epi32(core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(odd)));
            _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
        })
    }
    #[inline(always)]
    unsafe fn store_b(self, p: *mut u8, a: __m512i) {
        memory!(_mm512_storeu_si512(p.cast(), a))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u8, a: __m512) {
        memory!(_mm256_storeu_si256(p.cast(), core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(a))))
    }
    #[inline(always)]
    fn dot_bf16(self, acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        token!(_mm512_dpbf16_ps(acc, core::mem::transmute::<__m512i, __m512bh>(a), core::mem::transmute::<__m512i, __m512bh>(b)))
    }
}
