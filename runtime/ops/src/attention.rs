//! Attention.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

pub use crate::extension::AttentionOptions;
use crate::extension::{KernelOps, OptionalPrimitive};

/// softmax(scale · q kᵀ + mask) v for every head (Vaswani et al. 2017), without a matrix of all scores (Dao et al. 2022).
///
/// `q [B, Tq, H D]`, `k` and `v [B, Tk, G D]` → `[B, Tq, H D]`; `mask [B, Tk]` is added to every query's scores. All may be views.
///
/// # Panics
/// Where shapes do not fit.
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, mask: Option<Tensor<2>>, options: AttentionOptions) -> Tensor<3> {
    let mask = OptionalPrimitive::of(mask);
    Tensor::from_dispatch(<Dispatch as KernelOps>::fused_attention(q.into_dispatch(), k.into_dispatch(), v.into_dispatch(), mask, options))
}
