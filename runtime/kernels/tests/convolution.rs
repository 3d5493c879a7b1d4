//! Convolutions on every instruction set of this CPU, against the plain loops of the reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

mod common;

use ocelli_kernels::convolution::{
    Depthwise, DepthwiseValues, Geometry, InvertedResidual, Layout, OwnedDepthwise, PackedDepthwise, Picture, Pointwise, pack_depthwise,
};
use ocelli_kernels::pack::{Floats, pack_float};
use ocelli_kernels::reference::convolution as reference;
use ocelli_kernels::{Activation, Engine, Epilogue, Isa, OwnedInt8, PackedFloat, Pool, Prologue, Weight};
use proptest::prelude::*;

use common::noise;

/// Sizes of a picture and of windows, with either kind of padding.
fn geometries() -> impl Strategy<Value = Geometry> {
    let sizes = (1_usize..20, 1_usize..20, 1_usize..8, 1_usize..4, any::<[u8; 4]>(), any::<bool>());
    sizes.prop_map(|(height, width, kernel, stride, padding, same)| {
        if same {
            return Geometry::same(height, width, kernel, stride);
        }
        let padding = padding.map(|side| usize::from(side) % kernel);
        let (height, width) = (height.max(kernel), width.max(kernel));
        Geometry::padded(height, width, kernel, stride, padding)
    })
}

/// That every result is where it should be: equal bits, or no number in both.
fn assert_same(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || a == b, "{what} at {i}: {a}, not {b}");
    }
}

/// The error of a sum in single precision.
///
/// Each of `terms` additions and each product rounds once, and so does the product of value and scale that makes an int8 weight a float:
/// together at most (terms + 3) · 2⁻²⁴ of the sum of magnitudes, bias included (Higham 2002, section 3.1). No activation here has a
/// slope above 1.2; it is itself within 10⁻⁶ of a function of its argument, relative to the argument (`math`'s tests).
fn rounding(terms: usize, magnitude: f64) -> f64 {
    1.2 * ((terms + 3) as f64 * 2_f64.powi(-24) * magnitude) + 1e-6 * magnitude.min(1e30) + 1e-30
}

/// Σ |w x| + |b| of every result: the reference with every number's magnitude.
fn magnitudes(x: &[f32], geometry: Geometry, weight: &[f32], channels: usize, bias: Option<&[f32]>) -> Vec<f64> {
    let positive = |x: &[f32]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let packed = pack_depthwise(channels, geometry.kernel(), &positive(weight)).unwrap();
    let weight = PackedDepthwise::new(channels, geometry.kernel(), DepthwiseValues::F32(&packed)).unwrap();
    let bias = bias.map(positive);
    reference::depthwise(
        &positive(x),
        geometry,
        Depthwise { weight, bias: bias.as_deref(), activation: Activation::None, fraction_bits: None },
    )
}

#[allow(clippy::too_many_arguments)]
fn check_depthwise(
    pool: &Pool,
    geometry: Geometry,
    channels: usize,
    batch: usize,
    seed: u64,
    int8: bool,
    bias: bool,
    activation: Activation,
) {
    let kernel = geometry.kernel();
    let x = noise(seed, batch * geometry.pixels() * channels);
    let weights = noise(seed ^ 1, channels * kernel * kernel);
    let shift = noise(seed ^ 2, channels);
    let bias = bias.then_some(&shift[..]);
    let owned = OwnedDepthwise::quantize(channels, kernel, &weights).unwrap();
    let floats = pack_depthwise(channels, kernel, &weights).unwrap();
    let weight = if int8 { owned.view() } else { PackedDepthwise::new(channels, kernel, DepthwiseValues::F32(&floats)).unwrap() };
    let depthwise = Depthwise { weight, bias, activation, fraction_bits: None };
    let expected = reference::depthwise(&x, geometry, depthwise);
    let magnitudes = magnitudes(&x, geometry, &weights, channels, bias);
    for isa in Isa::all() {
        let mut out = vec![f32::NAN; expected.len()];
        Engine::new(isa, pool).depthwise(&x, geometry, depthwise, &mut out);
        for (i, &y) in out.iter().enumerate() {
            // An int8 weight's magnitude is at most half a step, 1/254 of the greatest, more than the weight's.
            let close = rounding(kernel * kernel + 1, 1.02 * magnitudes[i] + 0.02);
            assert!((f64::from(y) - expected[i]).abs() <= close, "{isa} {geometry:?} x {channels} at {i}: {y}, not {}", expected[i]);
        }
    }
}

