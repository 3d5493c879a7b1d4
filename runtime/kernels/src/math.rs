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

/// 2ˣ for −126.5 < x ≤ 127, within 3 · 10⁻⁷ of itself; below 0, and NaN for what is no number.
///
/// x = n + r with |r| ≤ ½, and 2ʳ by the minimax polynomial of degree 5, with its constant rounded to 1: off by at most 1.5 · 10⁻⁷.
#[inline(always)]
pub fn exp2<S: Simd>(s: S, x: S::F) -> S::F {
    // The second operand is what comes out where either is no number.
    let x = s.max(s.splat(-127.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(1.327_647_3e-3);
    p = s.fma(p, r, s.splat(9.675_541e-3));
    p = s.fma(p, r, s.splat(5.550_713e-2));
    p = s.fma(p, r, s.splat(2.402_212e-1));
    p = s.fma(p, r, s.splat(6.931_469_4e-1));
    p = s.fma(p, r, s.splat(1.0));
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
                        3 => exp2(s, x),
                        _ => gate(s, x, x),
                    };
                    s.store(out.as_mut_ptr(), y);
                }
            }
            out
        }
    }

    #[test]
    fn functions_are_what_they_are_called() {
        let x: Vec<f32> = (-32_000..32_000).map(|i| i as f32 * 0.0004).collect();
        for isa in Isa::all() {
            for function in 0..5 {
                let y = isa.run(Apply { x: &x, function });
                for (&x, &y) in x.iter().zip(&y) {
                    let wide = f64::from(x);
                    let (expected, tolerance) = match function {
                        0 => (wide.exp(), 3e-7 * wide.exp()),
                        1 => (wide * crate::reference::normal(wide), 3e-7 * wide.abs().max(1e-3)),
                        2 => {
                            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
                            (wide * 0.5 * (1.0 + inner.tanh()), 1e-6 * wide.abs().max(1e-3))
                        }
                        3 => (wide.exp2(), 3e-7 * wide.exp2()),
                        _ => (wide / (1.0 + (-wide).exp()), 5e-7 * wide.abs().max(1e-3)),
                    };
                    assert!((f64::from(y) - expected).abs() <= tolerance, "{isa} function {function} of {x}: {y}, not {expected}");
                }
            }
        }
    }
    struct Rounded<'a>(&'a [f32]);

    impl Kernel for Rounded<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Vec<f32> {
            let mut out = vec![0.0; self.0.len()];
            for (x, y) in self.0.chunks_exact(S::LANES).zip(out.chunks_exact_mut(S::LANES)) {
                // SAFETY: whole vectors.
                unsafe { s.store(y.as_mut_ptr(), s.round(s.load(x.as_ptr()))) };
            }
            out
        }
    }

    #[test]
    fn halves_round_to_even_numbers_of_any_size() {
        let mut x: Vec<f32> =
            vec![0.5, 1.5, 2.5, 0.25, 4_194_303.5, 4_194_304.5, 4_194_305.5, 8_388_607.5, 8_388_609.0, 3e38, f32::INFINITY, 0.0];
        x.extend((0..1000).map(|i| i as f32 * 0.37));
        x.resize(x.len().next_multiple_of(crate::simd::PANEL), 0.75);
        x.extend(x.clone().iter().map(|x| -x));
        for isa in Isa::all() {
            for (x, y) in x.iter().zip(isa.run(Rounded(&x))) {
                assert_eq!(y.to_bits(), x.round_ties_even().to_bits(), "{isa}: {y} of {x}");
            }
            assert!(isa.run(Rounded(&[f32::NAN; crate::simd::PANEL]))[0].is_nan(), "{isa}");
        }
    }

    #[test]
    fn powers_of_two_end_in_zero_and_keep_what_is_no_number() {
        let x = [f32::NEG_INFINITY, -1e30, -127.0, -126.6, -126.0, 0.0, 126.0, f32::NAN, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        for isa in Isa::all() {
            let y = isa.run(Apply { x: &x, function: 3 });
            assert_eq!(y[..4], [0.0; 4], "{isa}");
            assert!((y[4] / 2_f32.powi(-126) - 1.0).abs() < 3e-7, "{isa}");
            assert_eq!((y[5], y[6]), (1.0, 2_f32.powi(126)), "{isa}");
            assert!(y[7].is_nan(), "{isa}");
        }
    }
}
