//! Operations models need, and the choice of the device they run on.
//!
//! The only crate that knows burn's backends by name: [`device`] turns what a user typed into a burn device,
//! [`quant`] turns stored integers into the floats burn computes with.
#![forbid(unsafe_code)]

pub mod device;
pub mod quant;

pub use device::{DeviceChoice, DeviceError, select};