/// A block's parts, owned.
struct Block {
    geometry: Geometry,
    expand: Option<(OwnedInt8, Vec<f32>)>,
    depthwise: (OwnedDepthwise, Vec<f32>),
    project: (OwnedInt8, Vec<f32>),
    activation: Activation,
    shortcut: bool,
    /// Of what lies between the layers, and of what goes out.
    fraction_bits: Option<(u8, u8)>,
}

impl Block {
    fn new(geometry: Geometry, (input, inner, output): (usize, Option<usize>, usize), activation: Activation, seed: u64) -> Self {
        let pointwise = |n: usize, k: usize, seed: u64| {
            let weights: Vec<f32> = noise(seed, n * k).iter().map(|x| x / (k as f32).sqrt()).collect();
            (OwnedInt8::quantize(n, k, &weights).unwrap(), noise(seed ^ 77, n))
        };
        let wide = inner.unwrap_or(input);
        let taps = geometry.kernel() * geometry.kernel();
        Self {
            geometry,
            expand: inner.map(|inner| pointwise(inner, input, seed)),
            depthwise: (OwnedDepthwise::quantize(wide, geometry.kernel(), &noise(seed ^ 3, wide * taps)).unwrap(), noise(seed ^ 4, wide)),
            project: pointwise(output, wide, seed ^ 5),
            activation,
            shortcut: input == output && geometry.stride() == 1 && geometry.pixels() == geometry.out_pixels(),
            fraction_bits: None,
        }
    }

    fn view(&self) -> InvertedResidual<'_> {
        let (between, out) = (self.fraction_bits.map(|bits| bits.0), self.fraction_bits.map(|bits| bits.1));
        InvertedResidual {
            geometry: self.geometry,
            expand: self.expand.as_ref().map(|(weight, bias)| Pointwise {
                weight: weight.view(),
                bias: Some(bias),
                activation: self.activation,
                fraction_bits: between,
            }),
            depthwise: Depthwise {
                weight: self.depthwise.0.view(),
                bias: Some(&self.depthwise.1),
                activation: self.activation,
                fraction_bits: between,
            },
            project: Pointwise {
                weight: self.project.0.view(),
                bias: Some(&self.project.1),
                activation: Activation::None,
                fraction_bits: out,
            },
            shortcut: self.shortcut,
        }
    }

    /// The block's three layers one after another.
    fn composed(&self, isa: Isa, pool: &Pool, x: &[f32]) -> Vec<f32> {
        let (view, mut engine) = (self.view(), Engine::new(isa, pool));
        let inner = view.depthwise.weight.channels();
        let batch = x.len() / view.input() / view.geometry.pixels();
        let mut wide = x.to_vec();
        if let Some(expand) = view.expand {
            wide = vec![f32::NAN; x.len() / view.input() * inner];
            let Pointwise { bias, activation, fraction_bits, .. } = expand;
            let epilogue = Epilogue { bias, activation, residual: None, fraction_bits };
            engine.linear(x, Prologue::None, Weight::Int8(expand.weight), epilogue, &mut wide);
        }
        let mut convolved = vec![f32::NAN; batch * view.geometry.out_pixels() * inner];
        engine.depthwise(&wide, view.geometry, view.depthwise, &mut convolved);
        let mut out = vec![f32::NAN; batch * view.geometry.out_pixels() * view.output()];
        let residual = view.shortcut.then_some(x);
        let Pointwise { bias, activation, fraction_bits, .. } = view.project;
        let epilogue = Epilogue { bias, activation, residual, fraction_bits };
        engine.linear(&convolved, Prologue::None, Weight::Int8(view.project.weight), epilogue, &mut out);
        out
    }
}

