//! How fast one thread of this CPU multiplies at best.

use std::time::Instant;

use ocelli_kernels::pack::{Floats, pack_float};
use ocelli_kernels::{Engine, Epilogue, OwnedInt8, PackedFloat, Pool, Prologue, Weight};

/// Rows, output and input channels of a product whose operands stay in the nearest caches, and whose results are few beside its products.
const SHAPE: (usize, usize, usize) = (12, 32, 1024);
/// Times a measurement is taken; the best counts.
const TRIES: usize = 30;
/// Products a measurement.
const REPEATS: usize = 40;

/// int8 multiplications a second on one thread.
pub fn integers_per_second() -> f64 {
    let (_, n, k) = SHAPE;
    match OwnedInt8::pack(n, k, &vec![1; n * k], &vec![1.0; n]) {
        Ok(weight) => measure(Weight::Int8(weight.view())),
        Err(_) => 0.0,
    }
}

/// f32 multiplications a second on one thread.
pub fn floats_per_second() -> f64 {
    let (_, n, k) = SHAPE;
    let Ok(values) = pack_float(n, k, &vec![1.0; n * k]) else { return 0.0 };
    PackedFloat::new(n, k, Floats::F32(&values)).map_or(0.0, |weight| measure(Weight::Float(weight)))
}

fn measure(weight: Weight<'_>) -> f64 {
    let (m, n, k) = SHAPE;
    let pool = Pool::new(1);
    let mut engine = Engine::new(crate::cpu::isa(), &pool);
    let (x, mut out) = (vec![1.0; m * k], vec![0.0; m * n]);
    let mut best = f64::INFINITY;
    engine.linear(&x, Prologue::None, weight, Epilogue::default(), &mut out);
    for _ in 0..TRIES {
        let start = Instant::now();
        (0..REPEATS).for_each(|_| engine.multiply_again(weight, &mut out));
        best = best.min(start.elapsed().as_secs_f64());
    }
    (m * n * k * REPEATS) as f64 / best
}
