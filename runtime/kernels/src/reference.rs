//! The specification: every kernel in plain loops, with sums in double precision. Slow; always compiled.

mod attention;
mod rows;

pub use attention::{attention, softmax};
pub use rows::{embedding, norm, rope};
pub mod convolution;

use crate::linear::{Activation, Epilogue, Weight};
use crate::pack::GROUP;
use crate::quantize::Prologue;

/// The function of [`Activation`].
pub fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Gelu => x * normal(x),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::GeluTanh => x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)),
        Activation::Silu => x * sigmoid(x),
    }
}

/// The normal distribution's Φ: ½ erfc(−x/√2), by a Taylor series within 3 and a continued fraction beyond.
pub fn normal(x: f64) -> f64 {
    let z = x.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let tail = if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        0.5 - sum / std::f64::consts::PI.sqrt()
    } else {
        let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (z + f));
        0.5 * (-z * z).exp() / std::f64::consts::PI.sqrt() / (z + fraction)
    };
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// A row after its prologue.
pub fn prepare(x: &[f32], prologue: Prologue<'_>) -> Vec<f64> {
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let k = x.len() as f64;
    match prologue {
        Prologue::None => x,
        Prologue::LayerNorm { weight, bias, epsilon } => {
            let mean = x.iter().sum::<f64>() / k;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / k;
            let root = (variance + f64::from(epsilon)).sqrt();
            x.iter().zip(weight).zip(bias).map(|((x, &w), &b)| (x - mean) / root * f64::from(w) + f64::from(b)).collect()
        }
        Prologue::RmsNorm { weight, epsilon } => {
            let root = (x.iter().map(|x| x * x).sum::<f64>() / k + f64::from(epsilon)).sqrt();
            x.iter().zip(weight).map(|(x, &w)| x / root * f64::from(w)).collect()
        }
        Prologue::SiluMul => {
            let (gates, values) = x.split_at(x.len() / 2);
            gates.iter().zip(values).map(|(&g, v)| activate(Activation::Silu, g) * v).collect()
        }
    }
}

/// Rounds to whole numbers −127…127 with one scale, ties away from zero; NaN for the scale where not all are finite.
pub fn quantize(x: &[f64]) -> (Vec<f64>, f64) {
    if x.iter().any(|x| !x.is_finite()) {
        return (vec![0.0; x.len()], f64::NAN);
    }
    let greatest = x.iter().fold(0.0_f64, |greatest, x| greatest.max(x.abs()));
    if greatest <= 1e-36 {
        return (vec![0.0; x.len()], 0.0);
    }
    (x.iter().map(|x| (x * 127.0 / greatest).round()).collect(), greatest / 127.0)
}

/// Rounds to so many bits after the point, ties to even; where no number is given, not at all.
pub fn fixed(x: f64, fraction_bits: Option<u8>) -> f64 {
    fraction_bits.map_or(x, |bits| (x * f64::from(bits).exp2()).round_ties_even() / f64::from(bits).exp2())
}

/// activation(prologue(x) Wᵀ + b) + residual, `[M][N]`; activations are rounded to bytes where the weight is of integers.
pub fn linear(x: &[f32], prologue: Prologue<'_>, weight: Weight<'_>, epilogue: Epilogue<'_>) -> Vec<f64> {
    let (n, k) = (weight.n(), weight.k());
    let width = prologue.width(k);
    let mut out = Vec::with_capacity(x.len() / width * n);
    for (m, row) in x.chunks_exact(width).enumerate() {
        let row = prepare(row, prologue);
        let (bytes, scale) = quantize(&row);
        let groups: Vec<_> = row.chunks(GROUP).map(quantize).collect();
        for column in 0..n {
            let y = match weight {
                Weight::Int8(weight) => {
                    let sum: f64 = (0..k).map(|i| bytes[i] * f64::from(weight.value(column, i))).sum();
                    sum * scale * f64::from(weight.scales()[column])
                }
                Weight::Groups(weight) => {
                    let group = |(g, (bytes, scale)): (usize, &(Vec<f64>, f64))| {
                        let sum: f64 = bytes.iter().enumerate().map(|(i, x)| x * f64::from(weight.value(column, g * GROUP + i))).sum();
                        sum * scale * weight.scale(column, g * GROUP).to_f64()
                    };
                    groups.iter().enumerate().map(group).sum()
                }
                Weight::Float(weight) => (0..k).map(|i| row[i] * f64::from(weight.value(column, i))).sum(),
            };
            let bias = epilogue.bias.map_or(0.0, |bias| f64::from(bias[column]));
            let y = activate(epilogue.activation, fixed(y, epilogue.fraction_bits) + fixed(bias, epilogue.fraction_bits));
            out.push(y + epilogue.residual.map_or(0.0, |residual| f64::from(residual[m * n + column])));
        }
    }
    out
}
