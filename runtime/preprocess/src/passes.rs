//! The two passes of a resize: across rows, and down columns.
//!
//! [`Weight`] has both as plain loops, for every target. On x86 with AVX2 [`pulp`] compiles these for it, and 8-bit pictures have passes
//! of their own in [`avx2`].

use crate::axis::Axis;

#[cfg(target_arch = "x86_64")]
mod avx2;

pub(crate) const CHANNELS: usize = 3;
/// Rows that share the loads of their weights.
pub(crate) const ROWS: usize = 4;
/// A window is filled up with zeros to a multiple of this many pixels.
const GROUP: usize = 4;
/// A pass may load this many bytes beyond the last pixel of a window.
const BEYOND: usize = 4;
/// Columns that are summed side by side.
const COLUMNS: usize = 16;

/// Which passes this processor takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
}

impl Isa {
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = pulp::x86::V3::try_new() {
            return Self::Avx2(token);
        }
        Self::Portable
    }
}

/// The weights of a pass across rows of one width.
#[derive(Debug, Clone, Default)]
pub(crate) struct Across<W> {
    /// Where windows begin, in bytes of a row.
    firsts: Vec<usize>,
    /// `[outputs][window]`
    weights: Vec<W>,
    /// Pixels.
    window: usize,
    shift: u32,
    least: usize,
}

impl<W: Weight> Across<W> {
    /// For rows that begin at source pixel `from` and are `width` pixels wide.
    pub fn lay_out(&mut self, axis: &Axis<W>, from: usize, width: usize) {
        self.window = axis.longest().max(1).next_multiple_of(GROUP);
        self.least = width.max(self.window) * CHANNELS + BEYOND;
        self.shift = axis.shift;
        self.firsts.clear();
        self.weights.clear();
        // A window that would leave the row is moved back, with zeros before its weights.
        let last = width.saturating_sub(self.window);
        for (first, weights) in axis.iter() {
            let wanted = if weights.is_empty() { 0 } else { first - from };
            let first = wanted.min(last);
            self.firsts.push(first * CHANNELS);
            self.weights.extend(std::iter::repeat_n(W::default(), wanted - first));
            self.weights.extend_from_slice(weights);
            self.weights.resize(self.firsts.len() * self.window, W::default());
        }
    }

    /// Bytes a row has to have, at least: what follows its pixels does not matter.
    pub fn least(&self) -> usize {
        self.least
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[W])> {
        self.firsts.iter().copied().zip(self.weights.chunks_exact(self.window))
    }
}

/// One output row: a sum of rows, each times its weight.
pub(crate) struct Down<'a, W: Weight> {
    /// Rows as long as `out`; after the last of them comes the first.
    pub ring: &'a [W::Sample],
    pub slots: usize,
    /// The slot of the row that `weights[0]` is for.
    pub slot: usize,
    pub weights: &'a [W],
    pub shift: u32,
    pub out: &'a mut [W::Sample],
}

impl<W: Weight> Down<'_, W> {
    #[inline(always)]
    fn row(&self, i: usize) -> &[W::Sample] {
        let (stride, slot) = (self.out.len(), self.slot + i);
        let slot = if slot < self.slots { slot } else { slot - self.slots };
        &self.ring[slot * stride..][..stride]
    }
}

/// A weight, what its products sum to, and what a sum becomes.
pub(crate) trait Weight: Copy + Default {
    type Sum: Copy + Default;
    /// A value between the two passes, and after them.
    type Sample: Copy + Default;

    fn add_pixel(self, sum: Self::Sum, pixel: u8) -> Self::Sum;
    fn add_sample(self, sum: Self::Sum, sample: Self::Sample) -> Self::Sum;
    fn sample(pixel: u8) -> Self::Sample;
    /// From `shift` fractional bits.
    fn finish(sum: Self::Sum, shift: u32) -> Self::Sample;

