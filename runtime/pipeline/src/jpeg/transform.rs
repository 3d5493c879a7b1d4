//! The inverse cosine transform, as libjpeg's `jidctint.c` rounds it.

use super::wide::wide;

/// Fractional bits of constants.
const CONST_BITS: u32 = 13;
/// Fractional bits between the passes.
const PASS1_BITS: u32 = 2;

/// Order of coefficients in a file (T.81 figure A.6).
pub const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Eight values at a time, each of another column or row.
type Lane = [i32; 8];

#[inline(always)]
fn each(f: impl Fn(usize) -> i32) -> Lane {
    std::array::from_fn(f)
}

/// One pass over eight columns at once, values scaled by 2^[`CONST_BITS`] (Loeffler, Ligtenberg and Moschytz 1989, with 12 multiplications).
#[inline(always)]
fn pass(x: &[Lane; 8], shift: u32) -> [Lane; 8] {
    let mul = |a: &Lane, c: i32| each(|i| a[i].wrapping_mul(c));
    let add = |a: &Lane, b: &Lane| each(|i| a[i].wrapping_add(b[i]));
    let sub = |a: &Lane, b: &Lane| each(|i| a[i].wrapping_sub(b[i]));
    // Even part.
    let z1 = mul(&add(&x[2], &x[6]), 4433);
    let t2 = add(&z1, &mul(&x[6], -15137));
    let t3 = add(&z1, &mul(&x[2], 6270));
    let t0 = mul(&add(&x[0], &x[4]), 1 << CONST_BITS);
    let t1 = mul(&sub(&x[0], &x[4]), 1 << CONST_BITS);
    let (t10, t13, t11, t12) = (add(&t0, &t3), sub(&t0, &t3), add(&t1, &t2), sub(&t1, &t2));
    // Odd part.
    let (z1, z2) = (add(&x[7], &x[1]), add(&x[5], &x[3]));
    let (z3, z4) = (add(&x[7], &x[3]), add(&x[5], &x[1]));
    let z5 = mul(&add(&z3, &z4), 9633);
    let (z1, z2) = (mul(&z1, -7373), mul(&z2, -20995));
    let (z3, z4) = (add(&mul(&z3, -16069), &z5), add(&mul(&z4, -3196), &z5));
    let t0 = add(&mul(&x[7], 2446), &add(&z1, &z3));
    let t1 = add(&mul(&x[5], 16819), &add(&z2, &z4));
    let t2 = add(&mul(&x[3], 25172), &add(&z2, &z3));
    let t3 = add(&mul(&x[1], 12299), &add(&z1, &z4));
    let round = |a: Lane| each(|i| a[i].wrapping_add(1 << (shift - 1)) >> shift);
    [
        round(add(&t10, &t3)),
        round(add(&t11, &t2)),
        round(add(&t12, &t1)),
        round(add(&t13, &t0)),
        round(sub(&t13, &t0)),
        round(sub(&t12, &t1)),
        round(sub(&t11, &t2)),
        round(sub(&t10, &t3)),
    ]
}

#[inline(always)]
fn transposed(x: &[Lane; 8]) -> [Lane; 8] {
    std::array::from_fn(|i| each(|j| x[j][i]))
}

/// A block of coefficients, dequantized, row by row, as grey levels at `place`, whose rows are `stride` apart. There must be room for eight.
pub fn inverse(coefficients: &[i32; 64], place: &mut [u8], stride: usize) {
    if coefficients[1..].iter().all(|&value| value == 0) {
        // One level: what both passes make of it.
        let level = (coefficients[0].wrapping_add(4) >> 3).wrapping_add(128).clamp(0, 255) as u8;
        place.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(level));
        return;
    }
    wide(|| inverse_of_any(coefficients, place, stride));
}

#[inline(always)]
fn inverse_of_any(coefficients: &[i32; 64], place: &mut [u8], stride: usize) {
    let rows: [Lane; 8] = std::array::from_fn(|row| each(|column| coefficients[row * 8 + column]));
    let columns_done = pass(&rows, CONST_BITS - PASS1_BITS);
    let done = transposed(&pass(&transposed(&columns_done), CONST_BITS + PASS1_BITS + 3));
    for (row, target) in done.iter().zip(place.chunks_mut(stride)) {
        for (level, value) in target.iter_mut().zip(row) {
            *level = value.wrapping_add(128).clamp(0, 255) as u8;
        }
    }
}
