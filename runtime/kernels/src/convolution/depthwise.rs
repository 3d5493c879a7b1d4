//! One panel of channels of a depthwise convolution.
//!
//! A panel's rows lie `[W][16]` with their padding, so a window needs no look at the edges. All taps of a panel are held in registers, where
//! there are enough, and a few pixels side by side are summed at once, so that no sum waits for the one before.

use super::weight::PackedDepthwise;
use crate::linear::epilogue::Fixed;
use crate::simd::{Kernel, PANEL, Simd};

/// Rows of output of one panel.
pub(super) struct Panel<'a> {
    pub weight: PackedDepthwise<'a>,
    pub bias: Option<&'a [f32]>,
    pub fraction_bits: Option<u8>,
    /// First channel.
    pub channel: usize,
    /// What results are clamped to.
    pub range: (f32, f32),
    pub stride: usize,
    /// The rows that windows begin in and those below them, `[rows][k]`.
    pub rows: &'a [*const f32],
    /// Pixels of a row that goes out.
    pub width: usize,
    /// `[rows][width]`, each `out_pixel` floats after the one before.
    pub out: *mut f32,
    pub out_pixel: usize,
}

impl Kernel for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut v = 0;
        while v < PANEL / S::LANES {
            match (self.weight.kernel(), self.stride) {
                (3, 1) => self.unrolled::<S, 3, 1>(s, v * S::LANES),
                (3, 2) => self.unrolled::<S, 3, 2>(s, v * S::LANES),
                (5, 1) => self.unrolled::<S, 5, 1>(s, v * S::LANES),
                (5, 2) => self.unrolled::<S, 5, 2>(s, v * S::LANES),
                _ => self.any(s, v * S::LANES),
            }
            v += 1;
        }
    }
}

/// The bias of one vector of channels: zero where there is none, and beyond the last channel.
///
/// # Safety
/// The bias has `n` elements.
#[inline(always)]
pub(super) unsafe fn bias_of<S: Simd>(s: S, bias: Option<&[f32]>, channel: usize, n: usize) -> S::F {
    match bias {
        // SAFETY: the caller's.
        Some(bias) if channel < n => unsafe { s.load_part(bias.as_ptr().add(channel), n - channel) },
        _ => s.splat(0.0),
    }
}

/// What happens to a vector of sums.
#[derive(Clone, Copy)]
struct End<S: Simd> {
    /// What sums begin with.
    start: S::F,
    /// Where results have a certain number of bits: how many steps a sum's one is, and the bias.
    fixed: Option<(Fixed<S>, S::F, S::F)>,
    low: S::F,
    high: S::F,
}

impl<S: Simd> End<S> {
    #[inline(always)]
    fn of(&self, s: S, sum: S::F) -> S::F {
        let y = match self.fixed {
            Some((fixed, scale, bias)) => fixed.round_add(s, s.mul(sum, scale), bias),
            None => sum,
        };
        s.min(self.high, s.max(self.low, y))
    }
}

