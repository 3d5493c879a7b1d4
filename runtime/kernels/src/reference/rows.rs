//! What is done to rows, in plain loops.

use super::prepare;
use crate::embedding::Table;
use crate::linear::Weight;
use crate::norm::Norm;
use crate::quantize::Prologue;
use crate::rope::{Positions, Rope, RopePairs};

/// One row normalised.
pub fn norm(x: &[f32], norm: Norm<'_>) -> Vec<f64> {
    match norm {
        Norm::Layer { weight, bias, epsilon } => prepare(x, Prologue::LayerNorm { weight, bias, epsilon }),
        Norm::Rms { weight, epsilon } => prepare(x, Prologue::RmsNorm { weight, epsilon }),
        Norm::L2 { epsilon } => {
            let length = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            let length = if length < f64::from(epsilon) { f64::from(epsilon) } else { length };
            x.iter().map(|&x| f64::from(x) / length).collect()
        }
    }
}

/// What becomes of all of `x`.
pub fn rope(rope: &Rope<'_>, x: &[f32]) -> Vec<f64> {
    let mut out: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let pairs = rope.table.rotary_dim() / 2;
    for token in 0..rope.tokens {
        let position = match rope.positions {
            Positions::From(first) => first + token,
            Positions::Each(positions) => positions[token] as usize,
        };
        let (cos, sin) = rope.table.row(position);
        for head in 0..rope.heads {
            let start = token * rope.row_stride + head * rope.head_stride;
            for i in 0..pairs {
                let (a, b) = match rope.pairs {
                    RopePairs::Half => (start + i, start + i + pairs),
                    RopePairs::Interleaved => (start + 2 * i, start + 2 * i + 1),
                };
                let (cos, sin) = (f64::from(cos[i]), f64::from(sin[i]));
                (out[a], out[b]) = (out[a] * cos - out[b] * sin, out[a] * sin + out[b] * cos);
            }
        }
    }
    out
}

/// One row of an embedding table.
pub fn embedding(table: Table<'_>, row: usize) -> Vec<f64> {
    let value = |k: usize| match table {
        Table::Rows { values, width } => values.at(row * width + k),
        Table::Packed(Weight::Int8(weight)) => f64::from(weight.value(row, k)) * f64::from(weight.scales()[row]),
        Table::Packed(Weight::Groups(weight)) => f64::from(weight.value(row, k)) * weight.scale(row, k).to_f64(),
        Table::Packed(Weight::Float(weight)) => f64::from(weight.value(row, k)),
    };
    (0..table.width()).map(value).collect()
}
