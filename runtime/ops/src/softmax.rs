//! Softmax.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::extension::KernelOps;

/// x − ln Σ eˣ over the last axis of `x [..., N]`.
pub fn log_softmax<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::row_log_softmax(x.into_dispatch()))
}
