//! What Linux has: V4L2 cameras, and how its C library keeps memory.
//!
//! In the order of a frame's journey:
//!
//! | module | what |
//! |---|---|
//! | [`camera`] | the device: format, buffers, streaming: [`Camera`], [`CameraOptions`] |
//! | [`trouble`] | what can be wrong with a device, and what to do about it |
//! | [`sequence`] | the driver's frame counter, and what it says of lost frames |
//! | [`assemble`] | a driver's buffer to a frame from a fixed pool |
//! | [`pixels`] | YUYV and NV12 as they are; RGB, grey and Motion JPEG to RGB |
//! | [`memory`] | memory that was freed goes back to the system |
//!
//! Bindings of the kernel's interface are in `v4l2-sys/`. The `v4l` crate makes the system calls; unsafe code is in [`memory`] alone.
#![deny(unsafe_code)]

pub mod assemble;
#[cfg(target_os = "linux")]
pub mod camera;
pub mod memory;
pub mod pixels;
pub mod sequence;
#[cfg(target_os = "linux")]
pub mod trouble;

#[cfg(target_os = "linux")]
pub use camera::{Camera, CameraOptions};
