//! Tiles of int8 weights with a scale an output channel.

use super::walk::Tile;
use crate::pack::PackedInt8;
use crate::quantize::{Form, Rows};
use crate::simd::{PANEL, Simd};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8<'a>(pub PackedInt8<'a>);

impl Tile for Int8<'_> {
    const ACTIVATION: usize = 1;
    const ACCUMULATORS: usize = 1;

    fn shape(&self) -> (usize, usize) {
        (self.0.n(), self.0.k())
    }

    fn form(&self) -> Form {
        Form::Int8
    }

    fn activation<S: Simd>() -> usize {
        if S::SIGNS_APART { 2 } else { Self::ACTIVATION }
    }

    #[inline(always)]
    fn most_rows<S: Simd>() -> usize {
        S::INT8_ROWS
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&self, s: S, rows: &Rows, block: usize, panel: usize) -> [[S::F; V]; R] {
        let mut out = [[s.splat(0.0); V]; R];
        // SAFETY: the caller's: the panels exist, and so does the block.
        unsafe {
            let acc = accumulate::<S, R, V>(s, self.0, rows, block, panel);
            let scales = self.0.scales().as_ptr().add(panel * PANEL);
            let row_scales = rows.scales.as_ptr().add(block * R);
            let mut r = 0;
            while r < R {
                let row_scale = s.splat(*row_scales.add(r));
                let mut v = 0;
                while v < V {
                    let scale = s.mul(row_scale, s.load(scales.add(v * S::LANES)));
                    out[r][v] = s.mul(s.to_f(acc[r][v]), scale);
                    v += 1;
                }
                r += 1;
            }
        }
        out
    }
}

/// Products of a block of R rows of bytes and V vectors of output channels from panel `panel` on.
///
/// # Safety
/// The panels and the block exist.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const R: usize, const V: usize>(
    s: S,
    weight: PackedInt8<'_>,
    rows: &Rows,
    block: usize,
    panel: usize,
) -> [[S::I; V]; R] {
    let quads = weight.k().div_ceil(4);
    let panel_stride = quads * PANEL * 4;
    let mut acc = [[s.splat_i(0); V]; R];
    // SAFETY: the caller's.
    unsafe {
        if S::ACTIVATION_OFFSET != 0 {
            // The offset multiplies every weight once too often: begin with that much less.
            let sums = weight.sums().as_ptr().add(panel * PANEL);
            let mut v = 0;
            while v < V {
                let start = s.scale_i(s.load_i(sums.add(v * S::LANES)), -S::ACTIVATION_OFFSET);
                let mut r = 0;
                while r < R {
                    acc[r][v] = start;
                    r += 1;
                }
                v += 1;
            }
        }
        let fours = block * quads * R;
        let mut a = rows.bytes.as_ptr().wrapping_add(fours * 4);
        let w = weight.values().as_ptr().cast::<u8>().add(panel * panel_stride);
        if S::SIGNS_APART {
            let (starts, mut any) = (rows.starts.as_ptr().add(block * R), 0);
            let mut r = 0;
            while r < R {
                acc[r] = [s.splat_i(*starts.add(r)); V];
                any |= *starts.add(r);
                r += 1;
            }
            if any == 0 {
                s.dot_unsigned_columns(&mut acc, w, panel_stride, a, quads);
                return acc;
            }
            a = rows.apart.as_ptr().add(fours * 8);
        }
        s.dot_columns(&mut acc, w, panel_stride, a, quads);
    }
    acc
}
