//! A camera as a source of which the newest frame counts. The one place here that knows hardware.

use std::path::Path;

use anyhow::{Result, bail};
use ocelli_flow::FrameSource;

use crate::interrupt::Stop;

/// Opens a V4L2 device; it captures in a thread of its own until `stop`.
pub fn open(device: &Path, _stop: &Stop) -> Result<Box<dyn FrameSource>> {
    bail!("{}: cameras are not supported in this build", device.display())
}
