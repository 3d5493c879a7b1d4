//! EfficientNet-Lite0 at 224 × 224 with random weights, as a whole and layer by layer, and other models' patches:
//! `cargo bench -p ocelli-kernels --bench convolution`. One thread, but where two are said;
//! `OCELLI_ISA` chooses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "benchmarks")]

use divan::Bencher;
use divan::counter::ItemsCount;
use ocelli_kernels::convolution::{Depthwise, Geometry, InvertedResidual, Layout, OwnedDepthwise, Picture, Pointwise};
use ocelli_kernels::pack::{Floats, pack_float};
use ocelli_kernels::{Activation, Engine, Epilogue, Isa, OwnedInt8, PackedFloat, Pool, Prologue, Weight};

fn main() {
    divan::main();
}

fn isa() -> Isa {
    Isa::choose(None).unwrap_or_else(|_| Isa::best())
}

fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Repeats, kernel, stride of the first, expansion, channels in and out.
const STAGES: [[usize; 6]; 7] = [
    [1, 3, 1, 1, 32, 16],
    [2, 3, 2, 6, 16, 24],
    [2, 5, 2, 6, 24, 40],
    [3, 3, 2, 6, 40, 80],
    [3, 5, 1, 6, 80, 112],
    [4, 5, 2, 6, 112, 192],
    [1, 3, 1, 6, 192, 320],
];

/// Bits after the point of results; nano has so many inside blocks.
const BITS: u8 = 10;

/// A block's weights.
struct Block {
    geometry: Geometry,
    expand: Option<(OwnedInt8, Vec<f32>)>,
    depthwise: (OwnedDepthwise, Vec<f32>),
    project: (OwnedInt8, Vec<f32>),
    shortcut: bool,
}

impl Block {
    fn new(side: usize, kernel: usize, stride: usize, expansion: usize, input: usize, output: usize) -> Self {
        let inner = input * expansion;
        let pointwise = |n: usize, k: usize| (OwnedInt8::quantize(n, k, &noise(n * k)).unwrap(), noise(n));
        Self {
            geometry: Geometry::same(side, side, kernel, stride),
            expand: (expansion > 1).then(|| pointwise(inner, input)),
            depthwise: (OwnedDepthwise::quantize(inner, kernel, &noise(inner * kernel * kernel)).unwrap(), noise(inner)),
            project: pointwise(output, inner),
            shortcut: stride == 1 && input == output,
        }
    }

    fn view(&self) -> InvertedResidual<'_> {
        let (weight, bias) = (self.depthwise.0.view(), Some(&self.depthwise.1[..]));
        let depthwise = Depthwise { weight, bias, activation: Activation::Relu6, fraction_bits: Some(BITS) };
        InvertedResidual {
            geometry: self.geometry,
            expand: self.expand.as_ref().map(|(weight, bias)| pointwise(weight, bias, Activation::Relu6)),
            depthwise,
            project: pointwise(&self.project.0, &self.project.1, Activation::None),
            shortcut: self.shortcut,
        }
    }
}

fn pointwise<'a>(weight: &'a OwnedInt8, bias: &'a [f32], activation: Activation) -> Pointwise<'a> {
    Pointwise { weight: weight.view(), bias: Some(bias), activation, fraction_bits: Some(BITS) }
}

fn blocks() -> Vec<Block> {
    let (mut side, mut blocks) = (112, Vec::new());
    for [repeats, kernel, first, expansion, input, output] in STAGES {
        for i in 0..repeats {
            let (stride, input) = if i == 0 { (first, input) } else { (1, output) };
            blocks.push(Block::new(side, kernel, stride, expansion, input, output));
            side = side.div_ceil(stride);
        }
    }
    blocks
}

/// From pixels to the pooled vector.
#[divan::bench(args = [1, 2])]
fn efficientnet_lite0(bencher: Bencher<'_, '_>, threads: usize) {
    let blocks = blocks();
    let pool = Pool::new(threads);
    let mut engine = Engine::new(isa(), &pool);
    let picture = noise(3 * 224 * 224);
    let (stem, head) = (pack_float(32, 27, &noise(32 * 27)).unwrap(), OwnedInt8::quantize(1280, 320, &noise(1280 * 320)).unwrap());
    let stem = Weight::Float(PackedFloat::new(32, 27, Floats::F32(&stem)).unwrap());
    let bias = noise(1280);
    let mut maps: Vec<Vec<f32>> = blocks.iter().map(|block| vec![0.0; block.geometry.out_pixels() * block.view().output()]).collect();
    let (mut first, mut last, mut pooled) = (vec![0.0; 112 * 112 * 32], vec![0.0; 49 * 1280], vec![0.0; 1280]);
    bencher.bench_local(|| {
        let relu6 = |bias| Epilogue { bias: Some(bias), activation: Activation::Relu6, residual: None, fraction_bits: Some(BITS) };
        let picture = Picture { values: &picture, channels: 3, layout: Layout::Planar };
        engine.convolution(picture, Geometry::same(224, 224, 3, 2), stem, relu6(&bias[..32]), &mut first);
        let mut x = &first;
        for (block, out) in blocks.iter().zip(&mut maps) {
            engine.inverted_residual(x, &block.view(), out);
            x = out;
        }
        engine.linear(x, Prologue::None, Weight::Int8(head.view()), relu6(&bias), &mut last);
        engine.global_average(&last, 49, 1280, &mut pooled);
    });
}

