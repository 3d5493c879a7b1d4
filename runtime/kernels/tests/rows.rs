//! Norms, softmax, rotary embedding and embedding tables on every instruction set of this CPU, against the plain loops of the reference.

#![allow(clippy::unwrap_used, clippy::needless_range_loop)]

mod common;

use half::f16;
use ocelli_kernels::pack::{Floats, GroupBits, pack_float};
use ocelli_kernels::{
    EmbeddingError, Engine, Isa, Norm, OwnedGroups, OwnedInt8, PackedFloat, Pool, Positions, Rope, RopePairs, RopeTable, Table, Weight,
    reference,
};
use proptest::prelude::*;

use common::noise;

/// The unit roundoff of single precision.
const U: f64 = f32::EPSILON as f64 / 2.0;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn norms_are_the_references(rows in 1_usize..20, width in 1_usize..300, kind in 0_u8..3, seed: u64, exponent in -8_i32..8, threads in 1_usize..3) {
        let x: Vec<f32> = noise(seed, rows * width).iter().map(|x| x * 2_f32.powi(exponent)).collect();
        let (weight, bias) = (noise(seed ^ 1, width), noise(seed ^ 2, width));
        let (norm, epsilon) = match kind {
            0 => (Norm::Layer { weight: &weight, bias: &bias, epsilon: 1e-5 }, 1e-5_f64),
            1 => (Norm::Rms { weight: &weight, epsilon: 1e-6 }, 1e-6),
            _ => (Norm::L2 { epsilon: 1e-12 }, 1e-12),
        };
        let pool = Pool::new(threads);
        for isa in Isa::all() {
            let mut out = vec![f32::NAN; x.len()];
            Engine::new(isa, &pool).norm(&x, width, norm, &mut out);
            for row in 0..rows {
                let x = &x[row * width..][..width];
                let expected = reference::norm(x, norm);
                // A sum of K terms of one sign is off by at most K u of itself, so the root by half of that; some single operations come
                // on top. The mean is off by K u of the mean magnitude, which counts as a part of the deviation.
                let relative = (width as f64 / 2.0 + 8.0) * U;
                let magnitude = x.iter().fold(0.0_f64, |a, &x| a.max(f64::from(x.abs())));
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
                let deviation = (x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64 + epsilon).sqrt();
                for i in 0..width {
                    let of_mean = if kind == 0 { (width as f64 + 4.0) * U * magnitude / deviation * f64::from(weight[i].abs()) } else { 0.0 };
                    let of_bias = if kind == 0 { f64::from(bias[i].abs()) } else { 0.0 };
                    let close = 1e-30 + 2.0 * relative * (expected[i].abs() + of_bias) + 2.0 * of_mean;
                    let y = f64::from(out[row * width + i]);
                    prop_assert!((y - expected[i]).abs() <= close, "{} norm {} of {} at {}: {}, not {} within {}", isa, kind, width, i, y, expected[i], close);
                }
            }
        }
    }

    #[test]
    fn softmax_is_the_references(rows in 1_usize..20, width in 1_usize..300, seed: u64, exponent in -8_i32..15, threads in 1_usize..3) {
        let x: Vec<f32> = noise(seed, rows * width).iter().map(|x| x * 2_f32.powi(exponent)).collect();
        let pool = Pool::new(threads);
        for isa in Isa::all() {
            let mut out = x.clone();
            Engine::new(isa, &pool).softmax(&mut out, width);
            for row in 0..rows {
                let x: Vec<f64> = x[row * width..][..width].iter().map(|&x| f64::from(x)).collect();
                let greatest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                for (i, e) in reference::softmax(&x).into_iter().enumerate() {
                    // The exponent x − greatest is rounded twice, relative to itself: e^(±2 u |x − greatest|). The exponential is off by
                    // 3e-7, the sum by K u at most. Below 2^−126.5 weights are zero.
                    let close = 1.3e-38 + e * (2.0 * (3.0 * U * (greatest - x[i])).exp_m1() + 6e-7 + (width as f64 / 2.0 + 8.0) * U);
                    let y = f64::from(out[row * width + i]);
                    prop_assert!((y - e).abs() <= close, "{} softmax of {} at {}: {}, not {} within {}", isa, width, i, y, e, close);
                }
            }
        }
    }

    #[test]
    fn log_softmax_is_the_logarithm(rows in 1_usize..20, width in 1_usize..300, seed: u64, exponent in -8_i32..15, threads in 1_usize..3) {
        let x: Vec<f32> = noise(seed, rows * width).iter().map(|x| x * 2_f32.powi(exponent)).collect();
        let pool = Pool::new(threads);
        for isa in Isa::all() {
            let mut out = x.clone();
            Engine::new(isa, &pool).log_softmax(&mut out, width);
            for (x, out) in x.chunks(width).zip(out.chunks(width)) {
                let greatest = x.iter().fold(f64::NEG_INFINITY, |greatest, &x| greatest.max(f64::from(x)));
                let sum: f64 = x.iter().map(|&x| (f64::from(x) - greatest).exp()).sum();
                for (&x, &y) in x.iter().zip(out) {
                    let e = f64::from(x) - greatest - sum.ln();
                    // The sum is off by a relative 6e-7 + K u; greatest + ln Σ and the difference are rounded once each.
                    let close = 6e-7 + (width as f64 / 2.0 + 8.0) * U + 3.0 * U * (greatest.abs() + sum.ln() + f64::from(x.abs()));
                    prop_assert!((f64::from(y) - e).abs() <= close, "{} log-softmax of {}: {}, not {} within {}", isa, width, y, e, close);
                }
            }
        }
    }

    #[test]
    fn rope_is_the_references(
        tokens in 1_usize..12, heads in 1_usize..5, pairs in 0_usize..40, beyond in 0_usize..9, gap in 0_usize..4, by_head: bool,
        interleaved: bool, each: bool, first in 0_usize..50, seed: u64, threads in 1_usize..3,
    ) {
        let dim = (2 * pairs + beyond).max(1);
        let table = RopeTable::new(100, 2 * pairs, 10_000.0);
        let (row_stride, head_stride) = if by_head { (dim + gap, tokens * (dim + gap)) } else { (heads * dim + gap, dim) };
        let scattered: Vec<u32> = (0..tokens).map(|token| ((token * 37 + first) % 100) as u32).collect();
        let rope = Rope {
            table: &table,
            pairs: if interleaved { RopePairs::Interleaved } else { RopePairs::Half },
            positions: if each { Positions::Each(&scattered) } else { Positions::From(first) },
            tokens, heads, dim, row_stride, head_stride,
        };
        let x = noise(seed, tokens * heads * (dim + gap));
        let expected = reference::rope(&rope, &x);
        let pool = Pool::new(threads);
        for isa in Isa::all() {
            let mut out = x.clone();
            Engine::new(isa, &pool).rope(&rope, &mut out);
            for i in 0..x.len() {
                // Two products and a sum, each rounded: 3 u (|a| + |b|), with elements below 1.5.
                prop_assert!((f64::from(out[i]) - expected[i]).abs() <= 3.0 * U * 3.0, "{} at {}: {}, not {}", isa, i, out[i], expected[i]);
                if expected[i] == f64::from(x[i]) {
                    prop_assert_eq!(out[i], x[i]);
                }
            }
        }
    }

    #[test]
    fn embedding_is_the_references(
        vocabulary in 1_usize..70, width in 1_usize..100, kind in 0_u8..7, count in 0_usize..9, positioned: bool, seed: u64, threads in 1_usize..3,
    ) {
        let width = if kind == 3 || kind == 4 { width.div_ceil(32) * 32 } else { width };
        let values = noise(seed, vocabulary * width);
        let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        let int8 = OwnedInt8::quantize(vocabulary, width, &values).unwrap();
        let bits = if kind == 3 { GroupBits::Int4 } else { GroupBits::Int8 };
        let groups = (kind == 3 || kind == 4).then(|| OwnedGroups::quantize(vocabulary, width, bits, &values).unwrap());
        let (packed, packed_halves) = (pack_float(vocabulary, width, &values).unwrap(), pack_float(vocabulary, width, &halves).unwrap());
        let table = match (kind, &groups) {
            (0, _) => Table::Rows { values: Floats::F32(&values), width },
            (1, _) => Table::Rows { values: Floats::F16(&halves), width },
            (_, Some(groups)) => Table::Packed(Weight::Groups(groups.view())),
            (5, _) => Table::Packed(Weight::Float(PackedFloat::new(vocabulary, width, Floats::F32(&packed)).unwrap())),
            (6, _) => Table::Packed(Weight::Float(PackedFloat::new(vocabulary, width, Floats::F16(&packed_halves)).unwrap())),
            _ => Table::Packed(Weight::Int8(int8.view())),
        };
        let ids: Vec<u32> = (0..count).map(|i| (seed.wrapping_add(i as u64 * 7) % vocabulary as u64) as u32).collect();
        let positions = noise(seed ^ 1, count * width);
        let pool = Pool::new(threads);
        for isa in Isa::all() {
            let engine = Engine::new(isa, &pool);
            let mut out = vec![f32::NAN; count * width];
            prop_assert_eq!(engine.embedding(&ids, table, positioned.then_some(&positions), &mut out), Ok(()));
            for (i, &id) in ids.iter().enumerate() {
                for (k, e) in reference::embedding(table, id as usize).into_iter().enumerate() {
                    // One product and one sum, each rounded.
                    let position = if positioned { f64::from(positions[i * width + k]) } else { 0.0 };
                    let y = f64::from(out[i * width + k]);
                    let close = U * (e.abs() + (e + position).abs()) * 1.01;
                    prop_assert!((y - e - position).abs() <= close, "{} kind {} at {},{}: {}, not {}", isa, kind, i, k, y, e + position);
                }
            }
        }
    }
}

