//! Weights of an antialiased bilinear resize along one axis.

/// Fractional bits of a weight. A sum of weights times 255 plus the rounding half stays below 2^31.
pub const WEIGHT_BITS: u32 = 22;

/// What goes into each output pixel of one axis: a run of source pixels and their fixed-point weights.
///
/// Output pixel `i` of `output` looks at the source through a triangle centred at `(i + 0.5) * input / output`, whose half-width is
/// `max(input / output, 1)`: when shrinking, every source pixel counts (antialiasing); when enlarging, it is plain bilinear interpolation.
/// Weights are computed in f64, normalised to 1, and rounded to [`WEIGHT_BITS`] fractional bits, as Pillow does for 8-bit pictures.
#[derive(Debug, Clone, Default)]
pub struct Taps {
    runs: Vec<Run>,
    weights: Vec<i32>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    first: u32,
    weights_at: u32,
    len: u32,
}

impl Taps {
    /// The weights from `input` to `output` pixels, written over what was there; both sides must be at least 1.
    pub fn compute(&mut self, input: u32, output: u32) {
        self.runs.clear();
        self.weights.clear();
        let scale = f64::from(input) / f64::from(output);
        let half_width = scale.max(1.0);
        for i in 0..output {
            let centre = (f64::from(i) + 0.5) * scale;
            // A source pixel counts if its centre lies within the triangle; the casts drop the fraction and stop at 0.
            let first = (centre - half_width + 0.5) as u32;
            let end = ((centre + half_width + 0.5) as u32).min(input);
            let triangle = |x: u32| (1.0 - ((f64::from(x) - centre + 0.5) / half_width).abs()).max(0.0);
            let total: f64 = (first..end).map(triangle).sum();
            let unit = f64::from(1u32 << WEIGHT_BITS) / total;
            self.runs.push(Run { first, weights_at: self.weights.len() as u32, len: end - first });
            self.weights.extend((first..end).map(|x| (triangle(x) * unit + 0.5) as i32));
        }
    }

    /// For each output pixel: the index of its first source pixel, and the weights of that one and those that follow it.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.runs.iter().map(|run| {
            let at = run.weights_at as usize;
            (run.first as usize, &self.weights[at..at + run.len as usize])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_sum_to_one_and_stay_inside(input in 1u32..5000, output in 1u32..600) {
            let mut taps = Taps::default();
            taps.compute(input, output);
            prop_assert_eq!(taps.iter().count(), output as usize);
            for (first, weights) in taps.iter() {
                prop_assert!(!weights.is_empty());
                prop_assert!(first + weights.len() <= input as usize);
                let sum: i64 = weights.iter().map(|&w| i64::from(w)).sum();
                // Each weight is rounded by at most half a unit.
                prop_assert!((sum - (1 << WEIGHT_BITS)).abs() <= weights.len() as i64 / 2 + 1);
            }
        }
    }

    #[test]
    fn equal_sizes_copy() {
        let mut taps = Taps::default();
        taps.compute(7, 7);
        for (i, (first, weights)) in taps.iter().enumerate() {
            let value: i32 = weights.iter().enumerate().map(|(k, w)| if first + k == i { *w } else { 0 }).sum();
            assert_eq!(value, 1 << WEIGHT_BITS, "pixel {i}");
        }
    }
}