/// Each block by itself; items are multiplications.
#[divan::bench(args = 0..16)]
fn block(bencher: Bencher<'_, '_>, index: usize) {
    let block = blocks().swap_remove(index);
    let view = block.view();
    let pool = Pool::new(1);
    let mut engine = Engine::new(isa(), &pool);
    let x = noise(view.geometry.pixels() * view.input());
    let mut out = vec![0.0; view.geometry.out_pixels() * view.output()];
    let inner = view.depthwise.weight.channels();
    let expand = if view.expand.is_some() { x.len() * inner } else { 0 };
    let depthwise = view.geometry.out_pixels() * inner * view.geometry.kernel().pow(2);
    bencher.counter(ItemsCount::new(expand + depthwise + out.len() * inner)).bench_local(|| engine.inverted_residual(&x, &view, &mut out));
}

/// Side, kernel, stride, channels.
#[divan::bench(args = [(112, 3, 1, 32), (112, 3, 2, 96), (56, 5, 2, 144), (28, 5, 1, 240), (14, 3, 1, 480), (14, 5, 1, 672), (7, 5, 1, 1152)])]
fn depthwise(bencher: Bencher<'_, '_>, (side, kernel, stride, channels): (usize, usize, usize, usize)) {
    let weight = OwnedDepthwise::quantize(channels, kernel, &noise(channels * kernel * kernel)).unwrap();
    let geometry = Geometry::same(side, side, kernel, stride);
    let pool = Pool::new(1);
    let mut engine = Engine::new(isa(), &pool);
    let (x, mut out) = (noise(side * side * channels), vec![0.0; geometry.out_pixels() * channels]);
    let depthwise = Depthwise { weight: weight.view(), bias: None, activation: Activation::Relu6, fraction_bits: Some(BITS) };
    bencher.counter(ItemsCount::new(out.len() * kernel * kernel)).bench_local(|| engine.depthwise(&x, geometry, depthwise, &mut out));
}

/// The pointwise convolutions of EfficientNet-Lite0: pixels, channels out and in.
#[divan::bench(args = [
    (12544, 16, 32), (12544, 96, 16), (3136, 24, 96), (3136, 144, 24), (784, 240, 40), (784, 40, 240), (196, 480, 80), (196, 672, 112),
    (196, 112, 672), (49, 1152, 192), (49, 192, 1152), (49, 1280, 320),
])]
fn pointwise_int8(bencher: Bencher<'_, '_>, (m, n, k): (usize, usize, usize)) {
    let weight = OwnedInt8::quantize(n, k, &noise(n * k)).unwrap();
    let pool = Pool::new(1);
    let mut engine = Engine::new(isa(), &pool);
    let (x, mut out) = (noise(m * k), vec![0.0; m * n]);
    let epilogue = Epilogue { activation: Activation::Relu6, ..Epilogue::default() };
    bencher
        .counter(ItemsCount::new(m * n * k))
        .bench_local(|| engine.linear(&x, Prologue::None, Weight::Int8(weight.view()), epilogue, &mut out));
}

/// Side of the picture, kernel, stride, channels out: EfficientNet-Lite0's stem, and patches.
const DENSE: [(usize, usize, usize, usize); 4] = [(224, 3, 2, 32), (224, 16, 16, 768), (224, 32, 32, 768), (224, 14, 14, 384)];

fn dense(bencher: Bencher<'_, '_>, (side, kernel, stride, n): (usize, usize, usize, usize), layout: Layout, weight: Weight<'_>) {
    let geometry = Geometry::same(side, side, kernel, stride);
    let pool = Pool::new(1);
    let mut engine = Engine::new(isa(), &pool);
    let (x, mut out) = (noise(3 * side * side), vec![0.0; geometry.out_pixels() * n]);
    let picture = Picture { values: &x, channels: 3, layout };
    bencher
        .counter(ItemsCount::new(out.len() * weight.k()))
        .bench_local(|| engine.convolution(picture, geometry, weight, Epilogue::default(), &mut out));
}

#[divan::bench(args = DENSE)]
fn dense_planar_int8(bencher: Bencher<'_, '_>, shape: (usize, usize, usize, usize)) {
    let k = 3 * shape.1 * shape.1;
    let weight = OwnedInt8::quantize(shape.3, k, &noise(shape.3 * k)).unwrap();
    dense(bencher, shape, Layout::Planar, Weight::Int8(weight.view()));
}

#[divan::bench(args = DENSE)]
fn dense_interleaved_int8(bencher: Bencher<'_, '_>, shape: (usize, usize, usize, usize)) {
    let k = 3 * shape.1 * shape.1;
    let weight = OwnedInt8::quantize(shape.3, k, &noise(shape.3 * k)).unwrap();
    dense(bencher, shape, Layout::Interleaved, Weight::Int8(weight.view()));
}

#[divan::bench(args = DENSE)]
fn dense_planar_f32(bencher: Bencher<'_, '_>, shape: (usize, usize, usize, usize)) {
    let k = 3 * shape.1 * shape.1;
    let values = pack_float(shape.3, k, &noise(shape.3 * k)).unwrap();
    dense(bencher, shape, Layout::Planar, Weight::Float(PackedFloat::new(shape.3, k, Floats::F32(&values)).unwrap()));
}

#[divan::bench]
fn global_average(bencher: Bencher<'_, '_>) {
    let (pool, x, mut out) = (Pool::new(1), noise(49 * 1280), vec![0.0; 1280]);
    let engine = Engine::new(isa(), &pool);
    bencher.bench_local(|| engine.global_average(&x, 49, 1280, &mut out));
}
