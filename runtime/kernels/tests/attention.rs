//! Attention on every instruction set of this CPU, against the plain loops of the reference.

#![allow(clippy::unwrap_used, clippy::needless_range_loop)]

mod common;

use half::f16;
use ocelli_kernels::pack::Floats;
use ocelli_kernels::{Attention, Engine, Heads, Isa, Pool, Precision, reference};
use proptest::prelude::*;

use common::noise;

/// Queries, keys and values that own their memory, in one of several layouts.
struct Case {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    k16: Vec<f16>,
    v16: Vec<f16>,
    queries: usize,
    keys: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    half: bool,
    by_head: bool,
    /// Rows that a cache has beyond those in use: NaN, never to be read.
    spare: usize,
}

impl Case {
    #[allow(clippy::too_many_arguments)]
    fn new(
        seed: u64,
        queries: usize,
        keys: usize,
        heads: usize,
        kv_heads: usize,
        dim: usize,
        half: bool,
        by_head: bool,
        spare: usize,
    ) -> Self {
        let cache = |seed: u64| {
            let mut values = noise(seed, kv_heads * (keys + spare) * dim);
            for i in 0..values.len() {
                let token = if by_head { i / dim % (keys + spare) } else { i / (kv_heads * dim) };
                if token >= keys {
                    values[i] = f32::NAN;
                }
            }
            values
        };
        let (k, v) = (cache(seed ^ 1), cache(seed ^ 2));
        let halves = |values: &[f32]| values.iter().map(|&x| f16::from_f32(x)).collect();
        let (k16, v16) = (halves(&k), halves(&v));
        Self { q: noise(seed, queries * heads * dim), k, v, k16, v16, queries, keys, heads, kv_heads, dim, half, by_head, spare }
    }

    fn view(&self) -> Attention<'_> {
        let cache = |singles, halves| {
            let values = if self.half { Floats::F16(halves) } else { Floats::F32(singles) };
            if self.by_head {
                Heads::by_head(values, self.keys + self.spare, self.dim)
            } else {
                Heads::by_token(values, self.kv_heads, self.dim)
            }
        };
        Attention {
            q: Heads::by_token(&self.q, self.heads, self.dim),
            k: cache(&self.k, &self.k16),
            v: cache(&self.v, &self.v16),
            queries: self.queries,
            keys: self.keys,
            heads: self.heads,
            kv_heads: self.kv_heads,
            dim: self.dim,
            scale: 1.0 / (self.dim as f32).sqrt(),
            causal: false,
            key_mask: None,
            bias: None,
            precision: Precision::Full,
        }
    }
}

const EPSILON: f64 = f32::EPSILON as f64;

/// How far a row of results may be from the reference's, as a part of the greatest |v| it sees.
///
/// A score is a sum of D products and is rounded at every step: its error is at most (D + 8) u Σ |q k| · scale, with u = 2⁻²⁴; in practice
/// it grows with √D, so half of that is never reached. Bias and mask are rounded relative to themselves, and so is the difference from the
/// greatest score. An error δ of the scores changes a weight by the factor e^δ, and so a mean of values by at most 2 δ max |v|. Summing
/// Tk weights and weighted values adds at most Tk u of the sum, again √Tk in practice; the exponential is off by 3 · 10⁻⁷.
fn tolerance(a: &Attention<'_>, query: usize, head: usize) -> f64 {
    let kv_head = head / (a.heads / a.kv_heads);
    let (mut score, mut value) = (0.0_f64, 0.0_f64);
    for key in 0..a.keys {
        let products = (0..a.dim).map(|d| {
            let q = f64::from(a.q.values[query * a.q.row_stride + head * a.q.head_stride + d]);
            (q * a.k.values.at(key * a.k.row_stride + kv_head * a.k.head_stride + d)).abs()
        });
        let mask = a.key_mask.map_or(0.0, |mask| f64::from(mask[key]));
        let bias = a.bias.map_or(0.0, |bias| f64::from(bias.values[query * bias.row_stride + head * bias.head_stride + key]));
        if mask + bias == f64::NEG_INFINITY {
            continue;
        }
        score = score.max(products.sum::<f64>() * f64::from(a.scale) + mask.abs() + bias.abs());
        let values = (0..a.dim).map(|d| a.v.values.at(key * a.v.row_stride + kv_head * a.v.head_stride + d).abs());
        value = value.max(values.fold(0.0, f64::max));
    }
    let of_scores = (a.dim as f64 / 2.0 + 8.0) * EPSILON / 2.0 * score;
    let of_sums = (4.0 * (a.keys as f64).sqrt() + 8.0) * EPSILON;
    1e-30 + (2.0 * of_scores.exp_m1() + of_sums + 6e-7) * value
}