/// A fused block is bit for bit its three layers, each of which is tested against the reference: whatever bands and threads do.
fn check_block(pool: &Pool, block: &Block, batch: usize, seed: u64) {
    let view = block.view();
    let x = noise(seed, batch * view.geometry.pixels() * view.input());
    for isa in Isa::all() {
        let mut engine = Engine::new(isa, pool);
        let mut out = vec![f32::NAN; batch * view.geometry.out_pixels() * view.output()];
        engine.inverted_residual(&x, &view, &mut out);
        let what = format!("{isa} {:?} {} -> {}", view.geometry, view.input(), view.output());
        assert_same(&out, &block.composed(isa, pool, &x), &what);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn depthwise_is_the_references(
        geometry in geometries(), channels in 1_usize..70, batch in 1_usize..3, seed: u64, int8: bool, bias: bool, which in 0_usize..7,
        threads in 1_usize..4,
    ) {
        check_depthwise(&Pool::new(threads), geometry, channels, batch, seed, int8, bias, Activation::ALL[which]);
    }

    #[test]
    fn a_convolution_is_a_linear_layer_over_windows(
        geometry in geometries(), channels in 1_usize..5, n in 1_usize..40, batch in 1_usize..3, seed: u64, planar: bool, int8: bool,
        rounds: bool, which in 0_usize..7, threads in 1_usize..4,
    ) {
        // Both quantize and multiply alike, so they are equal to the bit; what a linear layer computes is tested elsewhere.
        let k = geometry.kernel() * geometry.kernel() * channels;
        let layout = if planar { Layout::Planar } else { Layout::Interleaved };
        let values = noise(seed, batch * geometry.pixels() * channels);
        let picture = Picture { values: &values, channels, layout };
        let (weights, bias) = (noise(seed ^ 1, n * k), noise(seed ^ 2, n));
        let rows = batch * geometry.out_pixels();
        let residual = noise(seed ^ 3, rows * n);
        let (activation, fraction_bits) = (Activation::ALL[which], rounds.then_some(9));
        let epilogue = Epilogue { bias: Some(&bias), activation, residual: Some(&residual), fraction_bits };
        let owned = OwnedInt8::quantize(n, k, &weights).unwrap();
        let floats = pack_float(n, k, &weights).unwrap();
        let weight = if int8 { Weight::Int8(owned.view()) } else { Weight::Float(PackedFloat::new(n, k, Floats::F32(&floats)).unwrap()) };
        let pool = Pool::new(threads);
        for isa in Isa::all() {
            let (mut out, mut expected) = (vec![f32::NAN; rows * n], vec![f32::NAN; rows * n]);
            Engine::new(isa, &pool).convolution(picture, geometry, weight, epilogue, &mut out);
            Engine::new(isa, &pool).linear(&reference::windows(picture, geometry), Prologue::None, weight, epilogue, &mut expected);
            assert_same(&out, &expected, &format!("{isa} {geometry:?} x {channels} {layout:?}"));
        }
    }

    #[test]
    fn a_fused_block_is_its_layers(
        geometry in geometries(), input in 1_usize..50, inner in 1_usize..100, expands: bool, output in 1_usize..50, shortcut: bool,
        batch in 1_usize..3, seed: u64, rounds: bool, which in 0_usize..7, threads in 1_usize..4,
    ) {
        let output = if shortcut { input } else { output };
        let mut block = Block::new(geometry, (input, expands.then_some(inner), output), Activation::ALL[which], seed);
        block.fraction_bits = rounds.then_some((9, 7));
        check_block(&Pool::new(threads), &block, batch, seed);
    }

    #[test]
    fn an_average_is_the_references(pixels in 1_usize..60, channels in 1_usize..70, batch in 1_usize..3, seed: u64) {
        let x = noise(seed, batch * pixels * channels);
        let expected = reference::global_average(&x, pixels, channels);
        let pool = Pool::new(1);
        for isa in Isa::all() {
            let mut out = vec![f32::NAN; batch * channels];
            Engine::new(isa, &pool).global_average(&x, pixels, channels, &mut out);
            for (y, e) in out.iter().zip(&expected) {
                // No element is above 1.5: every addition and the division round by 2⁻²⁴ of at most that.
                prop_assert!((f64::from(*y) - e).abs() <= (pixels + 2) as f64 * 1.5 * 2_f64.powi(-24), "{isa}: {y}, not {e}");
            }
        }
    }
}

/// Maps as large as a network's, where there are several bands: every stage of EfficientNet-Lite0, and sizes around them.
#[test]
fn fused_blocks_of_a_network() {
    for (side, kernel, stride, input, expansion, output) in [
        (112, 3, 1, 32, 1, 16),
        (112, 3, 2, 16, 6, 24),
        (56, 3, 1, 24, 6, 24),
        (57, 5, 2, 24, 6, 40),
        (28, 5, 1, 40, 6, 40),
        (28, 3, 2, 40, 6, 80),
        (14, 5, 1, 80, 6, 112),
        (14, 5, 2, 112, 6, 192),
        (7, 5, 1, 192, 6, 192),
        (61, 7, 3, 24, 4, 20),
    ] {
        for threads in [1, 3] {
            let inner = (expansion > 1).then_some(input * expansion);
            let block = Block::new(Geometry::same(side, side, kernel, stride), (input, inner, output), Activation::Relu6, side as u64);
            check_block(&Pool::new(threads), &block, 1, 9);
        }
    }
}

/// A value rounded to bits after the point.
fn fixed(x: f32, bits: u8) -> f32 {
    let ones = f32::from(bits).exp2();
    (x * ones).round_ties_even() / ones
}

/// A block whose layers round to bits after the point, pixel by pixel, with whole numbers for sums: what every instruction set must compute to
/// the last bit, of maps whose values have few bits as well.
fn exact_block(block: &Block, (between, after): (u8, u8), x: &[f32]) -> Vec<f32> {
    let (view, geometry) = (block.view(), block.geometry);
    // What a pointwise convolution gives of a pixel, before its activation.
    let pointwise = |x: &[f32], part: Pointwise<'_>, bits: u8| -> Vec<f32> {
        let greatest = x.iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
        let byte = |x: f32| (f64::from(x) * 127.0 / f64::from(greatest)).round() as i64;
        let bytes: Vec<i64> = x.iter().map(|&x| if greatest > 0.0 { byte(x) } else { 0 }).collect();
        let channel = |n: usize| {
            let sum: i64 = bytes.iter().enumerate().map(|(k, byte)| byte * i64::from(part.weight.value(n, k))).sum();
            let scale = greatest * (1.0 / 127.0) * part.weight.scales()[n];
            fixed(sum as f32 * scale, bits) + fixed(part.bias.unwrap()[n], bits)
        };
        (0..part.weight.n()).map(channel).collect()
    };
    let relu6 = |x: f32| x.clamp(0.0, 6.0);
    let wide: Vec<f32> = match view.expand {
        Some(expand) => x.chunks_exact(view.input()).flat_map(|x| pointwise(x, expand, between)).map(relu6).collect(),
        None => x.to_vec(),
    };
    let (channels, kernel) = (view.depthwise.weight.channels(), geometry.kernel());
    let DepthwiseValues::Int8 { values, scales } = view.depthwise.weight.values() else { panic!("int8") };
    let padded = scales.len();
    let mut out = Vec::new();
    for pixel in 0..geometry.out_pixels() {
        let corner = (pixel / geometry.out_width() * geometry.stride(), pixel % geometry.out_width() * geometry.stride());
        let convolved = |channel: usize| {
            let mut sum = 0_i64;
            for tap in 0..kernel * kernel {
                let y = (corner.0 + tap / kernel).checked_sub(geometry.top()).filter(|&y| y < geometry.height());
                let x = (corner.1 + tap % kernel).checked_sub(geometry.left()).filter(|&x| x < geometry.width());
                if let (Some(y), Some(x)) = (y, x) {
                    let value = wide[(y * geometry.width() + x) * channels + channel] * f32::from(between).exp2();
                    assert_eq!(value, value.trunc());
                    sum += value as i64 * i64::from(values[tap * padded + channel]);
                }
            }
            assert!(sum.abs() < 1 << 24);
            let y = sum as f32 / f32::from(between).exp2() * scales[channel];
            relu6(fixed(y, between) + fixed(view.depthwise.bias.unwrap()[channel], between))
        };
        let convolved: Vec<f32> = (0..channels).map(convolved).collect();
        let y = pointwise(&convolved, view.project, after);
        let residual = |n: usize| if view.shortcut { x[pixel * view.input() + n] } else { 0.0 };
        out.extend(y.iter().enumerate().map(|(n, y)| y + residual(n)));
    }
    out
}

