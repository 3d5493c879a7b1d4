//! NEON as every 64-bit Arm has it: Cortex-A53 and A72, a Raspberry Pi up to 4. Multiplies bytes to 16 bits.

use core::arch::aarch64::*;

use crate::simd::{Kernel, Simd};

/// Proof that this CPU has NEON.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// The token, where the CPU and the operating system allow it.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
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
#[target_feature(enable = "neon")]
unsafe fn vectorized<K: Kernel>(s: Neon, kernel: K) -> K::Output {
    kernel.run(s)
}

/// Half floats to floats: part of NEON from the start, but in `core::arch` not stable yet.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn fcvtl(a: uint16x4_t) -> float32x4_t {
    let out;
    // SAFETY: the function has the feature; nothing but the registers is touched.
    unsafe {
        core::arch::asm!("fcvtl {out:v}.4s, {a:v}.4h", out = lateout(vreg) out, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Products of the high halves. `vmull_high_s8` would be the same, but of a broadcast the compiler takes the low half for the high
/// one, then has no use for this instruction and moves the weights' high halves to registers of their own.
#[inline]
#[target_feature(enable = "neon")]
fn smull2(w: int8x16_t, a: int8x16_t) -> int16x8_t {
    let out;
    // SAFETY: the function has the feature; nothing but the registers is touched.
    unsafe {
        core::arch::asm!("smull2 {out:v}.8h, {w:v}.16b, {a:v}.16b", out = lateout(vreg) out, w = in(vreg) w, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

impl Simd for Neon {
    // 16 accumulators, four weights and a broadcast leave eleven of 32 registers to the products: each takes two, and several are under way.
    const INT8_ROWS: usize = 4;
    // Twelve integer and twelve float accumulators, a weight, a broadcast and two or three products' halves.
    const GROUP_ROWS: usize = 3;

    quad_methods!();

    #[inline(always)]
    fn dot(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        // With both within ±127 the sum of two products fits 16 bits, so pairs are added there: 2 · 127² = 32258.
        token!({
            let low = vmull_s8(vget_low_s8(w), vget_low_s8(a));
            let high = smull2(w, a);
            vpadalq_s16(acc, vpaddq_s16(low, high))
        })
    }
}
