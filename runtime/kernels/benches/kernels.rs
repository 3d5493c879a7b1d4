//! Every kernel on the shapes it meets in real models: `cargo bench -p ocelli-kernels`. One thread; `OCELLI_ISA` chooses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "benchmarks")]

use divan::Bencher;
use divan::counter::ItemsCount;
use half::f16;
use ocelli_kernels::pack::{Floats, GroupBits, pack_float};
use ocelli_kernels::{Activation, Engine, Epilogue, Isa, OwnedGroups, OwnedInt8, PackedFloat, Pool, Prologue, Weight};

fn main() {
    divan::main();
}

fn isa() -> Isa {
    Isa::choose(None).unwrap_or_else(|_| Isa::best())
}

fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Rows, output and input channels: CLIP B/32's four, B/16's wide ones, a decoder's, nano's pointwise ones and its three beams'.
const SHAPES: [(usize, usize, usize); 11] = [
    (50, 2304, 768),
    (50, 768, 768),
    (50, 3072, 768),
    (50, 768, 3072),
    (197, 3072, 768),
    (197, 768, 3072),
    (1, 1536, 576),
    (1, 49280, 576),
    (512, 1536, 576),
    (12544, 96, 16),
    (3, 1024, 256),
];

fn run(bencher: Bencher<'_, '_>, (m, n, k): (usize, usize, usize), weight: Weight<'_>) {
    let pool = Pool::new(1);
    let mut engine = Engine::new(isa(), &pool);
    let (x, mut out) = (noise(m * k), vec![0.0; m * n]);
    bencher.counter(ItemsCount::new(m * n * k)).bench_local(|| engine.linear(&x, Prologue::None, weight, Epilogue::default(), &mut out));
}

#[divan::bench(args = SHAPES)]
fn linear_int8(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let weight = OwnedInt8::quantize(shape.1, shape.2, &noise(shape.1 * shape.2)).unwrap();
    run(bencher, shape, Weight::Int8(weight.view()));
}

#[divan::bench(args = SHAPES.iter().copied().filter(|shape| shape.2 % 32 == 0))]
fn linear_int8_groups(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let weight = OwnedGroups::quantize(shape.1, shape.2, GroupBits::Int8, &noise(shape.1 * shape.2)).unwrap();
    run(bencher, shape, Weight::Groups(weight.view()));
}

#[divan::bench(args = SHAPES.iter().copied().filter(|shape| shape.2 % 32 == 0))]
fn linear_int4_groups(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let weight = OwnedGroups::quantize(shape.1, shape.2, GroupBits::Int4, &noise(shape.1 * shape.2)).unwrap();
    run(bencher, shape, Weight::Groups(weight.view()));
}

#[divan::bench(args = SHAPES)]
fn linear_f32(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let values = pack_float(shape.1, shape.2, &noise(shape.1 * shape.2)).unwrap();
    run(bencher, shape, Weight::Float(PackedFloat::new(shape.1, shape.2, Floats::F32(&values)).unwrap()));
}

#[divan::bench(args = SHAPES)]
fn linear_f16(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let halves: Vec<f16> = noise(shape.1 * shape.2).into_iter().map(f16::from_f32).collect();
    let values = pack_float(shape.1, shape.2, &halves).unwrap();
    run(bencher, shape, Weight::Float(PackedFloat::new(shape.1, shape.2, Floats::F16(&values)).unwrap()));
}

/// CLIP B/32's first MLP layer, with each activation.
#[divan::bench(args = Activation::ALL)]
fn epilogue(bencher: Bencher<'_, '_>, activation: Activation) {
    let (m, n, k) = (50, 3072, 768);
    let weight = OwnedInt8::quantize(n, k, &noise(n * k)).unwrap();
    let pool = Pool::new(1);
    let mut engine = Engine::new(isa(), &pool);
    let (x, bias, mut out) = (noise(m * k), noise(n), vec![0.0; m * n]);
    let norm = Prologue::LayerNorm { weight: &bias[..k], bias: &bias[k..2 * k], epsilon: 1e-5 };
    let epilogue = Epilogue { bias: Some(&bias), activation, ..Epilogue::default() };
    bencher.bench_local(|| engine.linear(&x, norm, Weight::Int8(weight.view()), epilogue, &mut out));
}
