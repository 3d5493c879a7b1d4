//! Tiles of int4 and int8 weights with a scale a group.

use super::walk::Tile;
use crate::pack::{GROUP, GroupBits, PackedGroups};
use crate::quantize::{Form, Rows};
use crate::simd::{GROUPED, NIBBLES, PANEL, Simd};

#[derive(Debug, Clone, Copy)]
pub(super) struct Groups<'a>(pub PackedGroups<'a>);

impl Groups<'_> {
    /// Asks for what lies [`AHEAD`] behind byte `index` of the values: hardware that fetches ahead begins anew at every page. Beyond the weight's end
    /// nothing is read.
    #[inline(always)]
    fn prefetch_ahead<S: Simd, const R: usize>(&self, s: S, index: usize) {
        // One row is bound by memory. On a Zen 3, that reads 15 GB/s a thread where it read 12; on others it was not measured.
        if R == 1 && S::LANES == 8 {
            s.prefetch(self.0.values().as_ptr().wrapping_add(index + AHEAD));
        }
    }

    /// Asks for the same group of the next strip, which lies behind this one; beyond the weight's end nothing is read.
    #[inline(always)]
    fn prefetch<S: Simd, const V: usize>(&self, s: S, panel: usize, group: usize) {
        const LINE: usize = 64;
        let (groups, panels) = (self.0.k() / GROUP, V * S::LANES / PANEL);
        let bytes = if self.0.bits() == GroupBits::Int8 { GROUP * PANEL } else { GROUP * PANEL / 2 };
        let mut next = panel + panels;
        while next < panel + 2 * panels {
            let index = next * groups + group;
            let mut line = 0;
            while line < bytes {
                s.prefetch(self.0.values().as_ptr().wrapping_add(index * bytes + line));
                line += LINE;
            }
            s.prefetch(self.0.scales().as_ptr().wrapping_add(index * PANEL).cast());
            next += 1;
        }
    }
}

/// How far ahead of its products one row's weights are asked for, in bytes.
const AHEAD: usize = 1024;
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
    fn rows<S: Simd>(&self, m: usize) -> usize {
        // Three rows of short sums are quicker at once than as two and one. Many are quickest by twos, on the one such instruction set, AVX2.
        if S::SHORT_NIBBLES && self.0.bits() == GroupBits::Int4 && m > S::GROUP_ROWS { 2 } else { S::GROUP_ROWS }
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
                // Once a strip: what the first rows have asked for is there for the others.
                if R > 1 && block == 0 {
                    self.prefetch::<S, V>(s, panel, group);
                }
                // A vector at a time, so that `dot_tile` has a tile of one.
                let mut acc = [[[s.splat_i(0)]; R]; V];
                let mut r = 0;
                while r < R {
                    let start = s.splat_i(*starts.add(r));
                    let mut v = 0;
                    while v < V {
                        acc[v][r] = [start];
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
                                if v == 0 {
                                    self.prefetch_ahead::<S, R>(s, index * PANEL);
                                }
                                s.dot_tile::<GROUPED, R, 1>(&mut acc[v], &[w], a.add(quad * R * 4));
                                v += 1;
                            }
                            quad += 1;
                        }
                    }
                    GroupBits::Int4 => {
                        let mut short = [[s.splat_i(0); R]; V];
                        let mut quad = 0;
                        while quad < QUADS / 2 {
                            let (x, y) = (a.add(quad * R * 4), a.add((quad + QUADS / 2) * R * 4));
                            let mut v = 0;
                            while v < V {
                                let index = ((panel + v / per_panel) * groups + group) * (GROUP / 2) + quad * 4;
                                let w = s.load_b(self.0.values().as_ptr().add(index * PANEL + v % per_panel * S::LANES * 4));
                                if v == 0 {
                                    self.prefetch_ahead::<S, R>(s, index * PANEL);
                                }
                                let (low, high) = s.nibbles(w);
                                if S::SHORT_NIBBLES {
                                    let mut r = 0;
                                    while r < R {
                                        short[v][r] = s.dot_short(short[v][r], low, s.splat_b(x.add(r * 4)));
                                        short[v][r] = s.dot_short(short[v][r], high, s.splat_b(y.add(r * 4)));
                                        r += 1;
                                    }
                                } else {
                                    s.dot_tile::<NIBBLES, R, 1>(&mut acc[v], &[low], x);
                                    s.dot_tile::<NIBBLES, R, 1>(&mut acc[v], &[high], y);
                                }
                                v += 1;
                            }
                            quad += 1;
                        }
                        let mut v = 0;
                        while S::SHORT_NIBBLES && v < V {
                            let mut r = 0;
                            while r < R {
                                acc[v][r] = [s.add_halves(acc[v][r][0], short[v][r])];
                                r += 1;
                            }
                            v += 1;
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
                        total[r][v] = s.fma(s.to_f(acc[v][r][0]), scale, total[r][v]);
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
