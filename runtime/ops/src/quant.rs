//! Weights as small integers.
//!
//! A weight matrix is `[rows, columns]` with a row for each output channel, whatever its order in the network.
//!
//! * `int8`: one scale a row, values −127…127: `w ≈ q · scale`. Symmetric, round half away from zero.
//! * `int4`: groups of 32 along the row, one f16 scale a group, values −8…7, two a byte, the even column in the low nibble, stored
//!   with 8 added. The scale is `extreme / −8` for the value of greatest magnitude, as in GGUF's Q4_0, so that this value is exact.

use half::f16;

/// Columns that share a scale in `int4`.
pub const GROUP: usize = 32;

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
    let mut out = Int8 { values: Vec::with_capacity(weights.len()), scales: Vec::new() };
    for row in weights.chunks_exact(columns) {
        let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        out.values.extend(row.iter().map(|w| (w * inverse).round().clamp(-127.0, 127.0) as i8));
        out.scales.push(scale);
    }
    out
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

/// Quantizes to int4. The length must be a multiple of [`GROUP`]; rows must be, too.
pub fn quantize_int4(weights: &[f32]) -> Int4 {
    let mut out = Int4 { values: Vec::with_capacity(weights.len() / 2), scales: Vec::with_capacity(weights.len() / GROUP) };
    for group in weights.chunks_exact(GROUP) {
        let extreme = group.iter().fold(0.0f32, |m, &w| if w.abs() > m.abs() { w } else { m });
        let scale = f16::from_f32(extreme / -8.0);
        let inverse = if scale.to_f32() == 0.0 { 0.0 } else { scale.to_f32().recip() };
        let nibble = |w: f32| ((w * inverse).round() + 8.0).clamp(0.0, 15.0) as u8;
        out.values.extend(group.chunks_exact(2).map(|pair| nibble(pair[0]) | nibble(pair[1]) << 4));
        out.scales.push(scale);
    }
    out
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
    fn int4_is_within_half_a_step_and_exact_at_the_extreme() {
        let weights = sequence(4 * 64);
        let q = quantize_int4(&weights);
        let mut back = vec![0.0; weights.len()];
        dequantize_int4(&q.values, &q.scales, &mut back);
        for (g, (w, b)) in weights.chunks(GROUP).zip(back.chunks(GROUP)).enumerate() {
            let step = q.scales[g].to_f32().abs();
            for (w, b) in w.iter().zip(b) {
                // +8 does not exist: a value opposite to the extreme is clipped by up to one step. f16 rounds the scale by 2⁻¹¹.
                let allowed = if w / -q.scales[g].to_f32() < -7.5 { 1.01 } else { 0.51 };
                assert!((w - b).abs() <= step * allowed, "{w} {b} {step}");
            }
            let extreme = w.iter().zip(b).max_by(|x, y| x.0.abs().total_cmp(&y.0.abs())).unwrap();
            assert!((extreme.0 - extreme.1).abs() <= extreme.0.abs() * 1e-3);
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
