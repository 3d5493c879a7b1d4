//! OWLv2's way to shrink a picture: a Gaussian, then bilinear interpolation, in floating point.

use crate::axis::Axis;

/// One axis of a resize from a square of `side` pixels to `output`. Both steps are linear and separable, so their weights are multiplied out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blurring {
    /// Side of the square, padding included.
    pub side: u32,
    /// Pixels of it that are the picture; the rest is black.
    pub picture: u32,
    pub output: u32,
    /// Standard deviation of the Gaussian in pixels; 0: none.
    pub sigma: f32,
}

/// The standard deviations across rows and down columns for a square of `side` pixels.
///
/// Each is half of what the scale exceeds 1 by, as in scikit-image; none where one of the axes does not shrink. The reference hands height
/// and width to a function that takes width and height, which shows only in inputs that are not square.
pub(crate) fn sigmas(side: u32, height: u32, width: u32) -> [f32; 2] {
    let sigma = |output: u32| ((side as f32 / output as f32 - 1.0) / 2.0).max(0.0);
    let sigmas = [sigma(height), sigma(width)];
    if sigmas.contains(&0.0) { [0.0; 2] } else { sigmas }
}

impl Blurring {
    /// The weights, written over `axis`; those of padding are left out.
    pub fn weights(self, axis: &mut Axis<f32>) {
        axis.clear();
        let gaussian = self.gaussian();
        let radius = gaussian.len() as i64 / 2;
        let scale = self.side as f32 / self.output as f32;
        let last = i64::from(self.side) - 1;
        let mut window = Vec::new();
        for i in 0..self.output {
            let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
            let near = (at as i64).min(last);
            let far = (near + 1).min(last);
            let part = (at - near as f32).clamp(0.0, 1.0);
            let reach = (near - radius..=far + radius).map(|x| mirrored(x, last));
            let first = reach.clone().min().unwrap_or(0);
            let end = reach.max().map_or(first, |x| x + 1).min(i64::from(self.picture));
            window.clear();
            window.resize((end - first).max(0) as usize, 0.0f32);
            for (centre, share) in [(near, 1.0 - part), (far, part)] {
                for (x, weight) in (centre - radius..).zip(&gaussian) {
                    let x = mirrored(x, last);
                    if x < end {
                        window[(x - first) as usize] += share * weight;
                    }
                }
            }
            axis.push(first as u32, window.iter().copied());
        }
    }

    /// Summing to 1, over three standard deviations on either side.
    fn gaussian(self) -> Vec<f32> {
        let radius = (3.0 * self.sigma).ceil() as i32;
        let variance = f64::from(self.sigma).powi(2);
        let weight = |x: i32| if x == 0 { 1.0 } else { (-f64::from(x).powi(2) / (2.0 * variance)).exp() };
        let total: f64 = (-radius..=radius).map(weight).sum();
        (-radius..=radius).map(|x| (weight(x) / total) as f32).collect()
    }
}

/// Pixels beyond an edge are those before it in reverse, the edge itself not repeated.
fn mirrored(x: i64, last: i64) -> i64 {
    if last == 0 {
        return 0;
    }
    let x = x.rem_euclid(2 * last);
    x.min(2 * last - x)
}
