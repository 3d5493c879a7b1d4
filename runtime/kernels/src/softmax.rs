//! Softmax over rows.

use crate::linear::{Engine, store_some};
use crate::math::exp2;
use crate::norm::share;
use crate::shared::SharedMut;
use crate::simd::{Kernel, Simd};

impl Engine<'_> {
    /// Turns each row of `x`, `[rows][width]`, into e^(x − greatest) / Σ e^(x − greatest).
    ///
    /// A row of nothing but −∞ becomes zeros; one with +∞ or what is no number becomes NaN, and no other row does.
    ///
    /// # Panics
    /// Where `x` is not whole rows.
    pub fn softmax(&self, x: &mut [f32], width: usize) {
        self.each_row::<false>(x, width);
    }

    /// Turns each row of `x`, `[rows][width]`, into x − greatest − ln Σ e^(x − greatest): the logarithm of [`Engine::softmax`].
    ///
    /// A row of nothing but −∞ stays so; one with +∞ or what is no number becomes NaN, and no other row does.
    ///
    /// # Panics
    /// Where `x` is not whole rows.
    pub fn log_softmax(&self, x: &mut [f32], width: usize) {
        self.each_row::<true>(x, width);
    }

    fn each_row<const LOGARITHM: bool>(&self, x: &mut [f32], width: usize) {
        assert!(width > 0 && x.len().is_multiple_of(width), "{} elements are not rows of {width}", x.len());
        let rows = x.len() / width;
        let x = SharedMut::new(x);
        share(self.isa, self.pool, rows, width, &|isa, from, to| isa.run(Rows::<LOGARITHM> { x, width, from, to }));
    }
}

struct Rows<const LOGARITHM: bool> {
    x: SharedMut<f32>,
    width: usize,
    from: usize,
    to: usize,
}

impl<const LOGARITHM: bool> Kernel for Rows<LOGARITHM> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.from..self.to {
            // SAFETY: the row exists and is this task's alone.
            let x = unsafe { std::slice::from_raw_parts_mut(self.x.at(row * self.width), self.width) };
            softmax_row::<S, LOGARITHM>(s, x);
        }
    }
}

#[inline(always)]
fn softmax_row<S: Simd, const LOGARITHM: bool>(s: S, x: &mut [f32]) {
    let whole = x.len() - x.len() % S::LANES;
    // What is left over, padded with what weighs nothing.
    let mut rest = [f32::NEG_INFINITY; 16];
    rest[..x.len() - whole].copy_from_slice(&x[whole..]);
    // SAFETY: whole vectors, and `rest` holds any.
    unsafe {
        // What is no number is passed over here; its weight is NaN, and so is the sum.
        let mut greatest = s.load(rest.as_ptr());
        greatest = s.max(greatest, s.splat(f32::NEG_INFINITY));
        let mut i = 0;
        while i < whole {
            greatest = s.max(s.load(x.as_ptr().add(i)), greatest);
            i += S::LANES;
        }
        let greatest = s.greatest(greatest);
        let base = s.splat(if greatest == f32::NEG_INFINITY { 0.0 } else { greatest });
        let log2_e = s.splat(std::f32::consts::LOG2_E);
        let last = exp2(s, s.mul(s.sub(s.load(rest.as_ptr()), base), log2_e));
        let mut sum = last;
        let mut i = 0;
        while i < whole {
            let weight = exp2(s, s.mul(s.sub(s.load(x.as_ptr().add(i)), base), log2_e));
            if !LOGARITHM {
                s.store(x.as_mut_ptr().add(i), weight);
            }
            sum = s.add(sum, weight);
            i += S::LANES;
        }
        let sum = s.sum(sum);
        if LOGARITHM {
            let shift = s.splat(if greatest == f32::NEG_INFINITY { 0.0 } else { greatest + sum.ln() });
            let mut i = 0;
            while i < whole {
                s.store(x.as_mut_ptr().add(i), s.sub(s.load(x.as_ptr().add(i)), shift));
                i += S::LANES;
            }
            if whole < x.len() {
                store_some(s, x.as_mut_ptr().add(whole), s.sub(s.load(rest.as_ptr()), shift), x.len() - whole);
            }
            return;
        }
        let inverse = s.splat(if sum == 0.0 { 0.0 } else { 1.0 / sum });
        let mut i = 0;
        while i < whole {
            s.store(x.as_mut_ptr().add(i), s.mul(s.load(x.as_ptr().add(i)), inverse));
            i += S::LANES;
        }
        if whole < x.len() {
            store_some(s, x.as_mut_ptr().add(whole), s.mul(last, inverse), x.len() - whole);
        }
    }
}
