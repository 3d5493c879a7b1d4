//! Weights of depthwise convolutions: one kernel a channel.
//!
//! Values are `[k · k][C]`, taps row by row, C padded with zeros to whole panels.

use crate::pack::{PackError, fits, int8_rows, padded, product};
use crate::simd::{PANEL, Simd};

/// Values of a depthwise weight.
#[derive(Debug, Clone, Copy)]
pub enum DepthwiseValues<'a> {
    /// −127…127 with a scale a channel.
    Int8 {
        /// `[k · k][C]`
        values: &'a [i8],
        /// `[C]`
        scales: &'a [f32],
    },
    /// Single precision, `[k · k][C]`.
    F32(&'a [f32]),
}

/// A depthwise weight as kernels take it.
#[derive(Debug, Clone, Copy)]
pub struct PackedDepthwise<'a> {
    channels: usize,
    kernel: usize,
    values: DepthwiseValues<'a>,
}

impl<'a> PackedDepthwise<'a> {
    /// How many values a weight of `channels` windows with `kernel` pixels a side has when packed; `None` where that overflows.
    pub fn values_len(channels: usize, kernel: usize) -> Option<usize> {
        product(&[channels.div_ceil(PANEL), PANEL, kernel, kernel])
    }

    /// Takes parts that lie somewhere, a mapped file perhaps: values `[k · k][C]` and scales `[C]`, both padded to panels.
    pub fn new(channels: usize, kernel: usize, values: DepthwiseValues<'a>) -> Result<Self, PackError> {
        let taps = kernel.saturating_mul(kernel);
        let len = match values {
            DepthwiseValues::Int8 { values, .. } => values.len(),
            DepthwiseValues::F32(values) => values.len(),
        };
        fits("the values", channels, taps, len, Self::values_len(channels, kernel))?;
        if let DepthwiseValues::Int8 { scales, .. } = values {
            fits("the scales", channels, taps, scales.len(), Some(padded(channels)))?;
        }
        Ok(Self { channels, kernel, values })
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Side of a window in pixels.
    pub fn kernel(&self) -> usize {
        self.kernel
    }

    /// Packed values.
    pub fn values(&self) -> DepthwiseValues<'a> {
        self.values
    }

    /// What multiplies the pixel of row `y` and column `x` of a window in a channel.
    pub fn value(&self, channel: usize, y: usize, x: usize) -> f32 {
        let index = (y * self.kernel + x) * padded(self.channels) + channel;
        match self.values {
            DepthwiseValues::Int8 { values, scales } => f32::from(values[index]) * scales[channel],
            DepthwiseValues::F32(values) => values[index],
        }
    }

    /// One vector of a tap's weights, without their scale.
    ///
    /// # Safety
    /// The tap exists, and so do the channels but for padding.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(&self, s: S, tap: usize, channel: usize) -> S::F {
        let index = tap * padded(self.channels) + channel;
        // SAFETY: the caller's; every tap has whole panels.
        unsafe {
            match self.values {
                DepthwiseValues::Int8 { values, .. } => s.load_i8(values.as_ptr().add(index)),
                DepthwiseValues::F32(values) => s.load(values.as_ptr().add(index)),
            }
        }
    }

    /// The scales of one vector of channels; ones where there are none.
    ///
    /// # Safety
    /// The channels exist but for padding.
    #[inline(always)]
    pub(super) unsafe fn scale<S: Simd>(&self, s: S, channel: usize) -> S::F {
        match self.values {
            // SAFETY: the caller's; there are whole panels of scales.
            DepthwiseValues::Int8 { scales, .. } => unsafe { s.load(scales.as_ptr().add(channel)) },
            DepthwiseValues::F32(_) => s.splat(1.0),
        }
    }
}

/// The parts of an int8 [`PackedDepthwise`], owned.
#[derive(Debug, Clone)]
pub struct OwnedDepthwise {
    channels: usize,
    kernel: usize,
    /// `[k · k][C]`
    pub values: Vec<i8>,
    /// `[C]`
    pub scales: Vec<f32>,
}

impl OwnedDepthwise {
    /// Packs values `[C][k · k]` with scales `[C]`. A value of −128 becomes −127.
    pub fn pack(channels: usize, kernel: usize, values: &[i8], scales: &[f32]) -> Result<Self, PackError> {
        fits("the scales", channels, kernel.saturating_mul(kernel), scales.len(), Some(channels))?;
        let mut values = pack_depthwise(channels, kernel, values)?;
        values.iter_mut().for_each(|value| *value = (*value).max(-127));
        let mut scales = scales.to_vec();
        scales.resize(padded(channels), 0.0);
        Ok(Self { channels, kernel, values, scales })
    }

    /// Rounds weights `[C][k · k]` by [`int8_rows`].
    pub fn quantize(channels: usize, kernel: usize, weights: &[f32]) -> Result<Self, PackError> {
        let taps = kernel.saturating_mul(kernel);
        fits("the weights", channels, taps, weights.len(), product(&[channels, taps]))?;
        let (values, scales) = int8_rows(weights, taps);
        Self::pack(channels, kernel, &values, &scales)
    }

    /// As kernels take it.
    pub fn view(&self) -> PackedDepthwise<'_> {
        let values = DepthwiseValues::Int8 { values: &self.values, scales: &self.scales };
        PackedDepthwise { channels: self.channels, kernel: self.kernel, values }
    }
}

/// Packs depthwise weights `[C][k · k]`, as other frameworks have them, to `[k · k][C]` with C padded to whole panels.
pub fn pack_depthwise<T: Copy + Default>(channels: usize, kernel: usize, weights: &[T]) -> Result<Vec<T>, PackError> {
    let taps = kernel.saturating_mul(kernel);
    fits("the weights", channels, taps, weights.len(), product(&[channels, taps]))?;
    let len = PackedDepthwise::values_len(channels, kernel);
    fits("the packed weights", channels, taps, len.unwrap_or(usize::MAX), len)?;
    let mut packed = vec![T::default(); len.unwrap_or_default()];
    for (channel, window) in weights.chunks_exact(taps).enumerate() {
        for (tap, &weight) in window.iter().enumerate() {
            packed[tap * padded(channels) + channel] = weight;
        }
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_again() {
        for (channels, kernel) in [(1, 1), (16, 3), (33, 5)] {
            let values: Vec<i8> = (0..channels * kernel * kernel).map(|i| (i * 37 % 255) as i8).collect();
            let packed = OwnedDepthwise::pack(channels, kernel, &values, &vec![1.0; channels]).unwrap();
            for (i, &value) in values.iter().enumerate() {
                let (channel, tap) = (i / (kernel * kernel), i % (kernel * kernel));
                assert_eq!(packed.view().value(channel, tap / kernel, tap % kernel), f32::from(value.max(-127)));
            }
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let short = PackedDepthwise::new(16, 3, DepthwiseValues::F32(&[0.0; 143]));
        assert_eq!(short.unwrap_err(), PackError::Length { part: "the values", n: 16, k: 9, has: 143, needs: 144 });
        let scales = PackedDepthwise::new(2, 1, DepthwiseValues::Int8 { values: &[0; 16], scales: &[0.0; 2] });
        assert_eq!(scales.unwrap_err(), PackError::Length { part: "the scales", n: 2, k: 1, has: 2, needs: 16 });
        assert!(PackedDepthwise::new(0, 3, DepthwiseValues::F32(&[])).is_err());
        assert!(PackedDepthwise::new(usize::MAX, usize::MAX, DepthwiseValues::F32(&[])).is_err());
        assert!(pack_depthwise(usize::MAX, 2, &[0.0]).is_err());
    }
}
