//! Tiles of float weights.

use super::walk::Tile;
use crate::pack::PackedFloat;
use crate::quantize::{Form, Rows};
use crate::simd::{PANEL, Simd};

#[derive(Debug, Clone, Copy)]
pub(super) struct Float<'a>(pub PackedFloat<'a>);

impl Tile for Float<'_> {
    const ACTIVATION: usize = 4;
    const ACCUMULATORS: usize = 1;

    fn shape(&self) -> (usize, usize) {
        (self.0.n(), self.0.k())
    }

    fn form(&self) -> Form {
        Form::Float
    }

    #[inline(always)]
    fn most_rows<S: Simd>() -> usize {
        S::F32_ROWS
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&self, s: S, rows: &Rows, block: usize, panel: usize) -> [[S::F; V]; R] {
        let k = self.0.k();
        let per_panel = PANEL / S::LANES;
        let mut acc = [[s.splat(0.0); V]; R];
        // SAFETY: the caller's: the panels exist, and so does the block.
        unsafe {
            let mut a = rows.floats.as_ptr().add(block * k * R);
            let mut i = 0;
            while i < k {
                let mut weights = [s.splat(0.0); V];
                let mut v = 0;
                while v < V {
                    let index = ((panel + v / per_panel) * k + i) * PANEL + v % per_panel * S::LANES;
                    weights[v] = self.0.load(s, index);
                    v += 1;
                }
                let mut r = 0;
                while r < R {
                    let x = s.splat(*a.add(r));
                    let mut v = 0;
                    while v < V {
                        acc[r][v] = s.fma(weights[v], x, acc[r][v]);
                        v += 1;
                    }
                    r += 1;
                }
                a = a.add(R);
                i += 1;
            }
            acc
        }
    }
}
