//! Linear layers on every instruction set of this CPU, against the plain loops of the reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_range_loop, reason = "tests, helpers included")]

mod common;

use half::f16;
use ocelli_kernels::pack::{Floats, GROUP, GroupBits, pack_float};
use ocelli_kernels::{Activation, Engine, Epilogue, Isa, OwnedGroups, OwnedInt8, PackedFloat, Pool, Prologue, Weight, reference};
use proptest::prelude::*;

use common::noise;

/// A weight of every kind, owned.
enum Owned {
    Int8(OwnedInt8),
    Groups(OwnedGroups),
    F32(usize, usize, Vec<f32>),
    F16(usize, usize, Vec<f16>),
}

impl Owned {
    fn new(kind: u8, n: usize, k: usize, weights: &[f32]) -> Self {
        match kind {
            0 => Self::Int8(OwnedInt8::quantize(n, k, weights).unwrap()),
            1 => Self::Groups(OwnedGroups::quantize(n, k, GroupBits::Int8, weights).unwrap()),
            2 => Self::Groups(OwnedGroups::quantize(n, k, GroupBits::Int4, weights).unwrap()),
            3 => Self::F32(n, k, pack_float(n, k, weights).unwrap()),
            _ => {
                let halves: Vec<f16> = weights.iter().map(|&x| f16::from_f32(x)).collect();
                Self::F16(n, k, pack_float(n, k, &halves).unwrap())
            }
        }
    }

    fn view(&self) -> Weight<'_> {
        match self {
            Self::Int8(weight) => Weight::Int8(weight.view()),
            Self::Groups(weight) => Weight::Groups(weight.view()),
            Self::F32(n, k, values) => Weight::Float(PackedFloat::new(*n, *k, Floats::F32(values)).unwrap()),
            Self::F16(n, k, values) => Weight::Float(PackedFloat::new(*n, *k, Floats::F16(values)).unwrap()),
        }
    }
}

/// How far one result may be from the reference's.
///
/// Single precision leaves a relative error of some units in the last place of Σ |w x|. An activation that lies so near the middle
/// between two bytes that single and double precision round it apart changes the result by one step of the activation times the weight;
/// of 100 elements a few thousandths do, so four steps are as good as never exceeded, and far below what a wrong index would change.
fn tolerance(row: &[f64], weight: Weight<'_>, column: usize, quantized: bool) -> f64 {
    let value = |i: usize| match weight {
        Weight::Int8(w) => f64::from(w.value(column, i)) * f64::from(w.scales()[column]),
        Weight::Groups(w) => f64::from(w.value(column, i)) * w.scale(column, i).to_f64(),
        Weight::Float(w) => f64::from(w.value(column, i)),
    };
    let (mut sum, mut greatest) = (0.0, 0.0_f64);
    for (i, x) in row.iter().enumerate() {
        sum += (value(i) * x).abs();
        greatest = greatest.max(value(i).abs());
    }
    let step = row.iter().fold(0.0_f64, |a, x| a.max(x.abs())) / 127.0;
    let flips = if quantized { 4.0 * step * greatest } else { 0.0 };
    1e-30 + 4e-6 * sum + flips
}

#[allow(clippy::too_many_arguments)]
fn check(
    isa: Isa,
    pool: &Pool,
    kind: u8,
    (m, n, k): (usize, usize, usize),
    x: &[f32],
    prologue: Prologue<'_>,
    weights: &[f32],
    epilogue: Epilogue<'_>,
) {
    let owned = Owned::new(kind, n, k, weights);
    let expected = reference::linear(x, prologue, owned.view(), epilogue);
    let mut out = vec![f32::NAN; m * n];
    Engine::new(isa, pool).linear(x, prologue, owned.view(), epilogue, &mut out);
    let width = prologue.width(k);
    for row in 0..m {
        let prepared = reference::prepare(&x[row * width..][..width], prologue);
        for column in 0..n {
            let (y, e) = (f64::from(out[row * n + column]), expected[row * n + column]);
            if e.is_nan() {
                assert!(y.is_nan(), "{isa} kind {kind} {m}x{n}x{k} at {row},{column}: {y}, not NaN");
                continue;
            }
            // Every activation's slope is below 1.2; a residual is rounded once more.
            let close = 1.2 * tolerance(&prepared, owned.view(), column, kind < 3)
                + 3e-7 * e.abs()
                + 1e-7 * epilogue.residual.map_or(0.0, |r| f64::from(r[row * n + column].abs()));
            let close = close + 4e-7 * epilogue.bias.map_or(0.0, |b| f64::from(b[column].abs()));
            // What lies in the middle of two steps may go to either.
            let close = close + epilogue.fraction_bits.map_or(0.0, |bits| 1.2 * (-f64::from(bits)).exp2());
            assert!((y - e).abs() <= close, "{isa} kind {kind} {m}x{n}x{k} at {row},{column}: {y}, not {e} within {close}");
            if let (Some(bits), Activation::None, None) = (epilogue.fraction_bits, epilogue.activation, epilogue.residual) {
                let steps = y * f64::from(bits).exp2();
                assert!(steps == steps.trunc(), "{isa} kind {kind} {m}x{n}x{k} at {row},{column}: {y} has more bits than {bits}");
            }
        }
    }
}

