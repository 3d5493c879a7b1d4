//! NEON with the dot product of four bytes: Cortex-A55, A76 and later; a Raspberry Pi 5, Jetson Orin.
//!
//! `sdot` is written as inline assembly: in `core::arch` it is not stable yet.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::simd::{Kernel, Simd};

/// Proof that this CPU has NEON and its dot product.
#[derive(Debug, Clone, Copy)]
pub struct NeonDotprod(());

impl NeonDotprod {
    /// The token, where the CPU and the operating system allow it.
    pub fn new() -> Option<Self> {
        let has = std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("dotprod");
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
#[target_feature(enable = "neon,dotprod")]
unsafe fn vectorized<K: Kernel>(s: NeonDotprod, kernel: K) -> K::Output {
    kernel.run(s)
}

/// acc + Σ w · a over every lane's four bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn sdot(mut acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; nothing but the registers is touched.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {a:v}.16b", acc = inlateout(vreg) acc, w = in(vreg) w, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// acc + Σ w · a over every lane's four bytes, `a` being those of its lane `LANE` for all.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn sdot_lane<const LANE: usize>(mut acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; nothing but the registers is touched.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]", acc = inlateout(vreg) acc, w = in(vreg) w, a = in(vreg) a,
            lane = const LANE, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// The four bytes of each of `rows` rows, four at most, a lane each.
///
/// # Safety
/// `4 * rows` bytes must be readable at `p`, or 16 where there are more than four.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn load_rows(p: *const u8, rows: usize) -> int8x16_t {
    // SAFETY: the caller's.
    unsafe {
        match rows {
            1 => vreinterpretq_s8_u32(vsetq_lane_u32::<0>(p.cast::<u32>().read_unaligned(), vdupq_n_u32(0))),
            2 | 3 => vcombine_s8(vld1_s8(p.cast()), vdup_n_s8(0)),
            _ => vld1q_s8(p.cast()),
        }
    }
}

/// [`Simd::dot_tile`] for a token with the dot product.
///
/// Up to four rows' bytes come with one plain load, and `sdot` picks a lane. A broadcast of each row would take a load and, on most
/// cores, a slot of the units that multiply: a fifth more in a tile of 6 x 16.
macro_rules! sdot_tile {
    () => {
        #[inline(always)]
        unsafe fn dot_tile<const PRODUCT: u8, const R: usize, const V: usize>(
            self,
            acc: &mut [[int32x4_t; V]; R],
            w: &[int8x16_t; V],
            a: *const u8,
        ) {
            use $crate::arch::neon_dotprod::tile_rows;
            // Loops whose length is a constant are unrolled, and then the accumulators are registers: so fours first, then what is left.
            memory!({
                let mut four = 0;
                while four < R / 4 {
                    tile_rows::<4, R, V>(acc, w, a, four * 4);
                    four += 1;
                }
                if R % 4 >= 2 {
                    tile_rows::<2, R, V>(acc, w, a, R / 4 * 4);
                }
                if R % 2 == 1 {
                    tile_rows::<1, R, V>(acc, w, a, R - 1);
                }
            })
        }
    };
}
pub(super) use sdot_tile;

/// ROWS rows of a tile from row `row` on; one, two or four.
///
/// # Safety
/// The CPU must have the dot product, and `4 * R` bytes must be readable at `a`.
#[inline(always)]
pub(super) unsafe fn tile_rows<const ROWS: usize, const R: usize, const V: usize>(
    acc: &mut [[int32x4_t; V]; R],
    w: &[int8x16_t; V],
    a: *const u8,
    row: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let fours = load_rows(a.add(row * 4), ROWS);
        let mut v = 0;
        while v < V {
            acc[row][v] = sdot_lane::<0>(acc[row][v], w[v], fours);
            v += 1;
        }
        let mut v = 0;
        while v < V && ROWS > 1 {
            acc[row + 1][v] = sdot_lane::<1>(acc[row + 1][v], w[v], fours);
            v += 1;
        }
        let mut v = 0;
        while v < V && ROWS > 2 {
            acc[row + 2][v] = sdot_lane::<2>(acc[row + 2][v], w[v], fours);
            v += 1;
        }
        let mut v = 0;
        while v < V && ROWS > 2 {
            acc[row + 3][v] = sdot_lane::<3>(acc[row + 3][v], w[v], fours);
            v += 1;
        }
    }
}

impl Simd for NeonDotprod {
    // 24 accumulators, four weights and two registers with rows' bytes in 32.
    const INT8_ROWS: usize = 6;
    // Twelve integer and twelve float accumulators.
    const GROUP_ROWS: usize = 3;

    quad_methods!();
    sdot_tile!();

    #[inline(always)]
    fn dot(self, acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        token!(sdot(acc, w, a))
    }
}