    /// Resizes `N` rows.
    fn across<const N: usize>(isa: Isa, across: &Across<Self>, rows: [&[u8]; N], out: [&mut [Self::Sample]; N]) {
        match isa {
            Isa::Portable => portable_across(across, rows, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => pulp::Simd::vectorize(token, avx2::Call(move || portable_across(across, rows, out))),
        }
    }

    /// Computes one output row.
    fn down(isa: Isa, down: Down<'_, Self>) {
        match isa {
            Isa::Portable => portable_down(down, 0),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => pulp::Simd::vectorize(token, avx2::Call(move || portable_down(down, 0))),
        }
    }
}

#[inline(always)]
fn portable_across<W: Weight, const N: usize>(across: &Across<W>, rows: [&[u8]; N], out: [&mut [W::Sample]; N]) {
    for (row, out) in rows.into_iter().zip(out) {
        for ((first, weights), out) in across.iter().zip(out.as_chunks_mut::<CHANNELS>().0) {
            // Four lanes, of which the last is the red of the pixel that follows: cheaper than three.
            let mut sums = [W::Sum::default(); 4];
            let pixels = row[first..].windows(4).step_by(CHANNELS);
            for (weight, pixel) in weights.iter().zip(pixels) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum = weight.add_pixel(*sum, value);
                }
            }
            let [r, g, b, _] = sums;
            *out = [r, g, b].map(|sum| W::finish(sum, across.shift));
        }
    }
}

/// The columns from `from` on.
#[inline(always)]
fn portable_down<W: Weight>(down: Down<'_, W>, from: usize) {
    let blocks = (down.out.len() - from) / COLUMNS;
    for at in (0..blocks).map(|block| from + block * COLUMNS) {
        let mut sums = [W::Sum::default(); COLUMNS];
        for (i, weight) in down.weights.iter().enumerate() {
            if let Some(samples) = down.row(i)[at..].first_chunk::<COLUMNS>() {
                for (sum, &sample) in sums.iter_mut().zip(samples) {
                    *sum = weight.add_sample(*sum, sample);
                }
            }
        }
        for (out, &sum) in down.out[at..].iter_mut().zip(&sums) {
            *out = W::finish(sum, down.shift);
        }
    }
    for column in from + blocks * COLUMNS..down.out.len() {
        let terms = down.weights.iter().enumerate();
        let sum = terms.fold(W::Sum::default(), |sum, (i, weight)| weight.add_sample(sum, down.row(i)[column]));
        down.out[column] = W::finish(sum, down.shift);
    }
}

impl Weight for i16 {
    type Sum = i32;
    type Sample = u8;

    #[inline(always)]
    fn add_pixel(self, sum: i32, pixel: u8) -> i32 {
        sum + i32::from(self) * i32::from(pixel)
    }

    #[inline(always)]
    fn add_sample(self, sum: i32, sample: u8) -> i32 {
        self.add_pixel(sum, sample)
    }

    #[inline(always)]
    fn sample(pixel: u8) -> u8 {
        pixel
    }

    #[inline(always)]
    fn finish(sum: i32, shift: u32) -> u8 {
        // Half a grey level, so that sums are rounded. Negative lobes, and weights rounded up, may leave the range.
        ((sum + ((1 << shift) >> 1)) >> shift).clamp(0, 255) as u8
    }

    #[cfg(target_arch = "x86_64")]
    fn across<const N: usize>(isa: Isa, across: &Across<i16>, rows: [&[u8]; N], out: [&mut [u8]; N]) {
        match isa {
            Isa::Portable => portable_across(across, rows, out),
            Isa::Avx2(token) => avx2::across(token, across, rows, out),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn down(isa: Isa, down: Down<'_, i16>) {
        match isa {
            Isa::Portable => portable_down(down, 0),
            Isa::Avx2(token) => avx2::down(token, down),
        }
    }
}

impl Weight for f32 {
    type Sum = f32;
    type Sample = f32;

    #[inline(always)]
    fn add_pixel(self, sum: f32, pixel: u8) -> f32 {
        sum + self * f32::from(pixel)
    }

    #[inline(always)]
    fn add_sample(self, sum: f32, sample: f32) -> f32 {
        sum + self * sample
    }

    #[inline(always)]
    fn sample(pixel: u8) -> f32 {
        f32::from(pixel)
    }

    #[inline(always)]
    fn finish(sum: f32, _: u32) -> f32 {
        sum
    }
}

#[cfg(test)]
mod tests;