/// 96 cases, or `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases: 96, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn linear_is_the_references(
        m in 1_usize..30, n in 1_usize..120, k in 1_usize..140, kind in 0_u8..5, which in 0_usize..7, prologue in 0_u8..4,
        bias: bool, residual: bool, rounds: bool, seed: u64, threads in 1_usize..4, exponent in -20_i32..12,
    ) {
        let k = if (1..3).contains(&kind) { k.div_ceil(GROUP) * GROUP } else { k };
        // Of a single element normalisation leaves noise, of the size of ε.
        let k = if prologue == 1 { k.max(8) } else { k };
        let (gains, shifts) = (noise(seed ^ 1, k), noise(seed ^ 2, k));
        let prologue = match prologue {
            0 => Prologue::None,
            1 => Prologue::LayerNorm { weight: &gains, bias: &shifts, epsilon: 1e-5 },
            2 => Prologue::RmsNorm { weight: &gains, epsilon: 1e-5 },
            _ => Prologue::SiluMul,
        };
        let scale = if matches!(prologue, Prologue::None) { 2_f32.powi(exponent) } else { 1.0 };
        let x: Vec<f32> = noise(seed, m * prologue.width(k)).iter().map(|x| x * scale).collect();
        let weights = noise(seed ^ 3, n * k);
        let (b, r) = (noise(seed ^ 4, n), noise(seed ^ 5, m * n));
        let (activation, fraction_bits) = (Activation::ALL[which], rounds.then_some(12));
        let epilogue = Epilogue { bias: bias.then_some(&b), activation, residual: residual.then_some(&r), fraction_bits };
        let pool = Pool::new(threads);
        for isa in Isa::all() {
            check(isa, &pool, kind, (m, n, k), &x, prologue, &weights, epilogue);
        }
    }
}

#[test]
fn every_tail_of_every_tile() {
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for kind in 0..5 {
            for m in (1..=13).chain([24, 25, 50]) {
                for n in [1, 15, 16, 17, 33, 64, 65, 80] {
                    for k in [1, 3, 4, 5, 31, 32, 64, 100] {
                        if (1..3).contains(&kind) && k % GROUP != 0 {
                            continue;
                        }
                        let (x, weights) = (noise(m as u64, m * k), noise(n as u64, n * k));
                        check(isa, &pool, kind, (m, n, k), &x, Prologue::None, &weights, Epilogue::default());
                    }
                }
            }
        }
    }
}

#[test]
fn whole_numbers_are_exact_at_the_ends_of_the_range() {
    // ±127 throughout, K so long that 16-bit sums would saturate; every product and sum is exact in 32 bits.
    let (m, n, k) = (5, 40, 4096);
    let pool = Pool::new(2);
    for isa in Isa::all() {
        for pattern in 0..4_usize {
            let sign = |i: usize, p: usize| if (i >> p) & 1 == 1 && p < 3 { -127_i32 } else { 127 };
            let x: Vec<f32> = (0..m * k).map(|i| sign(i % k, pattern) as f32).collect();
            let values: Vec<i8> = (0..n * k).map(|i| (sign(i % k, pattern) * if i / k % 2 == 0 { 1 } else { -1 }) as i8).collect();
            let int8 = OwnedInt8::pack(n, k, &values, &vec![1.0; n]).unwrap();
            let groups = OwnedGroups::pack(n, k, GroupBits::Int8, &values, &vec![f16::ONE; n * k / GROUP]).unwrap();
            for weight in [Weight::Int8(int8.view()), Weight::Groups(groups.view())] {
                let mut out = vec![0.0; m * n];
                Engine::new(isa, &pool).linear(&x, Prologue::None, weight, Epilogue::default(), &mut out);
                for (i, &y) in out.iter().enumerate() {
                    let expected = 127.0 * 127.0 * k as f32 * if i % n % 2 == 0 { 1.0 } else { -1.0 };
                    assert_eq!(y, expected, "{isa} {weight:?}", weight = pattern);
                }
            }
            // The ends of nibbles, 7 and −8: as they are stored 15 and 0.
            let values: Vec<i8> = (0..n * k).map(|i| if sign(i % k, pattern) > 0 { 7 } else { -8 }).collect();
            let int4 = OwnedGroups::pack(n, k, GroupBits::Int4, &values, &vec![f16::ONE; n * k / GROUP]).unwrap();
            let mut out = vec![0.0; m * n];
            Engine::new(isa, &pool).linear(&x, Prologue::None, Weight::Groups(int4.view()), Epilogue::default(), &mut out);
            let expected: i32 = x[..k].iter().zip(&values).map(|(&x, &w)| x as i32 * i32::from(w)).sum();
            assert!(out.iter().all(|&y| y == expected as f32), "{isa} {pattern}: {} where it is {expected}", out[0]);
        }
    }
}

