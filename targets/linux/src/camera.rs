//! A V4L2 camera as a source of frames.
//!
//! What is asked of a driver is a wish: it answers with what it will do, without an error, and that is what counts here.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use ocelli_flow::{FrameSource, Next, SourceError, YuvRange};
use ocelli_pipeline::{Clock, Monotonic};
use v4l::buffer::{Flags, Type};
use v4l::capability;
use v4l::format::{Colorspace, Quantization};
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::{Device, Format, FourCC};

use crate::assemble::{Assembler, BufferInfo};
use crate::pixels::{Layout, PixelFormat};
use crate::trouble::{camera, hint, system};

/// Buffers in the driver's hands: enough that it need not pause while one is converted.
const BUFFERS: u32 = 4;
/// A camera that is silent for longer is taken for lost. Webcams take up to two seconds to start, or longer to expose in the dark.
const SILENCE: Duration = Duration::from_secs(5);
/// Up to this size uncompressed formats come first; above, USB carries few of them a second and JPEG comes first.
const UNCOMPRESSED_PIXELS: u32 = 640 * 480;

/// What to ask of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CameraOptions {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second; `None`: as it is set.
    pub fps: Option<u32>,
}

impl Default for CameraOptions {
    /// 640 x 480, which is more than the models look at and which every camera has.
    fn default() -> Self {
        Self { width: 640, height: 480, fps: None }
    }
}

/// A camera that captures. Live: wrap it in [`ocelli_pipeline::Live`] to get the newest frame.
pub struct Camera {
    device: Arc<str>,
    layout: Layout,
    /// Before `_handle`: buffers are given back while the device is open.
    stream: Stream<'static>,
    _handle: Device,
    assembler: Assembler,
}

impl Camera {
    /// Opens `device` (`/dev/video0`) and agrees with its driver on a format. Captures from the first [`next`](FrameSource::next) on.
    pub fn open(device: &str, options: CameraOptions) -> Result<Self, SourceError> {
        // The `v4l` crate panics on answers it does not know (a colour space of a newer kernel, a name that is not UTF-8).
        let opened = catch_unwind(|| Self::open_inner(device, options));
        opened.unwrap_or_else(|_| Err(camera(device, "the driver gave an answer that V4L2 does not know; try another camera or kernel")))
    }

    /// What the driver delivers, which need not be what was asked for.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    fn open_inner(device: &str, options: CameraOptions) -> Result<Self, SourceError> {
        let failed = |what: &'static str| move |error: std::io::Error| system(device, what, &error);
        let handle = Device::with_path(device).map_err(failed("opening"))?;
        let abilities = handle.query_caps().map_err(failed("asking what it is"))?;
        let (has, driver) = (abilities.capabilities, &abilities.driver);
        if !has.contains(capability::Flags::VIDEO_CAPTURE | capability::Flags::STREAMING) {
            let what = "a video device, but none that captures single-plane video (of a webcam's two devices, the other does)";
            return Err(camera(device, format!("{what}{}", hint(driver))));
        }
        let format = agree(&handle, device, driver, options)?;
        if let Some(fps) = options.fps {
            // A camera that cannot change its rate still gives frames.
            let _ = handle.set_params(&v4l::video::capture::Parameters::with_fps(fps));
        }
        let layout = layout(&format).ok_or_else(|| camera(device, "the driver changed the format while it was set"))?;
        let mut stream = Stream::with_buffers(&handle, Type::VideoCapture, BUFFERS).map_err(failed("allocating buffers"))?;
        stream.set_timeout(SILENCE);
        let device: Arc<str> = device.into();
        Ok(Self { assembler: Assembler::new(Arc::clone(&device), layout), device, layout, stream, _handle: handle })
    }
}

impl FrameSource for Camera {
    fn live(&self) -> bool {
        true
    }

    fn next(&mut self) -> Result<Next, SourceError> {
        loop {
            // The first call queues all buffers, then starts the stream.
            let (bytes, meta) = self.stream.next().map_err(|error| system(&self.device, "waiting for a frame", &error))?;
            let monotonic = meta.flags.bits() & Flags::TIMESTAMP_MASK.bits() == Flags::TIMESTAMP_MONOTONIC.bits();
            let info = BufferInfo {
                sequence: meta.sequence,
                captured_at: if monotonic { meta.timestamp.into() } else { Monotonic.now() },
                damaged: meta.flags.contains(Flags::ERROR),
            };
            let used = bytes.len().min(meta.bytesused as usize);
            if let Some(next) = self.assembler.frame(&bytes[..used], info) {
                return Ok(next);
            }
        }
    }
}

