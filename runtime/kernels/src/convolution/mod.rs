//! Convolutions of pictures and maps.
//!
//! Maps are `[H][W][C]`, the channels of a pixel side by side, several one behind another. A 1×1 convolution is
//! [`Engine::linear`](crate::Engine::linear) on `[H · W][C]`; the others are here.
//!
//! | operation | how |
//! |---|---|
//! | [`Engine::convolution`](crate::Engine::convolution) | each window is a row of a linear layer, gathered from the picture as the rows are made ready; small float weights take windows as they lie |
//! | [`Engine::depthwise`](crate::Engine::depthwise) | one kernel a channel; vectors run over channels |
//! | [`Engine::inverted_residual`](crate::Engine::inverted_residual) | MobileNetV2's block in one go: what lies between its layers stays in the cache |
//! | [`Engine::global_average`](crate::Engine::global_average) | the mean over pixels |

mod average;
mod band;
mod depthwise;
mod direct;
mod expand;
mod geometry;
mod weight;
mod windows;

pub(crate) use band::Scratch;
pub use band::{Depthwise, InvertedResidual, Pointwise};
pub use geometry::Geometry;
pub use weight::{DepthwiseValues, OwnedDepthwise, PackedDepthwise, pack_depthwise};
pub(crate) use windows::Windows;
pub use windows::{Layout, Picture};
