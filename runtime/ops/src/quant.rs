//! Weights as small integers.
//!
//! A weight matrix is `[rows, columns]` with a row for each output channel, whatever its order in the network.
//!
//! * `int8`: one scale a row, values −127…127: `w ≈ q · scale`. Symmetric, round half away from zero.
//! * `int8g`: groups of 32 along the row, one f16 scale a group, values −127…127: GGUF's Q8_0.
//! * `int4`: groups of 32 along the row, one f16 scale a group, values −8…7, two a byte, the even column in the low nibble, stored
//!   with 8 added: the layout of GGUF's Q4_0. Q4_0's scale is `extreme / −8` for the value of greatest magnitude; here it is the one of a few
//!   around it that leaves the least squared error.

use half::f16;

pub use ocelli_kernels::pack::GROUP;
use ocelli_kernels::pack::int8_rows;

/// Rows of integers with a scale each.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8 {
    /// `[rows][columns]`
    pub values: Vec<i8>,
    /// `[rows]`
    pub scales: Vec<f32>,
}

/// Rows of packed nibbles with a scale for each group of 32.
#[derive(Debug, Clone, PartialEq)]
pub struct Int4 {
    /// `[rows][columns / 2]`
    pub values: Vec<u8>,
    /// `[rows][columns / 32]`
    pub scales: Vec<f16>,
}

/// Quantizes rows of `columns` values to int8.
pub fn quantize_int8(weights: &[f32], columns: usize) -> Int8 {
    let (values, scales) = int8_rows(weights, columns);
    Int8 { values, scales }
}

