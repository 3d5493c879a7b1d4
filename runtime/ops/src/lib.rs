//! Operations models need, and the choice of the device they run on.
//!
//! The only crate that knows burn's backends by name: [`device`] turns what a user typed into a burn device,
//! [`quant`] turns stored integers into the floats burn computes with, [`threads`] says how many CPU threads compute.
#![forbid(unsafe_code)]

pub mod device;
pub mod quant;
pub mod threads;

pub use device::{DeviceChoice, DeviceError, select};
pub use threads::{ThreadsError, set_threads};
