//! A picture and where and when it comes from.

use std::sync::Arc;
use std::time::Duration;

/// Where and when a frame was captured.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameMeta {
    /// The picture's path, or the camera's (`/dev/video0`).
    pub origin: Arc<str>,
    /// Counts the frames of one source from 0, dropped ones included.
    pub sequence: u64,
    /// Time of capture on the monotonic clock (the driver's timestamp for a camera; the time of reading for a file).
    pub captured_at: Duration,
    /// Frames of this source that were captured and given up since the frame before this one.
    pub dropped: u64,
}

impl FrameMeta {
    /// The description of a picture that is not part of a stream.
    pub fn still(origin: impl Into<Arc<str>>) -> Self {
        Self { origin: origin.into(), sequence: 0, captured_at: Duration::ZERO, dropped: 0 }
    }
}

/// An RGB picture: `height` rows of `width` pixels of three bytes, no padding.
///
/// The pixels are shared: a clone costs a reference count.
#[derive(Debug, Clone)]
pub struct Frame {
    width: u32,
    height: u32,
    rgb: Arc<Vec<u8>>,
    meta: FrameMeta,
}

impl Frame {
    /// A frame from `rgb` of length `width * height * 3`; `None` if the length does not fit or a side is zero.
    pub fn new(width: u32, height: u32, rgb: impl Into<Arc<Vec<u8>>>, meta: FrameMeta) -> Option<Self> {
        let rgb = rgb.into();
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (bytes > 0 && rgb.len() == bytes).then_some(Self { width, height, rgb, meta })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, row by row, `[height][width][3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Where and when it was captured.
    pub fn meta(&self) -> &FrameMeta {
        &self.meta
    }

    /// The pixel buffer, for a pool that takes it back once no one else holds it.
    pub fn into_buffer(self) -> Arc<Vec<u8>> {
        self.rgb
    }
}
