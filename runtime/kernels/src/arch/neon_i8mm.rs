//! NEON with the product of byte matrices: Cortex-X2, A510, A710, Neoverse V1 and later; Jetson Thor.
//!
//! `smmla` multiplies two rows of eight bytes by two columns of eight: twice what `sdot` does. Weights lie in fours, so two vectors of
//! them are zipped first: two more instructions for every four columns and eight input channels, whatever the number of rows. From
//! four rows on that pays: a tile of 6 x 16 takes 35 vector instructions for eight input channels where `sdot` takes 48. With fewer
//! rows, with an odd one (its other accumulators want registers that are not there) and in groups, whose second accumulators leave
//! registers for three rows only, it is `sdot`.
//!
//! Both are written as inline assembly: in `core::arch` they are not stable yet.

use core::arch::aarch64::*;
use core::arch::asm;

use super::neon_dotprod::{load_rows, sdot, sdot_tile};
use crate::simd::{Kernel, PANEL, Simd, dot_quads};

/// Proof that this CPU has NEON, its dot product and its product of byte matrices.
#[derive(Debug, Clone, Copy)]
pub struct NeonI8mm(());

impl NeonI8mm {
    /// The token, where the CPU and the operating system allow it.
    pub fn new() -> Option<Self> {
        let has = super::neon_dotprod::NeonDotprod::new().is_some() && std::arch::is_aarch64_feature_detected!("i8mm");
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
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn vectorized<K: Kernel>(s: NeonI8mm, kernel: K) -> K::Output {
    kernel.run(s)
}

/// acc + a wᵀ, where `a` and `w` are `[2][8]` and `acc` is `[2][2]`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut acc: int32x4_t, a: int8x16_t, w: int8x16_t) -> int32x4_t {
    // Not `pure`, so that the order stays: moved about, they would need more registers than there are.
    // SAFETY: the function has the feature; nothing but the registers is touched.
    unsafe {
        asm!("smmla {acc:v}.4s, {a:v}.16b, {w:v}.16b", acc = inlateout(vreg) acc, a = in(vreg) a, w = in(vreg) w,
            options(nomem, nostack, preserves_flags));
    }
    acc
}

/// `a` and `b` with fours as their elements: a₀ b₀ a₁ b₁ and a₂ b₂ a₃ b₃.
#[inline]
#[target_feature(enable = "neon")]
fn zip(a: int8x16_t, b: int8x16_t) -> (int8x16_t, int8x16_t) {
    let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
    (vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b)))
}

/// Two rows of four columns to two blocks of two rows and two columns, or back.
#[inline]
#[target_feature(enable = "neon")]
fn swap(a: int32x4_t, b: int32x4_t) -> (int32x4_t, int32x4_t) {
    let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
    (vreinterpretq_s32_s64(vzip1q_s64(a, b)), vreinterpretq_s32_s64(vzip2q_s64(a, b)))
}

impl NeonI8mm {
    /// [`swap`] for every pair of rows.
    #[inline(always)]
    fn swap_rows<const R: usize, const V: usize>(self, acc: &mut [[int32x4_t; V]; R]) {
        let mut i = 0;
        while i < R / 2 {
            let mut v = 0;
            while v < V {
                (acc[2 * i][v], acc[2 * i + 1][v]) = token!(swap(acc[2 * i][v], acc[2 * i + 1][v]));
                v += 1;
            }
            i += 1;
        }
    }
}

impl Simd for NeonI8mm {
    // 24 accumulators, three pairs of rows, and two weights before and after they are zipped: 31 of 32 registers.
    const INT8_ROWS: usize = 6;
    const GROUP_ROWS: usize = 3;

    quad_methods!();
    sdot_tile!();

    #[inline(always)]
    fn dot(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        token!(sdot(acc, w, a))
    }

    #[inline(always)]
    unsafe fn dot_columns<const R: usize, const V: usize>(
        self,
        acc: &mut [[int32x4_t; V]; R],
        w: *const u8,
        panel_stride: usize,
        a: *const u8,
        quads: usize,
    ) {
        if R < 4 || R % 2 == 1 {
            // SAFETY: the caller's.
            return unsafe { dot_quads(self, acc, w, panel_stride, a, quads) };
        }
        self.swap_rows(acc);
        let per_panel = PANEL / Self::LANES;
        let (mut w, mut a) = (w, a);
        let mut pair = 0;
        while pair < quads / 2 {
            memory!({
                // Rows 2 i and 2 i + 1, eight bytes each.
                let mut rows = [vdupq_n_s8(0); R];
                let mut i = 0;
                while i < R / 2 {
                    rows[i] = zip(load_rows(a.add(i * 8), 2), load_rows(a.add((R + i * 2) * 4), 2)).0;
                    i += 1;
                }
                let mut v = 0;
                while v < V {
                    let at = w.add(v / per_panel * panel_stride + v % per_panel * Self::LANES * 4);
                    let (first, second) = (self.load_b(at), self.load_b(at.add(PANEL * 4)));
                    let (left, right) = zip(first, second);
                    let mut i = 0;
                    while i < R / 2 {
                        acc[2 * i][v] = smmla(acc[2 * i][v], rows[i], left);
                        acc[2 * i + 1][v] = smmla(acc[2 * i + 1][v], rows[i], right);
                        i += 1;
                    }
                    v += 1;
                }
                w = w.add(2 * PANEL * 4);
                a = a.add(2 * R * 4);
            });
            pair += 1;
        }
        self.swap_rows(acc);
        // SAFETY: the caller's; a last four is left, or none.
        unsafe { dot_quads(self, acc, w, panel_stride, a, quads % 2) }
    }
}
