//! Tiles of int8 weights with a scale an output channel.

use super::walk::Tile;
use crate::pack::PackedInt8;
use crate::quantize::{Form, Rows};
use crate::simd::{PANEL, Simd};

#[derive(Debug, Clone, Copy)]
pub(super) struct Int8<'a>(pub PackedInt8<'a>);

impl Tile for Int8<'_> {
    const ACTIVATION: usize = 1;
    const ACCUMULATORS: usize = 1;

    fn shape(&self) -> (usize, usize) {
        (self.0.n(), self.0.k())
    }

    fn form(&self) -> Form {
        Form::Int8
    }

    #[inline(always)]
    fn most_rows<S: Simd>() -> usize {
        S::INT8_ROWS
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&self, s: S, rows: &Rows, block: usize, panel: usize, out: *mut f32) {
        let quads = self.0.k().div_ceil(4);
        // SAFETY: the caller's: the panels exist, and so does the block.
        unsafe {
            let a = rows.bytes.as_ptr().add(block * quads * R * 4);
            let sums = self.0.sums().as_ptr().add(panel * PANEL);
            let scales = self.0.scales().as_ptr().add(panel * PANEL);
            let mut acc = [[s.splat_i(0); V]; R];
            if S::ACTIVATION_OFFSET != 0 {
                // The offset multiplies every weight once too often: begin with that much less.
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
            let w = self.0.values().as_ptr().cast::<u8>().add(panel * quads * PANEL * 4);
            s.dot_columns(&mut acc, w, quads * PANEL * 4, a, quads);
            let row_scales = rows.scales.as_ptr().add(block * R);
            let mut r = 0;
            while r < R {
                let row_scale = s.splat(*row_scales.add(r));
                let mut v = 0;
                while v < V {
                    let scale = s.mul(row_scale, s.load(scales.add(v * S::LANES)));
                    s.store(out.add((r * V + v) * S::LANES), s.mul(s.to_f(acc[r][v]), scale));
                    v += 1;
                }
                r += 1;
            }
        }
    }
}
