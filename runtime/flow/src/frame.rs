//! A picture and where and when it comes from.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::yuv::{Yuv, YuvLayout, YuvTooShort};

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

/// A picture as it came in: RGB, or a camera's luma and chroma.
///
/// The pixels are shared: a clone costs a reference count. A buffer that was shared with the frame (a pool's) is let go with its last clone.
#[derive(Debug, Clone)]
pub struct Frame {
    width: u32,
    height: u32,
    pixels: Pixels,
    meta: FrameMeta,
}

#[derive(Debug, Clone)]
enum Pixels {
    Rgb(Arc<Vec<u8>>),
    Yuv(Arc<Camera>),
}

#[derive(Debug)]
struct Camera {
    layout: YuvLayout,
    bytes: Arc<Vec<u8>>,
    /// Where the picture ends in `bytes`.
    end: usize,
    /// Its RGB copy, once someone has asked for that.
    rgb: OnceLock<Vec<u8>>,
}

impl Camera {
    fn view(&self) -> Yuv<'_> {
        Yuv::of(self.layout, &self.bytes[..self.end])
    }
}

impl Frame {
    /// A frame from `rgb`, `height` rows of `width` pixels of three bytes without padding; `None` if its length is another or a side is zero.
    pub fn new(width: u32, height: u32, rgb: impl Into<Arc<Vec<u8>>>, meta: FrameMeta) -> Option<Self> {
        let rgb = rgb.into();
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (bytes > 0 && rgb.len() == bytes).then_some(Self { width, height, pixels: Pixels::Rgb(rgb), meta })
    }

    /// A frame from a camera's pixels, which stay as they are.
    ///
    /// # Errors
    /// A picture without pixels, or one that `bytes` does not hold all of.
    pub fn yuv(layout: YuvLayout, bytes: impl Into<Arc<Vec<u8>>>, meta: FrameMeta) -> Result<Self, YuvTooShort> {
        let bytes = bytes.into();
        let end = layout.view(&bytes)?.bytes().len();
        let pixels = Pixels::Yuv(Arc::new(Camera { layout, bytes, end, rgb: OnceLock::new() }));
        Ok(Self { width: layout.width, height: layout.height, pixels, meta })
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
    ///
    /// A camera's are converted when this is first called, once for all clones, and the copy is kept as long as they: who reads rows one
    /// by one is better served by [`as_yuv`](Self::as_yuv).
    pub fn rgb(&self) -> &[u8] {
        match &self.pixels {
            Pixels::Rgb(rgb) => rgb,
            Pixels::Yuv(camera) => camera.rgb.get_or_init(|| {
                let mut rgb = Vec::new();
                camera.view().to_rgb(&mut rgb);
                rgb
            }),
        }
    }

    /// A camera's pixels as they came; `None`: they came as RGB.
    pub fn as_yuv(&self) -> Option<Yuv<'_>> {
        match &self.pixels {
            Pixels::Rgb(_) => None,
            Pixels::Yuv(camera) => Some(camera.view()),
        }
    }

    /// Where and when it was captured.
    pub fn meta(&self) -> &FrameMeta {
        &self.meta
    }

    /// The same pixels, described anew.
    pub fn with_meta(self, meta: FrameMeta) -> Self {
        Self { meta, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yuv::{YuvFormat, YuvRange};

    fn camera(bytes: Arc<Vec<u8>>) -> Result<Frame, YuvTooShort> {
        let layout = YuvLayout { format: YuvFormat::Yuyv, width: 2, height: 2, stride: 6, range: YuvRange::Full };
        Frame::yuv(layout, bytes, FrameMeta::still("/dev/fake"))
    }

    #[test]
    fn a_cameras_pixels_stay_as_they_are_and_become_rgb_once() {
        let bytes = Arc::new(vec![10, 128, 20, 128, 99, 99, 30, 128, 40, 128, 99, 99, 77]);
        let frame = camera(Arc::clone(&bytes)).unwrap();
        let clone = frame.clone().with_meta(FrameMeta { sequence: 7, ..FrameMeta::still("again") });
        assert_eq!(frame.as_yuv().unwrap().bytes(), &bytes[..12], "what follows is no part of the picture");
        assert_eq!(frame.as_yuv().unwrap().bytes().as_ptr(), bytes.as_ptr());
        assert_eq!(frame.rgb(), [10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40]);
        assert_eq!((clone.rgb().as_ptr(), clone.meta().sequence), (frame.rgb().as_ptr(), 7));
        drop(frame);
        assert_eq!(Arc::strong_count(&bytes), 2, "a clone holds them");
        drop(clone);
        assert_eq!(Arc::strong_count(&bytes), 1, "the pool has them back");
    }

    #[test]
    fn frames_that_are_no_pictures_are_refused() {
        assert!(camera(Arc::new(vec![0; 9])).is_err());
        assert!(camera(Arc::new(vec![0; 10])).is_ok(), "the last row may lack its padding");
        let layout = YuvLayout { format: YuvFormat::Nv12, width: 0, height: 2, stride: 0, range: YuvRange::Full };
        assert!(Frame::yuv(layout, vec![0; 9], FrameMeta::still("empty")).is_err());
        assert!(Frame::new(2, 1, vec![0; 5], FrameMeta::still("short")).is_none());
        assert!(Frame::new(0, 1, vec![], FrameMeta::still("empty")).is_none());
        assert!(Frame::new(2, 1, vec![0; 6], FrameMeta::still("right")).unwrap().as_yuv().is_none());
    }
}
