//! Convolutions with few float weights, such as a network's first: nothing is gathered.
//!
//! A window's values lie in lines, one a row of the window and plane of a planar picture. The lines of a row of windows are copied to where
//! zeros lie to their left and right, and then a tile is some windows side by side times some output channels: what it broadcasts is
//! read where it lies. All weights stay in the nearest cache; where they are too many for that, windows become rows of a linear layer.

use std::mem::MaybeUninit;

use super::band::{Line, Scratch, at_least};
use super::geometry::Geometry;
use super::windows::{Layout, Picture, copy, fill};
use crate::linear::epilogue::{Epilogue, Part, finish, write_clamped};
use crate::pack::PackedFloat;
use crate::shared::SharedMut;
use crate::simd::{Kernel, PANEL, Simd};

/// Bytes that a weight may have.
pub(super) const MOST: usize = 24 << 10;

/// How the windows of a row lie in lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// Planes that a window is taken from.
    planes: usize,
    /// Floats of a pixel in a plane.
    pixel: usize,
    /// Floats of a line, and of those the first of the picture's.
    len: usize,
    left: usize,
}

impl Lines {
    pub(super) fn new(picture: Picture<'_>, geometry: Geometry) -> Self {
        let (planes, pixel) = match picture.layout {
            Layout::Planar => (picture.channels, 1),
            Layout::Interleaved => (1, picture.channels),
        };
        let windows = (geometry.out_width() - 1) * geometry.stride() + geometry.kernel();
        let len = windows.max(geometry.left() + geometry.width()) * pixel;
        Self { planes, pixel, len, left: geometry.left() * pixel }
    }
}

/// Output rows from…to, counted through the whole batch.
pub(super) struct Direct<'a> {
    pub picture: Picture<'a>,
    pub geometry: Geometry,
    pub lines: Lines,
    pub weight: PackedFloat<'a>,
    pub epilogue: Epilogue<'a>,
    pub scratch: &'a mut Scratch,
    pub rows: (usize, usize),
    pub out: SharedMut<f32>,
}

impl Kernel for Direct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { picture, geometry, lines, weight, epilogue, scratch, rows, out } = self;
        let Lines { planes, pixel, len, left } = lines;
        let (kernel, height, width) = (geometry.kernel(), geometry.height(), geometry.width() * pixel);
        let floats = planes * kernel * len + PANEL;
        at_least(&mut scratch.ring, floats.div_ceil(PANEL), Line::default());
        scratch.ring[..floats.div_ceil(PANEL)].fill(Line::default());
        let buffer = scratch.ring.as_mut_ptr().cast::<f32>();
        let panels = weight.n().div_ceil(PANEL);
        for row in rows.0..rows.1 {
            let (image, y) = (row / geometry.out_height(), row % geometry.out_height());
            for line in 0..planes * kernel {
                let y = (y * geometry.stride() + line % kernel).checked_sub(geometry.top()).filter(|&y| y < height);
                // SAFETY: lines lie in the buffer with a panel behind them, and rows in the picture. What is written behind a line's
                // values is zero, as it was, or is the next line's and written after it.
                unsafe {
                    let to = buffer.add(line * len + left);
                    match y {
                        Some(y) => {
                            let plane = image * planes + line / kernel;
                            copy(s, picture.values.as_ptr().add((plane * height + y) * width), to, width);
                        }
                        None => fill(s, to, width),
                    }
                }
            }
            let windows = Row { lines: buffer, count: planes * kernel, len, run: kernel * pixel, step: geometry.stride() * pixel };
            let row = TileRow { windows, weight, epilogue: &epilogue, first: row * geometry.out_width(), width: geometry.out_width(), out };
            let mut panel = 0;
            while panel < panels {
                // As many windows and vectors as accumulators find registers for.
                if S::LANES == 16 && panels - panel >= 2 {
                    row.tiles::<S, 8, 2>(s, panel);
                    panel += 1;
                } else if S::LANES == 16 {
                    row.tiles::<S, 8, 1>(s, panel);
                } else if S::LANES == 8 {
                    row.tiles::<S, 6, 2>(s, panel);
                } else {
                    row.tiles::<S, 4, 4>(s, panel);
                }
                panel += 1;
            }
        }
    }
}

/// The lines of a row of windows.
#[derive(Debug, Clone, Copy)]
struct Row {
    lines: *const f32,
    count: usize,
    /// From one line to the next.
    len: usize,
    /// Floats of a window's line, and from one window to the next.
    run: usize,
    step: usize,
}

struct TileRow<'a> {
    windows: Row,
    weight: PackedFloat<'a>,
    epilogue: &'a Epilogue<'a>,
    /// Index of the first window.
    first: usize,
    width: usize,
    out: SharedMut<f32>,
}

impl TileRow<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(&self, s: S, panel: usize) {
        if V * S::LANES > 2 * PANEL {
            return;
        }
        let mut x = 0;
        // SAFETY: windows and panels exist.
        unsafe {
            while x + R <= self.width {
                self.tile::<S, R, V>(s, panel, x);
                x += R;
            }
            if x == self.width {
                return;
            }
            if self.width >= R {
                // Some windows again, rather than fewer at once.
                return self.tile::<S, R, V>(s, panel, self.width - R);
            }
            while x < self.width {
                self.tile::<S, 1, V>(s, panel, x);
                x += 1;
            }
        }
    }

    /// # Safety
    /// R windows from `x` on exist, and panels for V vectors.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&self, s: S, panel: usize, x: usize) {
        let Row { lines, count, len, run, step } = self.windows;
        let (n, k) = (self.weight.n(), self.weight.k());
        let per_panel = PANEL / S::LANES;
        let mut acc = [[s.splat(0.0); V]; R];
        // SAFETY: the caller's.
        unsafe {
            let mut tap = 0;
            let mut line = 0;
            while line < count {
                let mut pixels = [std::ptr::null(); R];
                let mut r = 0;
                while r < R {
                    pixels[r] = lines.add(line * len + (x + r) * step);
                    r += 1;
                }
                let mut i = 0;
                while i < run {
                    let mut weights = [s.splat(0.0); V];
                    let mut v = 0;
                    while v < V {
                        weights[v] = self.weight.load(s, (panel + v / per_panel) * k * PANEL + tap * PANEL + v % per_panel * S::LANES);
                        v += 1;
                    }
                    let mut r = 0;
                    while r < R {
                        let pixel = s.splat(*pixels[r].add(i));
                        let mut v = 0;
                        while v < V {
                            acc[r][v] = s.fma(weights[v], pixel, acc[r][v]);
                            v += 1;
                        }
                        r += 1;
                    }
                    tap += 1;
                    i += 1;
                }
                line += 1;
            }
            let column = panel * PANEL;
            let part = Part { row: self.first + x, rows: R, column, columns: (V * S::LANES).min(n - column), n };
            if let Some(range) = self.epilogue.activation.range() {
                return write_clamped::<S, R, V>(s, acc, range, part, self.epilogue, self.out.at(0));
            }
            let mut buffer = [MaybeUninit::<f32>::uninit(); 8 * 2 * PANEL];
            let buffer = buffer.as_mut_ptr().cast::<f32>();
            let mut r = 0;
            while r < R {
                let mut v = 0;
                while v < V {
                    s.store(buffer.add((r * V + v) * S::LANES), acc[r][v]);
                    v += 1;
                }
                r += 1;
            }
            finish(s, buffer, V * S::LANES, part, self.epilogue, self.out.at(0));
        }
    }
}