#[test]
fn blocks_of_few_bits_have_no_error() {
    let (between, after) = (9, 7);
    for (height, width, kernel, stride, input, inner, output) in [
        (14, 13, 3, 1, 32, None, 16),
        (14, 13, 3, 2, 16, Some(96), 24),
        (9, 12, 5, 1, 40, Some(240), 40),
        (8, 7, 5, 2, 112, Some(672), 192),
        (7, 7, 5, 1, 192, Some(1152), 192),
        (5, 6, 7, 3, 20, Some(33), 20),
    ] {
        let mut block = Block::new(Geometry::same(height, width, kernel, stride), (input, inner, output), Activation::Relu6, 3);
        block.fraction_bits = Some((between, after));
        // As a first block's, between 0 and 6, or as large as a residual stream's.
        let x = noise(8, height * width * input);
        let x: Vec<f32> = match inner {
            None => x.iter().map(|&x| fixed(4.0 * x.abs(), between)).collect(),
            Some(_) => x.iter().map(|&x| fixed(40.0 * x.powi(3), after)).collect(),
        };
        let expected = exact_block(&block, (between, after), &x);
        assert!(expected.iter().any(|y| y.abs() > 1.0));
        for isa in Isa::all() {
            let pool = Pool::new(2);
            let mut out = vec![f32::NAN; expected.len()];
            Engine::new(isa, &pool).inverted_residual(&x, &block.view(), &mut out);
            assert_same(&out, &expected, &format!("{isa} {kernel} {stride} {input}"));
        }
    }
}

