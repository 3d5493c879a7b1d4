//! Attention on the shapes of real models: `cargo bench -p ocelli-kernels --bench attention`. One thread; `OCELLI_ISA` chooses. An item
//! is a multiplication: 2 Tq Tk D a head.

use divan::Bencher;
use divan::counter::ItemsCount;
use half::f16;
use ocelli_kernels::pack::Floats;
use ocelli_kernels::{Attention, Engine, Heads, Isa, Pool, Precision};

fn main() {
    divan::main();
}

fn isa() -> Isa {
    Isa::choose(None).unwrap_or_else(|_| Isa::best())
}

fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn run(bencher: Bencher<'_, '_>, attention: Attention<'_>) {
    let Attention { queries, keys, heads, dim, .. } = attention;
    let pool = Pool::new(1);
    let engine = Engine::new(isa(), &pool);
    let width = heads * dim;
    let mut out = vec![0.0; queries * width];
    let count = ItemsCount::new(2 * queries * keys * width);
    bencher.counter(count).bench_local(|| engine.attention(&attention, &mut out, width));
}

/// CLIP B/32, ViT-B/16, OWL-ViT, and longer.
#[divan::bench(args = [50, 197, 577, 1024])]
fn encoder(bencher: Bencher<'_, '_>, tokens: usize) {
    let qkv = noise(tokens * 3 * 12 * 64);
    run(bencher, Attention::fused(&qkv, 12, 64));
}

/// The same with products of bfloat16, where the instruction set has them.
#[divan::bench(args = [50, 197, 577, 1024])]
fn encoder_fast(bencher: Bencher<'_, '_>, tokens: usize) {
    let qkv = noise(tokens * 3 * 12 * 64);
    run(bencher, Attention { precision: Precision::Fast, ..Attention::fused(&qkv, 12, 64) });
}

/// A decoder's prompt: 9 heads over 3, causal. Counts what is masked, too.
#[divan::bench(args = [64, 512, 1024])]
fn prefill(bencher: Bencher<'_, '_>, tokens: usize) {
    let (q, k, v) = (noise(tokens * 9 * 64), noise(tokens * 3 * 64), noise(tokens * 3 * 64));
    run(bencher, decoder(&q, Floats::F32(&k), Floats::F32(&v), tokens, tokens));
}

/// One token of 9 heads over 3 with a cache of so many.
#[divan::bench(args = [128, 512, 2048])]
fn decode_f32(bencher: Bencher<'_, '_>, keys: usize) {
    let (q, k, v) = (noise(9 * 64), noise(keys * 3 * 64), noise(keys * 3 * 64));
    run(bencher, decoder(&q, Floats::F32(&k), Floats::F32(&v), 1, keys));
}

/// The same with a cache in half precision.
#[divan::bench(args = [128, 512, 2048])]
fn decode_f16(bencher: Bencher<'_, '_>, keys: usize) {
    let half = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect::<Vec<_>>();
    let (q, k, v) = (noise(9 * 64), half(noise(keys * 3 * 64)), half(noise(keys * 3 * 64)));
    run(bencher, decoder(&q, Floats::F16(&k), Floats::F16(&v), 1, keys));
}

fn decoder<'a>(q: &'a [f32], k: Floats<'a>, v: Floats<'a>, queries: usize, keys: usize) -> Attention<'a> {
    Attention {
        q: Heads::by_token(q, 9, 64),
        k: Heads::by_token(k, 3, 64),
        v: Heads::by_token(v, 3, 64),
        queries,
        keys,
        heads: 9,
        kv_heads: 3,
        dim: 64,
        scale: 0.125,
        causal: true,
        key_mask: None,
        bias: None,
        precision: Precision::Full,
    }
}
