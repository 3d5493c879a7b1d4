//! A camera as a source. The one place here that knows hardware.

use std::path::Path;

use anyhow::Result;

#[cfg(target_os = "linux")]
pub use ocelli_linux::Camera;

/// Opens a V4L2 device. Live: wrap it in [`Live`](ocelli_pipeline::Live).
#[cfg(target_os = "linux")]
pub fn open(device: &Path) -> Result<Camera> {
    Ok(Camera::open(&device.to_string_lossy(), ocelli_linux::CameraOptions::default())?)
}

/// There are none on this system yet.
#[cfg(not(target_os = "linux"))]
pub enum Camera {}

#[cfg(not(target_os = "linux"))]
impl ocelli_flow::FrameSource for Camera {
    fn live(&self) -> bool {
        match *self {}
    }

    fn next(&mut self) -> std::result::Result<ocelli_flow::Next, ocelli_flow::SourceError> {
        match *self {}
    }
}

/// Says that cameras are read on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn open(device: &Path) -> Result<Camera> {
    anyhow::bail!("{}: cameras are read on Linux only so far; name pictures or a folder", device.display())
}
