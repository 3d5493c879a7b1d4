//! Rows of a packed table.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
use ocelli_kernels::Activation;

use crate::extension::{KernelOps, LinearOptions};
use crate::packed::Packed;

/// Rows `ids [I]` of `table`, `[I, K]`.
///
/// # Panics
/// Where an id is beyond the table: check what comes from outside before.
pub fn embedding(ids: Tensor<1, Int>, table: &Packed) -> Tensor<2> {
    let options =
        LinearOptions { n: table.n(), k: table.k(), bits: table.bits(), epsilon: 0.0, activation: Activation::None, fraction_bits: None };
    Tensor::from_dispatch(<Dispatch as KernelOps>::packed_embedding(ids.into_dispatch(), table.primitive(), options))
}