impl Panel<'_> {
    /// For the vector of channels from `lane` on.
    ///
    /// # Safety
    /// The channels exist but for padding.
    #[inline(always)]
    unsafe fn end<S: Simd>(&self, s: S, lane: usize) -> End<S> {
        let (low, high) = (s.splat(self.range.0), s.splat(self.range.1));
        // SAFETY: the caller's; scales are padded.
        let bias = unsafe { bias_of(s, self.bias, self.channel + lane, self.weight.channels()) };
        match Fixed::new(s, self.fraction_bits) {
            Some(fixed) => {
                // SAFETY: as above.
                let scale = fixed.in_steps(s, unsafe { self.weight.scale(s, self.channel + lane) });
                End { start: s.splat(0.0), fixed: Some((fixed, scale, fixed.round(s, bias))), low, high }
            }
            None => End { start: bias, fixed: None, low, high },
        }
    }

    /// One vector of a tap's weights: as whole numbers where the scale comes after the sum.
    ///
    /// # Safety
    /// The tap exists, and so do the channels but for padding.
    #[inline(always)]
    unsafe fn weight<S: Simd>(&self, s: S, tap: usize, lane: usize) -> S::F {
        let channel = self.channel + lane;
        // SAFETY: the caller's.
        unsafe {
            let weight = self.weight.load(s, tap, channel);
            if self.fraction_bits.is_some() { weight } else { s.mul(weight, self.weight.scale(s, channel)) }
        }
    }

    #[inline(always)]
    fn unrolled<S: Simd, const K: usize, const STRIDE: usize>(&self, s: S, lane: usize) {
        let mut weights = [[s.splat(0.0); K]; K];
        // SAFETY: taps and channels exist, and so do rows, with whole panels.
        unsafe {
            let mut tap = 0;
            while tap < K * K {
                weights[tap / K][tap % K] = self.weight(s, tap, lane);
                tap += 1;
            }
            let end = self.end(s, lane);
            let mut row = 0;
            while row * K < self.rows.len() {
                let mut rows = [std::ptr::null(); K];
                let mut ky = 0;
                while ky < K {
                    rows[ky] = (*self.rows.get_unchecked(row * K + ky)).add(lane);
                    ky += 1;
                }
                let out = self.out.add(row * self.width * self.out_pixel + lane);
                // As many sums as the taps leave registers for; taps that find none are read from memory, each once for all sums.
                if K == 5 && S::LANES != 8 {
                    self.row::<S, K, STRIDE, 4>(s, rows, &weights, &end, out);
                } else {
                    self.row::<S, K, STRIDE, 7>(s, rows, &weights, &end, out);
                }
                row += 1;
            }
        }
    }

    /// # Safety
    /// The rows exist, and what goes out.
    #[inline(always)]
    unsafe fn row<S: Simd, const K: usize, const STRIDE: usize, const P: usize>(
        &self,
        s: S,
        rows: [*const f32; K],
        weights: &[[S::F; K]; K],
        end: &End<S>,
        out: *mut f32,
    ) {
        // SAFETY: windows of pixels that go out lie within the rows.
        unsafe {
            let mut x = 0;
            while x + P <= self.width {
                self.pixels::<S, K, STRIDE, P>(s, rows, weights, end, out, x);
                x += P;
            }
            if x == self.width {
                return;
            }
            if self.width >= P {
                // Some pixels again, rather than fewer at once.
                return self.pixels::<S, K, STRIDE, P>(s, rows, weights, end, out, self.width - P);
            }
            while x < self.width {
                self.pixels::<S, K, STRIDE, 1>(s, rows, weights, end, out, x);
                x += 1;
            }
        }
    }

    /// # Safety
    /// As above, and the pixels exist.
    #[inline(always)]
    unsafe fn pixels<S: Simd, const K: usize, const STRIDE: usize, const P: usize>(
        &self,
        s: S,
        rows: [*const f32; K],
        weights: &[[S::F; K]; K],
        end: &End<S>,
        out: *mut f32,
        x: usize,
    ) {
        let mut acc = [end.start; P];
        let mut ky = 0;
        while ky < K {
            let mut kx = 0;
            while kx < K {
                let mut p = 0;
                while p < P {
                    // SAFETY: the caller's.
                    let pixel = unsafe { s.load(rows[ky].add((x * STRIDE + p * STRIDE + kx) * PANEL)) };
                    acc[p] = s.fma(pixel, weights[ky][kx], acc[p]);
                    p += 1;
                }
                kx += 1;
            }
            ky += 1;
        }
        let mut p = 0;
        while p < P {
            // SAFETY: the caller's.
            unsafe { s.store(out.add((x + p) * self.out_pixel), end.of(s, acc[p])) };
            p += 1;
        }
    }

    /// Any size of window and any stride.
    #[inline(always)]
    fn any<S: Simd>(&self, s: S, lane: usize) {
        let kernel = self.weight.kernel();
        // SAFETY: taps and channels exist, and so do rows, with whole panels.
        unsafe {
            let end = self.end(s, lane);
            for (row, rows) in self.rows.chunks_exact(kernel).enumerate() {
                let out = self.out.add(row * self.width * self.out_pixel + lane);
                for x in 0..self.width {
                    let mut acc = end.start;
                    for (ky, from) in rows.iter().enumerate() {
                        for kx in 0..kernel {
                            let weight = self.weight(s, ky * kernel + kx, lane);
                            acc = s.fma(s.load(from.add((x * self.stride + kx) * PANEL + lane)), weight, acc);
                        }
                    }
                    s.store(out.add(x * self.out_pixel), end.of(s, acc));
                }
            }
        }
    }
}