#[test]
fn an_id_beyond_the_vocabulary_is_named() {
    let values = noise(1, 30);
    let pool = Pool::new(1);
    for isa in Isa::all() {
        let engine = Engine::new(isa, &pool);
        let mut out = vec![7.5; 9];
        let table = Table::Rows { values: Floats::F32(&values), width: 3 };
        let error = engine.embedding(&[0, 9, 10], table, None, &mut out).unwrap_err();
        assert_eq!(error, EmbeddingError::Id { index: 2, id: 10, vocabulary: 10 });
        assert_eq!(error.to_string(), "token 2 is 10, beyond the vocabulary of 10");
        assert_eq!(out, [7.5; 9]);
    }
}

#[test]
fn softmax_of_infinities_and_of_what_is_no_number() {
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for width in [1, 3, 16, 37] {
            let mut x = noise(2, 5 * width);
            x[..width].fill(f32::NEG_INFINITY);
            x[width + width / 2] = f32::NAN;
            x[3 * width] = f32::NEG_INFINITY;
            x[4 * width..].fill(-1e38);
            let mut clean = x[2 * width..3 * width].to_vec();
            let engine = Engine::new(isa, &pool);
            engine.softmax(&mut clean, width);
            engine.softmax(&mut x, width);
            assert!(x[..width].iter().all(|&x| x == 0.0), "{isa} {width}");
            assert!(x[width..2 * width].iter().all(|x| x.is_nan()), "{isa} {width}");
            assert_eq!(x[2 * width..3 * width], clean, "{isa} {width}");
            assert_eq!(x[3 * width], 0.0, "{isa} {width}");
            assert!(x[4 * width..].iter().all(|x| (x * width as f32 - 1.0).abs() < 1e-6), "{isa} {width}");
        }
    }
}

