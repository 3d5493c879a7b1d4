//! The windows through which a resized pixel looks at its source, as PyTorch lays them out for 8-bit pictures.

use serde::{Deserialize, Serialize};

use crate::axis::Axis;

/// How a resized pixel averages its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The pixel whose area holds the centre (`NEAREST_EXACT` of torchvision, `NEAREST` of Pillow).
    Nearest,
    /// A triangle.
    #[default]
    Bilinear,
    /// Keys' cubic with a = -1/2.
    Bicubic,
    /// A sinc within three lobes.
    Lanczos,
}

/// Weights are rounded to at most this many fractional bits; how many depends on the largest: it has to fit 16 bits.
const MOST_BITS: u32 = 22;
/// Fractional bits when enlarging: the first pixel's window is cut at the edge, so that its largest weight lies between 1 and 2.
const ENLARGING_BITS: u32 = 14;

impl Filter {
    /// The filter with this Pillow code (`PIL.Image.Resampling`): 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic. Box and Hamming (4, 5),
    /// which torchvision does not do for tensors, are not known.
    pub fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            _ => return None,
        })
    }

    /// Half the window's width in pixels, where the scale is 1.
    fn half_width(self) -> f64 {
        match self {
            Self::Nearest => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at distance `x` from the centre.
    fn at(self, x: f64) -> f64 {
        let near = x.abs();
        match self {
            Self::Nearest => f64::from(u8::from(near <= 0.5)),
            Self::Bilinear => (1.0 - near).max(0.0),
            Self::Bicubic if near < 1.0 => (1.5 * near - 2.5) * near * near + 1.0,
            Self::Bicubic if near < 2.0 => (((near - 5.0) * near + 8.0) * near - 4.0) * -0.5,
            Self::Lanczos if near < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// One axis of a resize from `input` to `output` pixels, antialiased.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaling {
    pub input: u32,
    pub output: u32,
    pub filter: Filter,
}

impl Scaling {
    /// The weights of the output pixels `start..start + count`, written over `axis`.
    ///
    /// These are PyTorch's for 8-bit pictures (`upsample_*2d_aa`): in f64, normalised to 1, then rounded to as many fractional bits as the
    /// largest weight of the whole axis leaves in 16, also where only some of its pixels are wanted.
    pub fn weights(self, start: u32, count: u32, axis: &mut Axis<i16>) {
        axis.clear();
        if self.input == self.output {
            axis.copy(start, count);
            return;
        }
        if self.filter == Filter::Nearest {
            for i in start..start + count {
                axis.push(self.nearest(i), [1]);
            }
            axis.shift = 0;
            return;
        }
        let mut window = Vec::new();
        let bits = if self.input < self.output { ENLARGING_BITS } else { self.bits(&mut window) };
        axis.shift = bits;
        let one = f64::from(1u32 << bits);
        for i in start..start + count {
            let first = self.window(i, &mut window);
            axis.push(first, window.iter().map(|weight| (weight * one).round() as i16));
        }
    }

    /// PyTorch rounds to f32 at each step, multiplication and subtraction being one.
    fn nearest(self, i: u32) -> u32 {
        let scale = self.input as f32 / self.output as f32;
        let at = scale.mul_add(i as f32 + 0.5, -0.5).max(0.0);
        ((f64::from(at) + 0.5) as f32 as u32).min(self.input - 1)
    }

    /// The first source pixel that counts for output pixel `i`; `window` becomes the weights from there on.
    fn window(self, i: u32, window: &mut Vec<f64>) -> u32 {
        let scale = f64::from(self.input) / f64::from(self.output);
        let half_width = self.filter.half_width() * scale.max(1.0);
        let per_pixel = if scale >= 1.0 { 1.0 / scale } else { 1.0 };
        let centre = scale * (f64::from(i) + 0.5);
        // The casts drop the fraction and stop at 0.
        let first = (centre - half_width + 0.5) as u32;
        let end = ((centre + half_width + 0.5) as u32).min(self.input);
        // Rounding may let one too many in.
        let most = half_width.ceil() as u32 * 2 + 1;
        window.clear();
        let (from, count) = (f64::from(first), (end - first).min(most));
        window.extend((0..count).map(|x| self.filter.at((f64::from(x) + from - centre + 0.5) * per_pixel)));
        let total: f64 = window.iter().sum();
        window.iter_mut().for_each(|weight| *weight /= total);
        first
    }

    /// Fractional bits that leave the largest weight below 2^15.
    fn bits(self, window: &mut Vec<f64>) -> u32 {
        let mut largest = 0.0f64;
        for i in 0..self.output {
            self.window(i, window);
            largest = window.iter().fold(largest, |largest, &weight| largest.max(weight));
        }
        let fits = |bits: u32| (0.5 + largest * f64::from(1u32 << bits)) as u32 <= i16::MAX as u32;
        (1..MOST_BITS).find(|&bits| !fits(bits + 1)).unwrap_or(MOST_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filters() -> impl Strategy<Value = Filter> {
        prop_oneof![Just(Filter::Bilinear), Just(Filter::Bicubic), Just(Filter::Lanczos)]
    }

    proptest! {
        #[test]
        fn enlarging_always_takes_the_same_bits(input in 1u32..300, more in 1u32..600, filter in filters()) {
            let scaling = Scaling { input, output: input + more, filter };
            prop_assert_eq!(scaling.bits(&mut Vec::new()), ENLARGING_BITS);
        }

        #[test]
        fn a_part_is_part_of_the_whole(input in 1u32..400, output in 1u32..400, a in 0f64..1.0, b in 0f64..1.0, filter in filters()) {
            let scaling = Scaling { input, output, filter };
            let (mut whole, mut part) = (Axis::default(), Axis::default());
            scaling.weights(0, output, &mut whole);
            let start = (a * f64::from(output)) as u32;
            let count = 1 + (b * f64::from(output - start - 1)) as u32;
            scaling.weights(start, count, &mut part);
            prop_assert_eq!(part.shift, whole.shift);
            prop_assert!(part.iter().eq(whole.iter().skip(start as usize).take(count as usize)));
        }

        #[test]
        fn weights_sum_to_one_and_stay_inside(input in 1u32..5000, output in 1u32..600, filter in filters()) {
            let mut axis = Axis::default();
            Scaling { input, output, filter }.weights(0, output, &mut axis);
            prop_assert_eq!(axis.iter().count(), output as usize);
            for (first, weights) in axis.iter() {
                prop_assert!(!weights.is_empty() && first + weights.len() <= input as usize);
                let sum: i64 = weights.iter().map(|&w| i64::from(w)).sum();
                // Each weight is rounded by at most half a unit.
                prop_assert!((sum - (1 << axis.shift)).abs() <= weights.len() as i64 / 2 + 1);
            }
        }
    }
}
