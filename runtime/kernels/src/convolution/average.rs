//! The mean over a map's pixels.

use crate::linear::Engine;
use crate::simd::{Kernel, Simd};

impl Engine<'_> {
    /// Writes the mean over pixels of maps `[batch][pixels][C]` to `out`, `[batch][C]`.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn global_average(&self, x: &[f32], pixels: usize, channels: usize, out: &mut [f32]) {
        let map = pixels * channels;
        assert!(map > 0 && x.len().is_multiple_of(map), "{} values are not maps of {pixels} x {channels}", x.len());
        assert!(out.len() * pixels == x.len(), "{} means of {} values in maps of {pixels} pixels", out.len(), x.len());
        for (map, out) in x.chunks_exact(map).zip(out.chunks_exact_mut(channels)) {
            self.isa.run(Average { map, out });
        }
    }
}

struct Average<'a> {
    map: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Average<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { map, out } = self;
        let channels = out.len();
        let pixels = map.len() / channels;
        let inverse = s.splat(1.0 / pixels as f32);
        let whole = channels - channels % S::LANES;
        let mut c = 0;
        // SAFETY: every offset is within a pixel of the map, or within `out`.
        unsafe {
            while c < whole {
                // Two sums, so that additions need not wait for each other.
                let mut sums = [s.splat(0.0); 2];
                let mut p = map.as_ptr().add(c);
                let mut i = 0;
                while i + 2 <= pixels {
                    sums[0] = s.add(sums[0], s.load(p));
                    sums[1] = s.add(sums[1], s.load(p.add(channels)));
                    p = p.add(2 * channels);
                    i += 2;
                }
                if i < pixels {
                    sums[0] = s.add(sums[0], s.load(p));
                }
                s.store(out.as_mut_ptr().add(c), s.mul(s.add(sums[0], sums[1]), inverse));
                c += S::LANES;
            }
            if c < channels {
                let mut sum = s.splat(0.0);
                for i in 0..pixels {
                    sum = s.add(sum, s.load_part(map.as_ptr().add(i * channels + c), channels - c));
                }
                s.store_part(out.as_mut_ptr().add(c), s.mul(sum, inverse), channels - c);
            }
        }
    }
}
