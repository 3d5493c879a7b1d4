//! Operations models need, and the choice of the device they run on.
//!
//! The only crate that knows burn's backends by name.
//!
//! | module | what |
//! |---|---|
//! | [`device`] | what a user typed, as a burn device |
//! | [`cpu`], [`threads`] | instruction set and threads of the CPU |
//! | [`peak`] | how fast this CPU multiplies |
//! | [`packed`] | weights in the kernels' order, as tensors |
//! | [`linear`](mod@linear) | linear layers on them |
//! | [`attention`](mod@attention) | attention |
//! | [`rotary`], [`embedding`](mod@embedding), [`softmax`] | angles of positions, rows of packed tables, probabilities |
//! | [`convolution`](mod@convolution) | convolutions |
//! | [`extension`] | the operations as an extension of burn's backends: `oracle` in burn's primitives, `flex` on the kernels |
//! | [`quant`] | stored integers to floats, and back |
#![forbid(unsafe_code)]

pub mod attention;
pub mod convolution;
pub mod cpu;
pub mod device;
pub mod embedding;
pub mod extension;
mod flex;
pub mod linear;
mod oracle;
pub mod packed;
pub mod peak;
pub mod quant;
pub mod rotary;
pub mod softmax;
pub mod threads;

pub use attention::{AttentionOptions, KeyValueCache, attention, cached_attention, reorder_rows};
pub use convolution::{Depthwise, DepthwiseWeight, Pointwise, Window, convolution, depthwise, inverted_residual};
pub use device::{DeviceChoice, DeviceError, select};
pub use embedding::embedding;
pub use linear::{After, Before, linear};
pub use ocelli_kernels::Activation;
pub use ocelli_kernels::pack::{self, GroupBits, OwnedGroups, OwnedInt8};
pub use packed::{Packed, PackedError};
pub use rotary::{Angles, Rotary};
pub use softmax::log_softmax_rows;
pub use threads::{ThreadsError, set_threads};