#[test]
fn norms_keep_what_is_no_number_in_its_row_and_zeros_at_rest() {
    let pool = Pool::new(1);
    let width = 37;
    let (weight, bias) = (noise(3, width), noise(4, width));
    let norms = [
        Norm::Layer { weight: &weight, bias: &bias, epsilon: 1e-5 },
        Norm::Rms { weight: &weight, epsilon: 1e-5 },
        Norm::L2 { epsilon: 1e-12 },
    ];
    for isa in Isa::all() {
        for (i, norm) in norms.into_iter().enumerate() {
            let mut x = noise(5, 3 * width);
            x[5] = f32::NAN;
            x[width..2 * width].fill(0.0);
            let mut out = vec![0.0; x.len()];
            Engine::new(isa, &pool).norm(&x, width, norm, &mut out);
            assert!(out[..width].iter().all(|x| x.is_nan()), "{isa}");
            assert!(out[width..].iter().all(|x| x.is_finite()), "{isa}");
            let expected = if i == 0 { &bias[..] } else { &[0.0; 37] };
            assert_eq!(out[width..2 * width], *expected, "{isa}");
        }
    }
}

#[test]
fn turning_keeps_lengths_and_depends_on_distance_only() {
    // The product of a query at m and a key at n depends on m − n alone (Su et al., 2021, section 3.1).
    let pool = Pool::new(1);
    let table = RopeTable::new(64, 32, 10_000.0);
    for isa in Isa::all() {
        for pairs in [RopePairs::Half, RopePairs::Interleaved] {
            let engine = Engine::new(isa, &pool);
            let product = |m: usize, n: usize| {
                let (mut q, mut k) = (noise(6, 32), noise(7, 32));
                for (x, position) in [(&mut q, m), (&mut k, n)] {
                    let positions = Positions::From(position);
                    engine
                        .rope(&Rope { table: &table, pairs, positions, tokens: 1, heads: 1, dim: 32, row_stride: 32, head_stride: 32 }, x);
                }
                q.iter().zip(&k).map(|(q, k)| q * k).sum::<f32>()
            };
            assert!((product(3, 1) - product(53, 51)).abs() < 1e-4, "{isa} {pairs:?}");
            assert!((product(3, 1) - product(53, 40)).abs() > 1e-2, "{isa} {pairs:?}");
        }
    }
}