/// Quantizes groups of [`GROUP`] to eight bits: values and scales. The length must be a multiple of it; rows must be, too.
///
/// A scale is the least f16 with which 127 steps reach the group's greatest magnitude. What came from such groups comes back as it was.
pub fn quantize_int8_groups(weights: &[f32]) -> (Vec<i8>, Vec<f16>) {
    let (mut values, mut scales) = (Vec::with_capacity(weights.len()), Vec::with_capacity(weights.len() / GROUP));
    for group in weights.chunks_exact(GROUP) {
        let greatest = extreme(group).abs();
        let mut scale = f16::from_f32(greatest / 127.0);
        if scale.to_f32() * 127.0 < greatest && scale < f16::MAX {
            // Positive halves are in the order of their bits.
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        let scale = scale.min(f16::MAX);
        let step = scale.to_f32();
        values.extend(group.iter().map(|&w| if step > 0.0 { (w / step).round().clamp(-127.0, 127.0) as i8 } else { 0 }));
        scales.push(scale);
    }
    (values, scales)
}

/// Rounds every row of `columns` weights to multiples of a power of two, the least with which sums of its products with whole numbers of −`greatest`
/// to `greatest` have no error in single precision, in whatever order they are added. Rows that are not finite stay as they are.
pub fn exact_rows(weights: &mut [f32], columns: usize, greatest: u32) {
    // Single precision holds whole numbers up to 2²⁴.
    let most = f64::from(1 << 24) / f64::from(greatest.max(1));
    for row in weights.chunks_exact_mut(columns.max(1)) {
        let sum: f64 = row.iter().map(|&w| f64::from(w.abs())).sum();
        if !sum.is_finite() || sum <= 0.0 {
            continue;
        }
        let mut ones = (most / sum).log2().floor().exp2();
        // Rounding may add up to half a step for each.
        while row.iter().map(|&w| (f64::from(w.abs()) * ones).round()).sum::<f64>() > most {
            ones /= 2.0;
        }
        row.iter_mut().for_each(|w| *w = ((f64::from(*w) * ones).round() / ones) as f32);
    }
}

/// The floats of int8 rows, into `out` of length `rows * columns`.
pub fn dequantize_int8(values: &[i8], scales: &[f32], out: &mut [f32]) {
    let columns = values.len() / scales.len().max(1);
    if columns == 0 {
        return;
    }
    for ((row, out), scale) in values.chunks_exact(columns).zip(out.chunks_exact_mut(columns)).zip(scales) {
        for (q, w) in row.iter().zip(out) {
            *w = f32::from(*q) * scale;
        }
    }
}

/// Scales that are tried, as parts of the extreme: GGUF's first, then those that clip the extreme or stretch to the other side.
const SCALES: [f32; 12] = [
    -1.0 / 8.0,
    -1.0 / 8.4,
    -1.0 / 8.8,
    -1.0 / 9.2,
    -1.0 / 9.6,
    -1.0 / 10.2,
    1.0 / 7.0,
    1.0 / 7.4,
    1.0 / 7.8,
    1.0 / 8.2,
    1.0 / 8.6,
    1.0 / 9.2,
];

/// Quantizes to int4. The length must be a multiple of [`GROUP`]; rows must be, too.
pub fn quantize_int4(weights: &[f32]) -> Int4 {
    let mut out = Int4 { values: Vec::with_capacity(weights.len() / 2), scales: Vec::with_capacity(weights.len() / GROUP) };
    for group in weights.chunks_exact(GROUP) {
        let extreme = extreme(group);
        let tried = SCALES.map(|part| f16::from_f32(extreme * part)).map(|scale| (squared_error(group, scale), scale));
        // The first of equals, and Q4_0's where the error is no number.
        let scale = tried.into_iter().reduce(|best, next| if next.0 < best.0 { next } else { best }).map_or(f16::ZERO, |best| best.1);
        out.values.extend(group.chunks_exact(2).map(|pair| nibble(pair[0], scale) | nibble(pair[1], scale) << 4));
        out.scales.push(scale);
    }
    out
}

/// The value of greatest magnitude.
fn extreme(group: &[f32]) -> f32 {
    group.iter().fold(0.0, |m, &w| if w.abs() > f32::abs(m) { w } else { m })
}

/// The integer of a value, with 8 added.
fn nibble(weight: f32, scale: f16) -> u8 {
    let scale = scale.to_f32();
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    ((weight * inverse).round() + 8.0).clamp(0.0, 15.0) as u8
}

fn squared_error(group: &[f32], scale: f16) -> f32 {
    group.iter().map(|&w| ((f32::from(nibble(w, scale)) - 8.0) * scale.to_f32() - w).powi(2)).sum()
}

/// The integers −8…7 of packed nibbles, the even column first.
pub fn nibbles(values: &[u8]) -> Vec<i8> {
    values.iter().flat_map(|byte| [(byte & 15) as i8 - 8, (byte >> 4) as i8 - 8]).collect()
}

/// The floats of int4 groups, into `out` of twice the length of `values`.
pub fn dequantize_int4(values: &[u8], scales: &[f16], out: &mut [f32]) {
    for ((group, out), scale) in values.chunks_exact(GROUP / 2).zip(out.chunks_exact_mut(GROUP)).zip(scales) {
        let scale = scale.to_f32();
        for (byte, pair) in group.iter().zip(out.chunks_exact_mut(2)) {
            pair[0] = (f32::from(byte & 15) - 8.0) * scale;
            pair[1] = (f32::from(byte >> 4) - 8.0) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed sequence in −1…1 without a random number generator.
    fn sequence(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 * 12.9898).sin() * 43758.547).fract()).collect()
    }

    #[test]
    fn int8_is_within_half_a_step() {
        let weights = sequence(7 * 48);
        let q = quantize_int8(&weights, 48);
        let mut back = vec![0.0; weights.len()];
        dequantize_int8(&q.values, &q.scales, &mut back);
        for (i, (w, b)) in weights.iter().zip(&back).enumerate() {
            assert!((w - b).abs() <= q.scales[i / 48] * 0.5001, "{i}: {w} {b}");
        }
    }

    #[test]
    fn groups_of_eight_bits_are_within_half_a_step() {
        let mut weights = sequence(6 * 64);
        // Among them values whose scale is no normal half.
        weights[..GROUP].iter_mut().for_each(|w| *w *= 1e-6);
        let (values, scales) = quantize_int8_groups(&weights);
        let back: Vec<f32> = values.iter().enumerate().map(|(i, &q)| f32::from(q) * scales[i / GROUP].to_f32()).collect();
        for (i, (w, b)) in weights.iter().zip(&back).enumerate() {
            assert!((w - b).abs() <= scales[i / GROUP].to_f32() * 0.5001, "{i}: {w} {b}");
        }
        let again = quantize_int8_groups(&back);
        let twice: Vec<f32> = again.0.iter().enumerate().map(|(i, &q)| f32::from(q) * again.1[i / GROUP].to_f32()).collect();
        assert_eq!(twice[GROUP..], back[GROUP..]);
        assert_eq!(quantize_int8_groups(&[0.0; 32]), (vec![0; 32], vec![f16::ZERO]));
        let large = quantize_int8_groups(&[1e9; 32]);
        assert_eq!((large.0[0], large.1[0]), (127, f16::MAX));
    }

    #[test]
    fn int4_is_within_half_a_step_or_at_an_end() {
        let weights = sequence(4 * 64);
        let q = quantize_int4(&weights);
        let mut back = vec![0.0; weights.len()];
        dequantize_int4(&q.values, &q.scales, &mut back);
        for (g, (w, b)) in weights.chunks(GROUP).zip(back.chunks(GROUP)).enumerate() {
            let scale = q.scales[g].to_f32();
            for (w, b) in w.iter().zip(b) {
                let (is, should) = ((b / scale).round(), w / scale);
                // f16 rounds the scale by 2⁻¹¹.
                assert!((is - should).abs() <= 0.51 || (is == 7.0 && should > 7.0) || (is == -8.0 && should < -8.0), "{w} {b} {scale}");
            }
            assert!(squared_error(w, q.scales[g]) <= squared_error(w, f16::from_f32(extreme(w) / -8.0)));
        }
    }

    #[test]
    fn what_q4_0_keeps_exactly_is_kept() {
        // All sixteen values, twice: no other scale has no error.
        let weights: Vec<f32> = (0..32).map(|i| (i % 16 - 8) as f32 * 0.5).collect();
        let q = quantize_int4(&weights);
        let mut back = vec![0.0; 32];
        dequantize_int4(&q.values, &q.scales, &mut back);
        assert_eq!(back, weights);
    }

    #[test]
    fn exact_rows_have_as_many_bits_as_sums_allow() {
        let (columns, greatest) = (27, 128);
        // With all 24 bits.
        let mut weights: Vec<f32> = sequence(5 * columns).iter().map(|w| w / 3.0).collect();
        weights[columns..2 * columns].iter_mut().for_each(|w| *w *= 1e-4);
        weights[2 * columns..3 * columns].fill(0.0);
        weights[3 * columns] = f32::NAN;
        let before = weights.clone();
        exact_rows(&mut weights, columns, greatest);
        for (i, (row, before)) in weights.chunks(columns).zip(before.chunks(columns)).enumerate() {
            if i == 2 || i == 3 {
                assert!(row.iter().zip(before).all(|(a, b)| a.to_bits() == b.to_bits()), "{i}");
                continue;
            }
            // The step is the greatest power of two that divides all weights.
            let step = row.iter().filter(|w| **w != 0.0).map(|w| w.abs()).fold(f32::INFINITY, |step, w| {
                let least =
                    f32::exp2((w.to_bits() >> 23) as f32 - 127.0 - 23.0) * f32::exp2((w.to_bits() | 1 << 23).trailing_zeros() as f32);
                step.min(least)
            });
            let sum: f32 = row.iter().map(|w| w.abs() / step).sum();
            let most = (1 << 24) as f32 / greatest as f32;
            assert!(sum <= most && sum > 0.49 * most, "{i}: {sum} of {most}");
            assert!(row.iter().zip(before).all(|(a, b)| (a - b).abs() <= 0.5 * step), "{i}");
        }
    }

    #[test]
    fn zero_rows_stay_zero() {
        let q = quantize_int8(&[0.0; 64], 32);
        assert_eq!(q.values, vec![0; 64]);
        let q = quantize_int4(&[0.0; 64]);
        let mut back = vec![1.0; 64];
        dequantize_int4(&q.values, &q.scales, &mut back);
        assert_eq!(back, vec![0.0; 64]);
    }
}
