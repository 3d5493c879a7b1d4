//! Tiles of int4 and int8 weights with a scale a group.

use super::walk::Tile;
use crate::pack::{GROUP, GroupBits, PackedGroups};
use crate::quantize::{Form, Rows};
use crate::simd::{PANEL, Simd};

#[derive(Debug, Clone, Copy)]
pub(super) struct Groups<'a>(pub PackedGroups<'a>);

/// Groups of four input channels in a group.
const QUADS: usize = GROUP / 4;

impl Tile for Groups<'_> {
    const ACTIVATION: usize = 1;
    const ACCUMULATORS: usize = 2;

    fn shape(&self) -> (usize, usize) {
        (self.0.n(), self.0.k())
    }

    fn form(&self) -> Form {
        Form::Groups { nibbles: self.0.bits() == GroupBits::Int4 }
    }

    #[inline(always)]
    fn most_rows<S: Simd>() -> usize {
        S::GROUP_ROWS
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&self, s: S, rows: &Rows, block: usize, panel: usize) -> [[S::F; V]; R] {
        let groups = self.0.k() / GROUP;
        let per_panel = PANEL / S::LANES;
        let mut total = [[s.splat(0.0); V]; R];
        // SAFETY: the caller's: the panels exist, and so does the block.
        unsafe {
            let mut group = 0;
            while group < groups {
                let at = (block * groups + group) * R;
                let starts = rows.starts.as_ptr().add(at);
                let row_scales = rows.scales.as_ptr().add(at);
                let a = rows.bytes.as_ptr().add(at * GROUP);
                let mut acc = [[s.splat_i(0); V]; R];
                let mut r = 0;
                while r < R {
                    let start = s.splat_i(*starts.add(r));
                    let mut v = 0;
                    while v < V {
                        acc[r][v] = start;
                        v += 1;
                    }
                    r += 1;
                }
                match self.0.bits() {
                    GroupBits::Int8 => {
                        let mut quad = 0;
                        while quad < QUADS {
                            let mut v = 0;
                            while v < V {
                                let index = ((panel + v / per_panel) * groups + group) * GROUP + quad * 4;
                                let w = s.load_b(self.0.values().as_ptr().add(index * PANEL + v % per_panel * S::LANES * 4));
                                let mut r = 0;
                                while r < R {
                                    acc[r][v] = s.dot_grouped(acc[r][v], w, s.splat_b(a.add((quad * R + r) * 4)));
                                    r += 1;
                                }
                                v += 1;
                            }
                            quad += 1;
                        }
                    }
                    GroupBits::Int4 => {
                        let mut quad = 0;
                        while quad < QUADS / 2 {
                            let mut v = 0;
                            while v < V {
                                let index = ((panel + v / per_panel) * groups + group) * (GROUP / 2) + quad * 4;
                                let w = s.load_b(self.0.values().as_ptr().add(index * PANEL + v % per_panel * S::LANES * 4));
                                let (low, high) = s.nibbles(w);
                                let mut r = 0;
                                while r < R {
                                    let first = s.dot_nibbles(acc[r][v], low, s.splat_b(a.add((quad * R + r) * 4)));
                                    let second = s.splat_b(a.add(((quad + QUADS / 2) * R + r) * 4));
                                    acc[r][v] = s.dot_nibbles(first, high, second);
                                    r += 1;
                                }
                                v += 1;
                            }
                            quad += 1;
                        }
                    }
                }
                let mut v = 0;
                while v < V {
                    let index = ((panel + v / per_panel) * groups + group) * PANEL + v % per_panel * S::LANES;
                    let scale = s.load_f16(self.0.scales().as_ptr().add(index));
                    let mut r = 0;
                    while r < R {
                        let scale = s.mul(scale, s.splat(*row_scales.add(r)));
                        total[r][v] = s.fma(s.to_f(acc[r][v]), scale, total[r][v]);
                        r += 1;
                    }
                    v += 1;
                }
                group += 1;
            }
            total
        }
    }
}
