//! The two passes of a resize: across a row, and down the columns.
//!
//! Both are plain loops over lanes that the compiler turns into vectors. [`pulp`] compiles them once for what the target is sure to have
//! and once for what most processors have, and chooses when the program runs.

use pulp::{Arch, NullaryFnOnce};

use crate::axis::Axis;

pub(crate) const CHANNELS: usize = 3;
/// Rows that share the loads of their weights.
pub(crate) const ROWS: usize = 4;
/// Values of a row that are summed side by side: eight pixels.
const LANES: usize = 8 * CHANNELS;
/// The same for short windows: four pixels.
const FEW_LANES: usize = 4 * CHANNELS;
/// Columns that are summed side by side.
const COLUMNS: usize = 32;

/// A weight, what its products sum to, and what a sum becomes.
pub(crate) trait Weight: Copy + Default {
    type Sum: Copy + Default + std::ops::AddAssign;
    /// A value between the two passes, and after them.
    type Sample: Copy + Default;

    fn of_pixel(self, pixel: u8) -> Self::Sum;
    fn of_sample(self, sample: Self::Sample) -> Self::Sum;
    fn sample(pixel: u8) -> Self::Sample;
    /// From `shift` fractional bits.
    fn finish(sum: Self::Sum, shift: u32) -> Self::Sample;
}

macro_rules! fixed_point {
    ($($weight:ty),*) => {$(
        impl Weight for $weight {
            type Sum = i32;
            type Sample = u8;

            #[inline(always)]
            fn of_pixel(self, pixel: u8) -> i32 {
                i32::from(self) * i32::from(pixel)
            }

            #[inline(always)]
            fn of_sample(self, sample: u8) -> i32 {
                i32::from(self) * i32::from(sample)
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
        }
    )*};
}

fixed_point!(i16, i32);

impl Weight for f32 {
    type Sum = f32;
    type Sample = f32;

    #[inline(always)]
    fn of_pixel(self, pixel: u8) -> f32 {
        self * f32::from(pixel)
    }

    #[inline(always)]
    fn of_sample(self, sample: f32) -> f32 {
        self * sample
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

/// The weights of a pass across rows: each written three times, once a channel, and each window filled up with zeros to whole lanes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Across<W> {
    /// In values, not pixels.
    firsts: Vec<usize>,
    weights: Vec<W>,
    window: usize,
    lanes: usize,
    shift: u32,
}

impl<W: Weight> Across<W> {
    /// For rows that begin at source pixel `from` and are `width` pixels wide.
    pub fn lay_out(&mut self, axis: &Axis<W>, from: usize, width: usize) {
        let pixels = axis.longest().max(1);
        let few = pixels.next_multiple_of(8) - pixels >= 4;
        self.lanes = if few { FEW_LANES } else { LANES };
        self.window = (pixels * CHANNELS).next_multiple_of(self.lanes);
        self.shift = axis.shift;
        self.firsts.clear();
        self.weights.clear();
        // A window that would leave the row is moved back, with zeros before its weights.
        let last = (width * CHANNELS).saturating_sub(self.window);
        for (first, weights) in axis.iter() {
            let wanted = if weights.is_empty() { 0 } else { (first - from) * CHANNELS };
            // Whole pixels: the lanes stand for the channels in turn.
            let first = wanted.min(last);
            let at = self.weights.len();
            self.firsts.push(first);
            self.weights.extend(std::iter::repeat_n(W::default(), wanted - first));
            self.weights.extend(weights.iter().flat_map(|&weight| [weight; CHANNELS]));
            self.weights.resize(at + self.window, W::default());
        }
    }

    /// Values a row has to have, at least: shorter ones are filled up with anything.
    pub fn least(&self) -> usize {
        self.window
    }

    /// Resizes up to [`ROWS`] rows of equal length.
    pub fn run<const N: usize>(&self, arch: Arch, rows: [&[u8]; N], out: [&mut [W::Sample]; N]) {
        arch.dispatch(AcrossRows { across: self, rows, out });
    }
}

struct AcrossRows<'a, W: Weight, const N: usize> {
    across: &'a Across<W>,
    rows: [&'a [u8]; N],
    out: [&'a mut [W::Sample]; N],
}

impl<W: Weight, const N: usize> NullaryFnOnce for AcrossRows<'_, W, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if self.across.lanes == LANES { self.lanes::<LANES>() } else { self.lanes::<FEW_LANES>() }
    }
}

impl<W: Weight, const N: usize> AcrossRows<'_, W, N> {
    #[inline(always)]
    fn lanes<const L: usize>(self) {
        let Across { firsts, weights, window, shift, .. } = self.across;
        let mut out = self.out.map(|out| out.as_chunks_mut::<CHANNELS>().0);
        for (i, (&first, weights)) in firsts.iter().zip(weights.chunks_exact(*window)).enumerate() {
            let windows = self.rows.map(|row| row[first..first + window].as_chunks::<L>().0);
            let mut sums = [[W::Sum::default(); L]; N];
            for (k, weights) in weights.as_chunks::<L>().0.iter().enumerate() {
                for (sums, window) in sums.iter_mut().zip(windows) {
                    let pixels = &window[k];
                    for lane in 0..L {
                        sums[lane] += weights[lane].of_pixel(pixels[lane]);
                    }
                }
            }
            for (sums, out) in sums.iter().zip(&mut out) {
                let mut total = [W::Sum::default(); CHANNELS];
                for sums in sums.as_chunks::<CHANNELS>().0 {
                    for (total, &sum) in total.iter_mut().zip(sums) {
                        *total += sum;
                    }
                }
                out[i] = total.map(|sum| W::finish(sum, *shift));
            }
        }
    }
}

/// One output row: `weights` times the rows in `first` and, those done, in `rest`, each `out.len()` values long.
pub(crate) fn down<W: Weight>(arch: Arch, [first, rest]: [&[W::Sample]; 2], weights: &[W], shift: u32, out: &mut [W::Sample]) {
    let (early, late) = weights.split_at(weights.len().min(first.len() / out.len().max(1)));
    arch.dispatch(Down { parts: [(first, early), (rest, late)], shift, out });
}

struct Down<'a, W: Weight> {
    parts: [(&'a [W::Sample], &'a [W]); 2],
    shift: u32,
    out: &'a mut [W::Sample],
}

impl<W: Weight> NullaryFnOnce for Down<'_, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let stride = self.out.len();
        let (blocks, tail) = self.out.as_chunks_mut::<COLUMNS>();
        let at = blocks.len() * COLUMNS;
        for (block, out) in blocks.iter_mut().enumerate() {
            let mut sums = [W::Sum::default(); COLUMNS];
            for (rows, weights) in self.parts {
                for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
                    let samples = &row.as_chunks::<COLUMNS>().0[block];
                    for lane in 0..COLUMNS {
                        sums[lane] += weight.of_sample(samples[lane]);
                    }
                }
            }
            *out = sums.map(|sum| W::finish(sum, self.shift));
        }
        for (column, out) in tail.iter_mut().enumerate() {
            let mut sum = W::Sum::default();
            for (rows, weights) in self.parts {
                for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
                    sum += weight.of_sample(row[at + column]);
                }
            }
            *out = W::finish(sum, self.shift);
        }
    }
}
