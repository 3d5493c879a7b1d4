//! Norms, softmax, rotary embedding and embedding tables on the shapes they meet: `cargo bench -p ocelli-kernels --bench rows`. One thread;
//! `OCELLI_ISA` chooses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "benchmarks")]

use divan::Bencher;
use ocelli_kernels::pack::GroupBits;
use ocelli_kernels::rope::RopeTable;
use ocelli_kernels::{Engine, Isa, Norm, OwnedGroups, OwnedInt8, Pool, Positions, Rope, RopePairs, Table, Weight};

fn main() {
    divan::main();
}

fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn with_engine(compute: impl FnOnce(&Engine<'_>)) {
    let pool = Pool::new(1);
    compute(&Engine::new(Isa::choose(None).unwrap(), &pool));
}

/// CLIP B/16's tokens.
const ROWS: usize = 197;
const WIDTH: usize = 768;

#[divan::bench(args = ["layer", "rms", "l2"])]
fn norm(bencher: Bencher<'_, '_>, kind: &str) {
    let (x, weight, mut out) = (noise(ROWS * WIDTH), noise(WIDTH), vec![0.0; ROWS * WIDTH]);
    let norm = match kind {
        "layer" => Norm::Layer { weight: &weight, bias: &weight, epsilon: 1e-5 },
        "rms" => Norm::Rms { weight: &weight, epsilon: 1e-5 },
        _ => Norm::L2 { epsilon: 1e-12 },
    };
    with_engine(|engine| bencher.bench_local(|| engine.norm(&x, WIDTH, norm, &mut out)));
}

/// The rows of nano's three beams.
#[divan::bench(args = [(ROWS, WIDTH), (3, 4096)])]
fn softmax(bencher: Bencher<'_, '_>, (rows, width): (usize, usize)) {
    let mut x = noise(rows * width);
    with_engine(|engine| bencher.bench_local(|| engine.softmax(&mut x, width)));
}

#[divan::bench(args = [(ROWS, WIDTH), (3, 4096)])]
fn log_softmax(bencher: Bencher<'_, '_>, (rows, width): (usize, usize)) {
    let mut x = noise(rows * width);
    with_engine(|engine| bencher.bench_local(|| engine.log_softmax(&mut x, width)));
}

#[divan::bench(args = ["half", "interleaved"])]
fn rope(bencher: Bencher<'_, '_>, pairs: &str) {
    let (tokens, heads, dim) = (512, 9, 64);
    let table = RopeTable::new(tokens, dim, 1e5);
    let pairs = if pairs == "half" { RopePairs::Half } else { RopePairs::Interleaved };
    let rope = Rope { table: &table, pairs, positions: Positions::From(0), tokens, heads, dim, row_stride: heads * dim, head_stride: dim };
    let mut x = noise(tokens * heads * dim);
    with_engine(|engine| bencher.bench_local(|| engine.rope(&rope, &mut x)));
}

#[divan::bench(args = ["int8", "int4"])]
fn embedding(bencher: Bencher<'_, '_>, kind: &str) {
    let (n, k, count) = (4096, 576, 512);
    let weights = noise(n * k);
    let int8 = OwnedInt8::quantize(n, k, &weights).unwrap();
    let int4 = OwnedGroups::quantize(n, k, GroupBits::Int4, &weights).unwrap();
    let table = Table::Packed(if kind == "int8" { Weight::Int8(int8.view()) } else { Weight::Groups(int4.view()) });
    let ids: Vec<u32> = (0..count as u32).map(|i| i * 7919 % n as u32).collect();
    let mut out = vec![0.0; count * k];
    with_engine(|engine| bencher.bench_local(|| engine.embedding(&ids, table, None, &mut out).unwrap()));
}
