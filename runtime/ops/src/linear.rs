//! Linear layers on packed weights.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use ocelli_kernels::Activation;
use ocelli_kernels::linear::check_bits;

use crate::extension::{KernelOps, LinearOptions, OptionalPrimitive, ProloguePrimitive};
use crate::packed::Packed;

/// What happens to activations before a product.
#[derive(Debug, Clone, Default)]
#[allow(clippy::large_enum_variant, reason = "lives for one call, on the stack")]
pub enum Before {
    /// Nothing.
    #[default]
    Nothing,
    /// Layer normalisation over the last axis.
    LayerNorm {
        /// `[K]`
        weight: Tensor<1>,
        /// `[K]`
        bias: Tensor<1>,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Division by the root of the mean of squares (Zhang and Sennrich, 2019).
    RmsNorm {
        /// `[K]`
        weight: Tensor<1>,
        /// Added to the mean of squares.
        epsilon: f32,
    },
    /// silu(first half) · second half of the last axis (Shazeer, 2020): the input is twice as wide as K.
    SiluMul,
}

/// What happens after a product: activation(y + bias) + residual.
#[derive(Debug, Clone, Default)]
pub struct After<const D: usize> {
    /// `[N]`
    pub bias: Option<Tensor<1>>,
    /// Of the sum.
    pub activation: Activation,
    /// Of the result's shape.
    pub residual: Option<Tensor<D>>,
    /// Bits after the point, at most 24, that y and the bias are rounded to, each by itself: what is added then has no error, on any device.
    pub fraction_bits: Option<u8>,
}

/// activation(before(x) Wᵀ + bias) + residual: `x [..., K]` → `[..., N]`. Where the weight is of integers the activations are rounded to
/// bytes, with a scale a row (int8) or a scale a group (int8g, int4).
///
/// # Panics
/// Where shapes do not fit, or for more than 24 fraction bits.
pub fn linear<const D: usize>(x: Tensor<D>, before: Before, weight: &Packed, after: After<D>) -> Tensor<D> {
    let (prologue, epsilon) = match before {
        Before::Nothing => (ProloguePrimitive::None, 0.0),
        Before::LayerNorm { weight, bias, epsilon } => {
            (ProloguePrimitive::LayerNorm { weight: weight.into_dispatch(), bias: bias.into_dispatch() }, epsilon)
        }
        Before::RmsNorm { weight, epsilon } => (ProloguePrimitive::RmsNorm { weight: weight.into_dispatch() }, epsilon),
        Before::SiluMul => (ProloguePrimitive::SiluMul, 0.0),
    };
    let (activation, fraction_bits) = (after.activation, after.fraction_bits);
    check_bits(fraction_bits);
    let options = LinearOptions { n: weight.n(), k: weight.k(), bits: weight.bits(), epsilon, activation, fraction_bits };
    Tensor::from_dispatch(<Dispatch as KernelOps>::packed_linear(
        x.into_dispatch(),
        prologue,
        weight.primitive(),
        OptionalPrimitive::of(after.bias),
        OptionalPrimitive::of(after.residual),
        options,
    ))
}
