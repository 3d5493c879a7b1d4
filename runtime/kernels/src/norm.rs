//! Rows normalised: by mean and variance, by the mean of squares, to length one.
//!
//! Where a linear layer follows, [`crate::Prologue`] does it on the way; these are for the places where none does.

use crate::isa::Isa;
use crate::linear::{Engine, load_some};
use crate::pool::Pool;
use crate::shared::SharedMut;
use crate::simd::{Kernel, Simd};

/// How a row is normalised.
#[derive(Debug, Clone, Copy)]
pub enum Norm<'a> {
    /// (x − mean) / √(variance + ε) · weight + bias, with weight and bias of the row's width (Ba et al., 2016).
    Layer {
        /// Gains.
        weight: &'a [f32],
        /// What is added.
        bias: &'a [f32],
        /// What keeps the root from zero.
        epsilon: f32,
    },
    /// x / √(mean of squares + ε) · weight, with a weight of the row's width (Zhang and Sennrich, 2019).
    Rms {
        /// Gains.
        weight: &'a [f32],
        /// What keeps the root from zero.
        epsilon: f32,
    },
    /// x / max(|x|, ε), |x| the Euclidean length: rows whose products are cosines.
    L2 {
        /// Least length.
        epsilon: f32,
    },
}

impl Engine<'_> {
    /// Writes the rows of `x`, `[rows][width]`, to `out`, normalised each by itself.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn norm(&self, x: &[f32], width: usize, norm: Norm<'_>, out: &mut [f32]) {
        assert!(width > 0 && x.len().is_multiple_of(width), "{} elements are not rows of {width}", x.len());
        assert!(out.len() == x.len(), "{} results of {} elements", out.len(), x.len());
        match norm {
            Norm::Layer { weight, bias, .. } => {
                assert!(weight.len() == width && bias.len() == width, "a norm's weight and bias have {width} elements")
            }
            Norm::Rms { weight, .. } => assert!(weight.len() == width, "a norm's weight has {width} elements"),
            Norm::L2 { .. } => {}
        }
        let out = SharedMut::new(out);
        share(self.isa, self.pool, x.len() / width, width, &|isa, from, to| isa.run(Rows { x, width, norm, out, from, to }));
    }
}

/// Elements below which threads are not worth waking.
const SHARE: usize = 1 << 15;

/// Shares rows among threads: calls `work` with the first row and the one after the last.
pub(crate) fn share(isa: Isa, pool: &Pool, rows: usize, width: usize, work: &(dyn Fn(Isa, usize, usize) + Sync)) {
    let tasks = if rows.saturating_mul(width) < SHARE { 1 } else { (2 * pool.threads()).min(rows) };
    if tasks <= 1 {
        return work(isa, 0, rows);
    }
    pool.run(tasks, &|task| work(isa, rows * task / tasks, rows * (task + 1) / tasks));
}

struct Rows<'a> {
    x: &'a [f32],
    width: usize,
    norm: Norm<'a>,
    out: SharedMut<f32>,
    from: usize,
    to: usize,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.width;
        for row in self.from..self.to {
            let x = &self.x[row * width..][..width];
            // SAFETY: the result is as long as `x`, and the row is this task's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.at(row * width), width) };
            match self.norm {
                Norm::Layer { weight, bias, epsilon } => layer_norm_row(s, x, out, weight, bias, epsilon),
                Norm::Rms { weight, epsilon } => rms_norm_row(s, x, out, weight, epsilon),
                Norm::L2 { epsilon } => l2_norm_row(s, x, out, epsilon),
            }
        }
    }
}

/// One row of layer normalisation; the variance is taken about the mean, in a second pass.
#[inline(always)]
pub(crate) fn layer_norm_row<S: Simd>(s: S, x: &[f32], out: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let k = x.len();
    let whole = k - k % S::LANES;
    // SAFETY: whole vectors within slices of `k` elements.
    unsafe {
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < whole {
            sum = s.add(sum, s.load(x.as_ptr().add(i)));
            i += S::LANES;
        }
        let mut total = s.sum(sum);
        for &x in &x[whole..] {
            total += x;
        }
        let mean = total / k as f32;
        let mean_lanes = s.splat(mean);
        let mut squares = s.splat(0.0);
        i = 0;
        while i < whole {
            let d = s.sub(s.load(x.as_ptr().add(i)), mean_lanes);
            squares = s.fma(d, d, squares);
            i += S::LANES;
        }
        let mut square = s.sum(squares);
        for &x in &x[whole..] {
            square += (x - mean) * (x - mean);
        }
        let inverse = 1.0 / (square / k as f32 + epsilon).sqrt();
        let inverse_lanes = s.splat(inverse);
        i = 0;
        while i < whole {
            let d = s.mul(s.sub(s.load(x.as_ptr().add(i)), mean_lanes), inverse_lanes);
            s.store(out.as_mut_ptr().add(i), s.fma(d, s.load(weight.as_ptr().add(i)), s.load(bias.as_ptr().add(i))));
            i += S::LANES;
        }
        for i in whole..k {
            out[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
        }
    }
}

/// One row of RMS normalisation.
#[inline(always)]
pub(crate) fn rms_norm_row<S: Simd>(s: S, x: &[f32], out: &mut [f32], weight: &[f32], epsilon: f32) {
    let k = x.len();
    let whole = k - k % S::LANES;
    // SAFETY: whole vectors within slices of `k` elements.
    unsafe {
        let mut squares = s.splat(0.0);
        let mut i = 0;
        while i < whole {
            let x = s.load(x.as_ptr().add(i));
            squares = s.fma(x, x, squares);
            i += S::LANES;
        }
        let mut square = s.sum(squares);
        for &x in &x[whole..] {
            square += x * x;
        }
        let inverse = 1.0 / (square / k as f32 + epsilon).sqrt();
        i = 0;
        while i < whole {
            let x = s.mul(s.load(x.as_ptr().add(i)), s.splat(inverse));
            s.store(out.as_mut_ptr().add(i), s.mul(x, s.load(weight.as_ptr().add(i))));
            i += S::LANES;
        }
        for i in whole..k {
            out[i] = x[i] * inverse * weight[i];
        }
    }
}

/// One row to length one.
#[inline(always)]
fn l2_norm_row<S: Simd>(s: S, x: &[f32], out: &mut [f32], epsilon: f32) {
    let mut squares = s.splat(0.0);
    let mut i = 0;
    while i < x.len() {
        // SAFETY: what is left of the row, at most a vector.
        let x = unsafe { load_some(s, x.as_ptr().add(i), (x.len() - i).min(S::LANES)) };
        squares = s.fma(x, x, squares);
        i += S::LANES;
    }
    let length = s.sum(squares).sqrt();
    // Written so that a length that is no number stays one.
    let inverse = 1.0 / if length < epsilon { epsilon } else { length };
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x * inverse;
    }
}
