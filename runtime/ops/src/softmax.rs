//! Softmax.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::extension::KernelOps;

/// x − ln Σ eˣ over the last axis of `x [..., N]`.
pub fn log_softmax<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::row_log_softmax(x.into_dispatch()))
}

/// The same in place for rows of `width` numbers in memory, on the CPU whatever device a model runs on.
///
/// # Panics
/// Where `rows` are not whole.
pub fn log_softmax_rows(rows: &mut [f32], width: usize) {
    crate::cpu::with_engine(|engine| engine.log_softmax(rows, width));
}