fn check(isas: &[Isa], pool: &Pool, a: &Attention<'_>, note: &str) {
    let expected = reference::attention(a);
    let tolerances: Vec<f64> = (0..a.queries * a.heads).map(|row| tolerance(a, row / a.heads, row % a.heads)).collect();
    for &isa in isas {
        // What lies between the rows must stay.
        let stride = a.heads * a.dim + 3;
        let mut out = vec![7.5; (a.queries - 1) * stride + a.heads * a.dim];
        Engine::new(isa, pool).attention(a, &mut out, stride);
        for (query, row) in out.chunks(stride).enumerate() {
            for (i, &y) in row[..a.heads * a.dim].iter().enumerate() {
                let head = i / a.dim;
                let (y, e, close) = (f64::from(y), expected[query * a.heads * a.dim + i], tolerances[query * a.heads + head]);
                if e.is_nan() {
                    assert!(y.is_nan(), "{isa} {note} query {query} head {head} at {i}: {y}, not NaN");
                } else {
                    assert!((y - e).abs() <= close, "{isa} {note} query {query} head {head} at {i}: {y}, not {e} within {close}");
                }
            }
            assert!(row[a.heads * a.dim..].iter().all(|&x| x == 7.5), "{isa} {note}: written between rows");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_is_the_references(
        queries in 1_usize..40, keys in 1_usize..600, kv_heads in 1_usize..4, group in prop::sample::select(vec![1_usize, 2, 3, 8]),
        dim in 1_usize..100, half: bool, by_head: bool, spare in 0_usize..4, causal: bool, masked: bool, biased in 0_u8..3, seed: u64,
        threads in 1_usize..4, exponent in -6_i32..4,
    ) {
        let heads = kv_heads * group;
        let mut case = Case::new(seed, queries, keys, heads, kv_heads, dim, half, by_head, spare);
        case.q.iter_mut().for_each(|q| *q *= 2_f32.powi(exponent));
        let mask: Vec<f32> = noise(seed ^ 4, keys).iter().map(|&x| if x > 0.5 { f32::NEG_INFINITY } else { x }).collect();
        let bias = noise(seed ^ 5, heads * queries * keys);
        let a = Attention {
            causal,
            key_mask: masked.then_some(&mask),
            bias: (biased > 0).then_some(Heads { values: &bias, row_stride: keys, head_stride: if biased == 1 { 0 } else { queries * keys } }),
            ..case.view()
        };
        let pool = Pool::new(threads);
        check(&Isa::all(), &pool, &a, "random");
    }
}

#[test]
fn every_tail_of_every_tile() {
    let pool = Pool::new(1);
    for queries in (1..=14).chain([23, 24, 37]) {
        for keys in [1, 2, 15, 16, 17, 33, 256, 257] {
            for dim in [1, 3, 8, 15, 16, 17, 32, 40, 64, 80] {
                let case = Case::new((queries * keys * dim) as u64, queries, keys, 1, 1, dim, false, false, 0);
                check(&Isa::all(), &pool, &case.view(), &format!("{queries}x{keys}x{dim}"));
            }
        }
    }
}

#[test]
fn shapes_of_models() {
    let pool = Pool::new(2);
    // Queries, keys, heads, key-value heads, D: CLIP B/32, ViT-B/16, OWL-ViT, and decoders in prefill and decoding.
    let shapes =
        [(50, 50, 12, 12, 64), (197, 197, 2, 2, 64), (577, 577, 1, 1, 64), (64, 64, 9, 3, 64), (1, 512, 9, 3, 64), (1, 700, 8, 1, 128)];
    let shapes = shapes.into_iter().chain([(3, 513, 6, 2, 96), (130, 1030, 2, 1, 128), (300, 300, 2, 1, 40), (5, 300, 8, 1, 32)]);
    for (queries, keys, heads, kv_heads, dim) in shapes {
        for (half, causal) in [(false, false), (true, true)] {
            let case = Case::new(3, queries, keys, heads, kv_heads, dim, half, !half, 5);
            check(&Isa::all(), &pool, &Attention { causal, ..case.view() }, &format!("{queries}x{keys} {heads}/{kv_heads}x{dim}"));
        }
    }
}

#[test]
fn a_fused_projection_is_read_where_it_lies() {
    let (tokens, heads, dim) = (50, 4, 24);
    let pool = Pool::new(1);
    let qkv = noise(8, tokens * 3 * heads * dim);
    check(&Isa::all(), &pool, &Attention::fused(&qkv, heads, dim), "fused");
}

#[test]
fn decoding_continues_what_prefill_began() {
    // Row by row over a growing cache, as one causal call over all of it.
    let (tokens, heads, kv_heads, dim) = (40, 6, 2, 32);
    let pool = Pool::new(1);
    for isa in Isa::all() {
        let case = Case::new(11, tokens, tokens, heads, kv_heads, dim, false, true, 0);
        let engine = Engine::new(isa, &pool);
        let width = heads * dim;
        let mut whole = vec![0.0; tokens * width];
        engine.attention(&Attention { causal: true, ..case.view() }, &mut whole, width);
        let mut row = vec![0.0; width];
        for token in 0..tokens {
            let q = Heads { values: &case.q[token * width..], row_stride: width, head_stride: dim };
            engine.attention(&Attention { q, queries: 1, keys: token + 1, causal: true, ..case.view() }, &mut row, width);
            for i in 0..width {
                assert!((row[i] - whole[token * width + i]).abs() < 2e-6, "{isa} token {token} at {i}");
            }
        }
    }
}

#[test]
fn rows_with_nothing_to_see_are_zero() {
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for queries in [1, 3, 30] {
            let case = Case::new(5, queries, 300, 3, 1, 40, false, false, 0);
            let mask = vec![f32::NEG_INFINITY; 300];
            check(&[isa], &pool, &Attention { key_mask: Some(&mask), ..case.view() }, "all masked");
            let mut out = vec![1.0; queries * 120];
            Engine::new(isa, &pool).attention(&Attention { key_mask: Some(&mask), ..case.view() }, &mut out, 120);
            assert!(out.iter().all(|&x| x == 0.0), "{isa}");
            out.fill(1.0);
            Engine::new(isa, &pool).attention(&Attention { keys: 0, ..case.view() }, &mut out, 120);
            assert!(out.iter().all(|&x| x == 0.0), "{isa}");
            // The first block of keys masked, a later one not.
            let mask: Vec<f32> = (0..300).map(|i| if i < 290 { f32::NEG_INFINITY } else { 0.0 }).collect();
            check(&[isa], &pool, &Attention { key_mask: Some(&mask), ..case.view() }, "masked at first");
        }
        // More queries than keys: the first ones see none.
        let case = Case::new(6, 20, 7, 2, 2, 16, false, false, 0);
        check(&[isa], &pool, &Attention { causal: true, ..case.view() }, "causal, fewer keys than queries");
        let case = Case::new(6, 3, 2, 2, 2, 16, false, false, 0);
        check(&[isa], &pool, &Attention { causal: true, ..case.view() }, "causal, fewer keys than queries");
    }
}

#[test]
fn extreme_scores() {
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for queries in [1, 4, 26] {
            for scale in [1e-30, 1e4, -1e4] {
                let mut case = Case::new(7, queries, 280, 2, 1, 16, false, false, 0);
                // Whole numbers and D = 16: scores are exact, so it shows whether the softmax is.
                case.q.iter_mut().chain(&mut case.k).for_each(|x| *x = (*x * 2.0).round());
                let a = Attention { scale, ..case.view() };
                let mut out = vec![0.0; queries * 32];
                Engine::new(isa, &pool).attention(&a, &mut out, 32);
                for (i, (&y, e)) in out.iter().zip(reference::attention(&a)).enumerate() {
                    // Scores are whole multiples of the scale: those of the greatest weigh the same, all others nothing.
                    assert!((f64::from(y) - e).abs() < 5e-6, "{isa} scale {scale} at {i}: {y}, not {e}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_in_its_query() {
    let pool = Pool::new(1);
    for isa in Isa::all() {
        for (queries, causal) in [(1, false), (2, true), (4, false), (29, false), (29, true)] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut case = Case::new(9, queries, 270, 2, 1, 24, false, false, 0);
                let mut clean = vec![0.0; queries * 48];
                Engine::new(isa, &pool).attention(&Attention { causal, ..case.view() }, &mut clean, 48);
                // Query queries / 2, head 1.
                let row = queries / 2 * 2 + 1;
                case.q[row * 24 + 5] = bad;
                let mut out = vec![0.0; queries * 48];
                Engine::new(isa, &pool).attention(&Attention { causal, ..case.view() }, &mut out, 48);
                for i in 0..out.len() {
                    if i / 24 == row {
                        assert!(out[i].is_nan(), "{isa} {queries} queries, {bad}: {} at {i}", out[i]);
                    } else {
                        assert_eq!(out[i], clean[i], "{isa} {queries} queries, {bad} at {i}");
                    }
                }
            }
        }
    }
}

/// Numbers of a normal distribution, by the method of Box and Muller.
fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    };
    (0..len).map(|_| ((-2.0 * next().ln()).sqrt() * (std::f64::consts::TAU * next()).cos()) as f32).collect()
}

#[test]
fn fast_precision_keeps_the_direction_of_every_row() {
    // Factors are rounded to 8 bits, so each is off by at most 2⁻⁸ of itself, or 0.0016 in the mean. Weights (by queries, keys and their own
    // rounding) and values are, independently, so a row of results is off by about √(1 + 1 + 1 + 1) · 0.0016 = 0.0032 of its length, and
    // its cosine with the exact one is 1 − 0.0032²/2 = 1 − 5e-6. A row in which few keys count may be off by thrice that.
    let pool = Pool::new(2);
    for isa in Isa::all() {
        for (queries, keys, dim) in [(50, 50, 64), (197, 197, 64), (13, 577, 64), (37, 33, 80), (29, 301, 17), (23, 16, 31), (16, 1, 40)] {
            for causal in [false, true] {
                let (heads, kv_heads) = (2, 1);
                let mut case = Case::new(1, queries, keys, heads, kv_heads, dim, false, false, 0);
                case.q = normal(2, case.q.len());
                case.k = normal(3, case.k.len());
                case.v = normal(4, case.v.len());
                let a = Attention { precision: Precision::Fast, causal, ..case.view() };
                let mut out = vec![f32::NAN; queries * heads * dim];
                Engine::new(isa, &pool).attention(&a, &mut out, heads * dim);
                let mut total = 0.0;
                for (row, (y, e)) in out.chunks(dim).zip(reference::attention(&a).chunks(dim)).enumerate() {
                    let dot = |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| (0..dim).map(|d| a(d) * b(d)).sum::<f64>();
                    let (y, e) = (|d: usize| f64::from(y[d]), |d: usize| e[d]);
                    let (length, expected) = (dot(&y, &y).sqrt(), dot(&e, &e).sqrt());
                    if expected == 0.0 {
                        assert_eq!(length, 0.0, "{isa} {queries}x{keys}x{dim} row {row}");
                        continue;
                    }
                    let cosine = dot(&y, &e) / (length * expected);
                    total += 1.0 - cosine;
                    assert!(cosine >= 0.99995, "{isa} {queries}x{keys}x{dim} row {row}: cosine {cosine}");
                    assert!((length / expected - 1.0).abs() < 0.01, "{isa} {queries}x{keys}x{dim} row {row}: {length}, not {expected}");
                }
                let mean = 1.0 - total / (queries * heads) as f64;
                assert!(mean >= 0.99999, "{isa} {queries}x{keys}x{dim}: mean cosine {mean}");
            }
        }
    }
}

#[test]
fn fast_precision_has_the_same_special_cases() {
    let pool = Pool::new(1);
    for isa in Isa::all() {
        let mut case = Case::new(9, 29, 270, 2, 1, 24, true, false, 3);
        case.q[24] = f32::NAN;
        let mask: Vec<f32> = (0..270).map(|key| if key < 100 { f32::NEG_INFINITY } else { 0.0 }).collect();
        let mut bias = vec![0.0; 29 * 270];
        bias[270..540].fill(f32::NEG_INFINITY);
        let a = Attention {
            precision: Precision::Fast,
            key_mask: Some(&mask),
            bias: Some(Heads { values: &bias, row_stride: 270, head_stride: 0 }),
            ..case.view()
        };
        let mut out = vec![1.0; 29 * 48];
        Engine::new(isa, &pool).attention(&a, &mut out, 48);
        let expected = reference::attention(&a);
        for i in 0..out.len() {
            match i / 24 {
                1 => assert!(out[i].is_nan(), "{isa} at {i}"),
                2 | 3 => assert_eq!(out[i], 0.0, "{isa} at {i}"),
                _ => assert!((f64::from(out[i]) - expected[i]).abs() < 0.01, "{isa} at {i}: {}, not {}", out[i], expected[i]),
            }
        }
    }
}