/// The reference's block, loosely: a step of an activation that rounds the other way goes through all layers.
///
/// One byte of `input` more or less, in a few pixels of a window, moves a wide channel by a step times a weight. Here inputs are below
/// 1.5, so a step is below 0.012, pointwise weights below 1.5 / √k, depthwise ones below 1.5. Four flips among a pixel's bytes, in four
/// of the window's pixels, move a convolved channel by 4 · 4 · 0.012 · 1.5 · 1.5 / √k; each byte of the second quantization, of steps of
/// at most 6 / 127, by as much and half a step; and of these errors, of either sign, √k sum up in each result, at weights of 1 / √k.
#[test]
fn a_block_is_about_the_references() {
    let pool = Pool::new(2);
    for (input, inner, output) in [(16, Some(96), 24), (24, Some(144), 24), (32, None, 16)] {
        let block = Block::new(Geometry::same(9, 11, 3, 1), (input, inner, output), Activation::Relu6, 5);
        let x = noise(3, 99 * input);
        let expected = reference::inverted_residual(&x, &block.view());
        let moved = 16.0 * 0.012 * 1.5 * 1.5 / (input as f64).sqrt() + 3.0 / 127.0;
        for isa in Isa::all() {
            let mut out = vec![f32::NAN; expected.len()];
            Engine::new(isa, &pool).inverted_residual(&x, &block.view(), &mut out);
            for (i, (&y, e)) in out.iter().zip(&expected).enumerate() {
                assert!((f64::from(y) - e).abs() <= 1.5 * moved, "{isa} {input} at {i}: {y}, not {e}");
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_in_the_windows_that_hold_it() {
    let pool = Pool::new(2);
    let geometry = Geometry::same(11, 9, 3, 2);
    let holds = |pixel: usize, out: usize| {
        let (y, x) = (out / geometry.out_width() * 2, out % geometry.out_width() * 2);
        let within = |at: usize, start: usize, before: usize| (start..start + 3).contains(&(at + before));
        within(pixel / 9, y, geometry.top()) && within(pixel % 9, x, geometry.left())
    };
    let block = Block::new(geometry, (20, Some(40), 13), Activation::Relu6, 1);
    let alone = Block::new(geometry, (20, None, 13), Activation::None, 1);
    let clean = noise(2, 99 * 20);
    for isa in Isa::all() {
        for (pixel, bad) in [(0, f32::NAN), (40, f32::INFINITY), (98, f32::NEG_INFINITY)] {
            let mut x = clean.clone();
            x[pixel * 20 + 7] = bad;
            let fused = |x: &[f32]| {
                let mut out = vec![0.0; geometry.out_pixels() * 13];
                Engine::new(isa, &pool).inverted_residual(x, &block.view(), &mut out);
                out
            };
            let depthwise = |x: &[f32]| {
                let mut out = vec![0.0; geometry.out_pixels() * 20];
                Engine::new(isa, &pool).depthwise(x, geometry, alone.view().depthwise, &mut out);
                out
            };
            for (i, (y, expected)) in fused(&x).iter().zip(fused(&clean)).enumerate() {
                if holds(pixel, i / 13) {
                    assert!(y.is_nan(), "{isa} {bad} at {i}: {y}");
                } else {
                    assert_eq!(*y, expected, "{isa} {bad} at {i}");
                }
            }
            for (i, (y, expected)) in depthwise(&x).iter().zip(depthwise(&clean)).enumerate() {
                if holds(pixel, i / 20) && i % 20 == 7 {
                    assert!(!y.is_finite(), "{isa} {bad} at {i}: {y}");
                } else {
                    assert_eq!(*y, expected, "{isa} {bad} at {i}");
                }
            }
        }
    }
}

#[test]
fn paddings_are_tensorflows_and_explicit() {
    let same = Geometry::same(112, 111, 3, 2);
    assert_eq!((same.top(), same.left(), same.out_height(), same.out_width()), (0, 1, 56, 56));
    let padded = Geometry::padded(10, 10, 3, 2, [1, 1, 1, 1]);
    assert_eq!((padded.out_height(), padded.out_width()), (5, 5));
    assert_eq!(Geometry::patches(224, 230, 16).out_pixels(), 14 * 14);
    assert_eq!(Geometry::same(1, 1, 5, 2).out_pixels(), 1);
}

#[test]
fn no_pictures_give_no_results() {
    let pool = Pool::new(2);
    let geometry = Geometry::same(5, 5, 3, 2);
    let block = Block::new(geometry, (4, Some(8), 4), Activation::Relu6, 1);
    let weights = noise(1, 27 * 8);
    let int8 = OwnedInt8::quantize(8, 27, &weights).unwrap();
    let floats = pack_float(8, 27, &weights).unwrap();
    for isa in Isa::all() {
        let mut engine = Engine::new(isa, &pool);
        engine.inverted_residual(&[], &block.view(), &mut []);
        engine.depthwise(&[], geometry, block.view().depthwise, &mut []);
        engine.global_average(&[], 25, 4, &mut []);
        for weight in [Weight::Int8(int8.view()), Weight::Float(PackedFloat::new(8, 27, Floats::F32(&floats)).unwrap())] {
            let picture = Picture { values: &[], channels: 3, layout: Layout::Planar };
            engine.convolution(picture, geometry, weight, Epilogue::default(), &mut []);
        }
    }
}
