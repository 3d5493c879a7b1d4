//! Convolutions whose windows are rows of a linear layer: a network's first, and a vision transformer's patches.

use super::Scratch;
use super::direct::{self, Direct, Lines};
use super::geometry::Geometry;
use crate::linear::{Engine, Epilogue, Weight};
use crate::pack::{PackedFloat, padded};
use crate::quantize::Source;
use crate::shared::SharedMut;
use crate::simd::Simd;

/// How a picture's channels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[C][H][W]`
    Planar,
    /// `[H][W][C]`
    Interleaved,
}

/// Pictures, one behind another.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// `[batch][C][H][W]` or `[batch][H][W][C]`
    pub values: &'a [f32],
    /// Channels of a pixel.
    pub channels: usize,
    /// Which of both.
    pub layout: Layout,
}

/// The windows over a picture, each a row of a linear layer's input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows<'a> {
    picture: Picture<'a>,
    geometry: Geometry,
}

impl Windows<'_> {
    /// Values of a window.
    pub(crate) fn width(&self) -> usize {
        self.geometry.kernel() * self.geometry.kernel() * self.picture.channels
    }

    /// Writes window `index`: `[C][k][k]` of planar pictures, `[k][k][C]` of others. What follows it, up to a vector more, becomes
    /// anything.
    ///
    /// # Safety
    /// The window exists, and there is room for it and a panel more.
    #[inline(always)]
    pub(crate) unsafe fn gather<S: Simd>(&self, s: S, index: usize, mut to: *mut f32) {
        let (geometry, channels) = (self.geometry, self.picture.channels);
        let (image, window) = (index / geometry.out_pixels(), index % geometry.out_pixels());
        let (height, width, kernel) = (geometry.height(), geometry.width(), geometry.kernel());
        // Of runs, a window's side in one plane or in all, some first and some last values may lie outside.
        let y = (window / geometry.out_width() * geometry.stride()) as isize - geometry.top() as isize;
        let x = (window % geometry.out_width() * geometry.stride()) as isize - geometry.left() as isize;
        let before = (-x).max(0) as usize;
        let after = (x + kernel as isize - width as isize).max(0) as usize;
        let (planes, pixel) = match self.picture.layout {
            Layout::Planar => (channels, 1),
            Layout::Interleaved => (1, channels),
        };
        let row = width * pixel;
        // SAFETY: reads are within the picture, which has the window but for what `before` and `after` leave out.
        unsafe {
            let mut plane = 0;
            while plane < planes {
                let base = self.picture.values.as_ptr().add((image * planes + plane) * height * row);
                let mut ky = 0;
                while ky < kernel {
                    let y = y + ky as isize;
                    if y < 0 || y >= height as isize {
                        fill(s, to, kernel * pixel);
                    } else {
                        let from = base.offset(y * row as isize + (x + before as isize) * pixel as isize);
                        fill(s, to, before * pixel);
                        copy(s, from, to.add(before * pixel), (kernel - before - after) * pixel);
                        fill(s, to.add((kernel - after) * pixel), after * pixel);
                    }
                    to = to.add(kernel * pixel);
                    ky += 1;
                }
                plane += 1;
            }
        }
    }
}

/// Copies floats in whole vectors: zeros follow.
///
/// # Safety
/// `len` floats are there, and room for a vector more.
#[inline(always)]
pub(super) unsafe fn copy<S: Simd>(s: S, from: *const f32, to: *mut f32, len: usize) {
    let mut i = 0;
    while i < len {
        // SAFETY: the caller's.
        unsafe {
            let x = if len - i >= S::LANES { s.load(from.add(i)) } else { s.load_part(from.add(i), len - i) };
            s.store(to.add(i), x);
        }
        i += S::LANES;
    }
}

/// Zeros in whole vectors.
///
/// # Safety
/// There is room for `len` floats and a vector more.
#[inline(always)]
pub(super) unsafe fn fill<S: Simd>(s: S, to: *mut f32, len: usize) {
    let mut i = 0;
    while i < len {
        // SAFETY: the caller's.
        unsafe { s.store(to.add(i), s.splat(0.0)) };
        i += S::LANES;
    }
}

impl Engine<'_> {
    /// Writes activation(convolution + b) + residual to `out`, `[batch][H′ · W′][N]`.
    ///
    /// The weight is `[N][K]` with K in the order of a window's values: `[C][k][k]` for planar pictures, which is how other frameworks
    /// have it, `[k][k][C]` for interleaved ones. Windows are quantized each by itself where the weight is of integers.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn convolution(&mut self, picture: Picture<'_>, geometry: Geometry, weight: Weight<'_>, epilogue: Epilogue<'_>, out: &mut [f32]) {
        let image = picture.channels * geometry.pixels();
        let len = picture.values.len();
        assert!(image > 0 && len.is_multiple_of(image), "{len} values are not pictures of {image}");
        let rows = len / image * geometry.out_pixels();
        if let Weight::Float(weight) = weight
            && padded(weight.n()) * weight.k() * size_of::<f32>() <= direct::MOST
        {
            return self.direct(picture, geometry, weight, epilogue, rows, out);
        }
        let windows = Windows { picture, geometry };
        self.multiply(Source::Windows { windows, first: 0, rows }, weight, epilogue, out);
    }

    fn direct(
        &mut self,
        picture: Picture<'_>,
        geometry: Geometry,
        weight: PackedFloat<'_>,
        epilogue: Epilogue<'_>,
        windows: usize,
        out: &mut [f32],
    ) {
        let (n, k) = (weight.n(), weight.k());
        let width = Windows { picture, geometry }.width();
        assert!(width == k, "windows of {width} values for {k} input channels");
        assert!(out.len() == windows * n, "{} results where {windows} x {n} are computed", out.len());
        epilogue.check(windows, n);
        let rows = windows / geometry.out_width();
        let tasks = if windows * n * k < 1 << 16 { 1 } else { self.pool.threads().min(rows) };
        if self.scratch.len() < tasks {
            self.scratch.resize_with(tasks, Scratch::default);
        }
        let (isa, out, scratch) = (self.isa, SharedMut::new(out), SharedMut::new(&mut self.scratch));
        let lines = Lines::new(picture, geometry);
        self.pool.run(tasks, &|task| {
            // SAFETY: each task has a scratch of its own.
            let scratch = unsafe { &mut *scratch.at(task) };
            let rows = (rows * task / tasks, rows * (task + 1) / tasks);
            isa.run(Direct { picture, geometry, lines, weight, epilogue, scratch, rows, out });
        });
    }
}