/// Sets the first format that the device lists, that is read here, and that the driver does set when asked.
fn agree(handle: &Device, device: &str, driver: &str, options: CameraOptions) -> Result<Format, SourceError> {
    let listed = handle.enum_formats().map_err(|error| system(device, "listing formats", &error))?;
    let mut wanted: Vec<FourCC> = listed.iter().map(|format| format.fourcc).filter(|code| rank(*code, options).is_some()).collect();
    wanted.sort_by_key(|code| rank(*code, options));
    for fourcc in wanted {
        let answer = handle.set_format(&Format::new(options.width, options.height, fourcc));
        let format = answer.map_err(|error| system(device, "setting the format", &error))?;
        if PixelFormat::from_fourcc(format.fourcc.repr).is_some() {
            return Ok(format);
        }
    }
    let theirs: Vec<String> = listed.iter().map(|format| format.fourcc.to_string()).collect();
    let reason = format!("none of its formats is read here (it has {}; read are YUYV NV12 MJPG RGB3 BGR3 GREY)", theirs.join(" "));
    Err(camera(device, reason + hint(driver)))
}

/// Smaller is better; `None`: not read.
fn rank(code: FourCC, options: CameraOptions) -> Option<u8> {
    let large = options.width.saturating_mul(options.height) > UNCOMPRESSED_PIXELS;
    Some(match PixelFormat::from_fourcc(code.repr)? {
        PixelFormat::Jpeg if large => 0,
        PixelFormat::Yuyv => 1,
        PixelFormat::Nv12 => 2,
        PixelFormat::Rgb | PixelFormat::Bgr => 3,
        PixelFormat::Jpeg => 4,
        PixelFormat::Grey => 5,
    })
}

fn layout(format: &Format) -> Option<Layout> {
    // V4L2's rule where the driver leaves it open: Y'CbCr is of limited range unless the colour space is JPEG's.
    let full = match format.quantization {
        Quantization::FullRange => true,
        Quantization::LimitedRange => false,
        Quantization::Default => matches!(format.colorspace, Colorspace::JPEG),
    };
    Some(Layout {
        format: PixelFormat::from_fourcc(format.fourcc.repr)?,
        width: format.width,
        height: format.height,
        stride: format.stride,
        range: if full { YuvRange::Full } else { YuvRange::Limited },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(device: &str) -> String {
        Camera::open(device, CameraOptions::default()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn an_absent_camera_is_an_error_with_a_cure() {
        let said = refusal("/dev/video-of-nowhere");
        assert!(said.starts_with("/dev/video-of-nowhere: no such camera; there is "), "{said}");
    }

    #[test]
    fn a_device_that_is_no_camera_is_an_error() {
        let said = refusal("/dev/null");
        assert!(said.starts_with("/dev/null: not a video device"), "{said}");
    }

    #[test]
    fn a_source_can_move_to_a_capture_thread() {
        fn is_send<T: Send + 'static>() {}
        is_send::<Camera>();
    }

    #[test]
    fn what_the_driver_answers_decides() {
        let mut format = Format::new(1280, 720, FourCC::new(b"NV12"));
        format.stride = 1344;
        assert_eq!(
            layout(&format),
            Some(Layout { format: PixelFormat::Nv12, width: 1280, height: 720, stride: 1344, range: YuvRange::Limited })
        );
        format.colorspace = Colorspace::JPEG;
        assert_eq!(layout(&format).map(|layout| layout.range), Some(YuvRange::Full));
        assert_eq!(layout(&Format::new(640, 480, FourCC::new(b"BA81"))), None);
    }

    #[test]
    fn large_frames_come_as_jpeg() {
        let best = |options: CameraOptions| {
            let mut codes = [b"GREY", b"MJPG", b"BA81", b"YUYV"].map(FourCC::new).to_vec();
            codes.retain(|code| rank(*code, options).is_some());
            codes.into_iter().min_by_key(|code| rank(*code, options)).unwrap().repr
        };
        assert_eq!(&best(CameraOptions::default()), b"YUYV");
        assert_eq!(&best(CameraOptions { width: 1920, height: 1080, fps: None }), b"MJPG");
    }
}
