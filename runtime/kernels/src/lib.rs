//! CPU arithmetic on slices. No tensors, no files: what goes in and out is `&[f32]` and packed integers.
//!
//! | module | what |
//! |---|---|
//! | [`isa`] | which instruction set computes: chosen once, or forced by `OCELLI_ISA` |
//! | [`simd`] | what an instruction set offers; algorithms are written once over it |
//! | [`arch`] | the instruction sets, a file each |
//! | [`pool`] | the threads that share a kernel's work |
//! | [`pack`] | weights in the order kernels read them: one layout for every instruction set |
//! | [`quantize`] | activations made ready: normalised, to bytes with a scale a row |
//! | [`linear`] | y = activation(x Wᵀ + b) + residual |
//! | [`attention`] | softmax(scale · Q Kᵀ + bias) V without the scores in memory |
//! | [`norm`] | rows normalised: layer, RMS, L2 |
//! | [`softmax`] | softmax over rows |
//! | [`rope`] | rotary position embedding |
//! | [`embedding`] | rows of a table, chosen by number |
//! | [`convolution`] | convolutions of pictures and maps, depthwise ones, inverted residual blocks |
//! | [`math`] | functions of one variable |
//! | [`mod@reference`] | the same in plain loops: the specification that kernels are tested against |

pub mod arch;
pub mod attention;
pub mod convolution;
pub mod embedding;
pub mod isa;
pub mod linear;
pub mod math;
pub mod norm;
pub mod pack;
pub mod pool;
pub mod quantize;
pub mod reference;
pub mod rope;
mod shared;
pub mod simd;
pub mod softmax;

pub use attention::{Attention, Heads, Precision};
pub use embedding::{EmbeddingError, Table};
pub use isa::Isa;
pub use linear::{Activation, Engine, Epilogue, Weight};
pub use norm::Norm;
pub use pack::{OwnedGroups, OwnedInt8, PackError, PackedFloat, PackedGroups, PackedInt8};
pub use pool::Pool;
pub use quantize::Prologue;
pub use rope::{Positions, Rope, RopePairs, RopeTable};
