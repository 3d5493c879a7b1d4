//! Functions of one variable, on vectors.

use crate::simd::Simd;

/// eˣ within 2 units in the last place for −87.3 ≤ x ≤ 88; clamped outside, and for what is no number.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, and eʳ by the minimax polynomial of Cephes' `expf`.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.min(s.max(x, s.splat(-87.3)), s.splat(88.0));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with few enough digits that n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    p = s.fma(p, r, s.splat(1.398_199_9e-3));
    p = s.fma(p, r, s.splat(8.333_452e-3));
    p = s.fma(p, r, s.splat(4.166_579_6e-2));
    p = s.fma(p, r, s.splat(1.666_666_5e-1));
    p = s.fma(p, r, s.splat(0.5));
    p = s.fma(p, s.mul(r, r), s.add(r, s.splat(1.0)));
    s.mul(p, s.pow2(n))
}

/// x · σ(z), where σ is the logistic function.
#[inline(always)]
pub fn gate<S: Simd>(s: S, x: S::F, z: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(x, s.add(one, exp(s, s.sub(s.splat(0.0), z))))
}

/// x · Φ(x) with the normal distribution's Φ; error below 3 · 10⁻⁷ |x|.
///
/// Φ(−|x|) by Abramowitz and Stegun, 7.1.26, so that small results on the left keep their digits.
#[inline(always)]
pub fn gelu<S: Simd>(s: S, x: S::F) -> S::F {
    let magnitude = s.abs(x);
    let z = s.mul(magnitude, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(s.splat(1.0), s.fma(z, s.splat(0.327_591_1), s.splat(1.0)));
    let mut p = s.splat(0.5 * 1.061_405_4);
    p = s.fma(p, t, s.splat(0.5 * -1.453_152));
    p = s.fma(p, t, s.splat(0.5 * 1.421_413_8));
    p = s.fma(p, t, s.splat(0.5 * -0.284_496_74));
    p = s.fma(p, t, s.splat(0.5 * 0.254_829_6));
    let tail = s.mul(s.mul(p, t), exp(s, s.mul(s.sub(s.splat(0.0), z), z)));
    s.sub(s.max(s.splat(0.0), x), s.mul(magnitude, tail))
}

/// GELU's approximation with tanh: x · σ(2 √(2/π) (x + 0.044715 x³)).
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let square = s.mul(x, x);
    let inner = s.fma(square, s.splat(0.044_715 * 1.595_769), s.splat(1.595_769));
    gate(s, x, s.mul(inner, x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::simd::Kernel;

    struct Apply<'a> {
        x: &'a [f32],
        function: u8,
    }

    impl Kernel for Apply<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<f32> {
            let mut out = vec![0.0; self.x.len()];
            for (x, out) in self.x.chunks_exact(S::LANES).zip(out.chunks_exact_mut(S::LANES)) {
                // SAFETY: both have `LANES` elements.
                unsafe {
                    let x = s.load(x.as_ptr());
                    let y = match self.function {
                        0 => exp(s, x),
                        1 => gelu(s, x),
                        2 => gelu_tanh(s, x),
                        _ => gate(s, x, x),
                    };
                    s.store(out.as_mut_ptr(), y);
                }
            }
            out
        }
    }

    /// The complementary error function to double precision: a Taylor series within 3, a continued fraction beyond.
    fn erfc(x: f64) -> f64 {
        if x < 0.0 {
            return 2.0 - erfc(-x);
        }
        let root = std::f64::consts::PI.sqrt();
        if x < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..100 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - 2.0 / root * sum;
        }
        let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (x + f));
        (-x * x).exp() / root / (x + fraction)
    }

    #[test]
    fn functions_are_what_they_are_called() {
        let x: Vec<f32> = (-32_000..32_000).map(|i| i as f32 * 0.0004).collect();
        for isa in Isa::all() {
            for function in 0..4 {
                let y = isa.run(Apply { x: &x, function });
                for (&x, &y) in x.iter().zip(&y) {
                    let wide = f64::from(x);
                    let (expected, tolerance) = match function {
                        0 => (wide.exp(), 3e-7 * wide.exp()),
                        1 => (wide * 0.5 * erfc(-wide * std::f64::consts::FRAC_1_SQRT_2), 3e-7 * wide.abs().max(1e-3)),
                        2 => {
                            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
                            (wide * 0.5 * (1.0 + inner.tanh()), 1e-6 * wide.abs().max(1e-3))
                        }
                        _ => (wide / (1.0 + (-wide).exp()), 5e-7 * wide.abs().max(1e-3)),
                    };
                    assert!((f64::from(y) - expected).abs() <= tolerance, "{isa} function {function} of {x}: {y}, not {expected}");
                }
            }
        }
    }
}