#[test]
fn rows_with_and_without_a_negative_element_are_exact() {
    // Whole numbers of which the greatest is 127: nothing is rounded. Of some blocks of rows no element is negative, of others a single one.
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for (m, n, k) in [(1, 17, 5), (2, 40, 64), (3, 1, 1), (4, 33, 31), (7, 16, 100), (9, 24, 3), (13, 40, 128)] {
            for negative in [None, Some(0), Some(k - 1), Some((m - 1) * k), Some(m * k - 1)] {
                let mut x: Vec<f32> = noise(7, m * k).iter().map(|x| (x.abs() * 127.0).round().min(127.0)).collect();
                x.iter_mut().step_by(k).for_each(|first| *first = 127.0);
                if let Some(place) = negative {
                    x[place] = -127.0;
                }
                let values: Vec<i8> = noise(8, n * k).iter().map(|w| (w * 127.0).clamp(-127.0, 127.0) as i8).collect();
                let weight = OwnedInt8::pack(n, k, &values, &vec![1.0; n]).unwrap();
                let mut out = vec![0.0; m * n];
                Engine::new(isa, &pool).linear(&x, Prologue::None, Weight::Int8(weight.view()), Epilogue::default(), &mut out);
                for (i, &y) in out.iter().enumerate() {
                    let (row, column) = (&x[i / n * k..][..k], &values[i % n * k..][..k]);
                    let expected: i32 = row.iter().zip(column).map(|(&x, &w)| x as i32 * i32::from(w)).sum();
                    assert_eq!(y, expected as f32, "{isa} {m}x{n}x{k}, {negative:?}, at {i}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_in_its_row() {
    let (m, n, k) = (14, 20, 64);
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for kind in 0..5 {
            for (row, bad) in [(0, f32::NAN), (5, f32::INFINITY), (13, f32::NEG_INFINITY)] {
                let mut x = noise(1, m * k);
                let weights = noise(2, n * k);
                let owned = Owned::new(kind, n, k, &weights);
                let mut clean = vec![0.0; m * n];
                Engine::new(isa, &pool).linear(&x, Prologue::None, owned.view(), Epilogue::default(), &mut clean);
                x[row * k + 17] = bad;
                let mut out = vec![0.0; m * n];
                Engine::new(isa, &pool).linear(&x, Prologue::None, owned.view(), Epilogue::default(), &mut out);
                for i in 0..m * n {
                    if i / n == row {
                        assert!(!out[i].is_finite(), "{isa} kind {kind} {bad}: {} at {i}", out[i]);
                    } else {
                        assert_eq!(out[i], clean[i], "{isa} kind {kind} {bad} at {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_zeros_and_extreme_scales() {
    let (m, n, k) = (6, 17, 96);
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for kind in 0..5 {
            let mut x = noise(9, m * k);
            x[..k].fill(0.0);
            x[k..2 * k].iter_mut().for_each(|x| *x *= 1e-30);
            x[2 * k..3 * k].iter_mut().for_each(|x| *x *= 1e30);
            x[3 * k..4 * k].iter_mut().for_each(|x| *x = 1e-42);
            let mut weights = noise(10, n * k);
            weights[..k].fill(0.0);
            check(isa, &pool, kind, (m, n, k), &x, Prologue::None, &weights, Epilogue::default());
        }
    }
}
