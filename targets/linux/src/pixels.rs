//! What cameras deliver: luma and chroma, which stay as they are, and all else, which becomes RGB.

use std::sync::Arc;

use ocelli_flow::{Frame, FrameMeta, YuvFormat, YuvLayout, YuvRange};
use ocelli_pipeline::picture;

/// The pixel formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// `YUYV`: two pixels in four bytes, Y U Y V.
    Yuyv,
    /// `NV12`: a plane of Y, then one of U and V for every 2 x 2 pixels.
    Nv12,
    /// `MJPG` or `JPEG`: one JPEG a frame.
    Jpeg,
    /// `RGB3`.
    Rgb,
    /// `BGR3`.
    Bgr,
    /// `GREY`: luma alone, 8 bits.
    Grey,
}

impl PixelFormat {
    /// The format that V4L2 calls `code`, if it is read.
    pub fn from_fourcc(code: [u8; 4]) -> Option<Self> {
        Some(match &code {
            b"YUYV" => Self::Yuyv,
            b"NV12" => Self::Nv12,
            b"MJPG" | b"JPEG" => Self::Jpeg,
            b"RGB3" => Self::Rgb,
            b"BGR3" => Self::Bgr,
            b"GREY" => Self::Grey,
            _ => return None,
        })
    }
}

/// What a buffer holds, as the driver said when the format was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How pixels are stored.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes from one row to the next, at least a row's; 0: rows without padding.
    pub stride: u32,
    /// How far luma and chroma reach.
    pub range: YuvRange,
}

impl Layout {
    /// Copies the driver's buffer into `pixels`, which is resized to fit: YUYV and NV12 as they are, all else as RGB. Returns width and
    /// height, which for JPEG are those of the JPEG.
    pub fn read(&self, bytes: &[u8], pixels: &mut Vec<u8>) -> Result<[u32; 2], String> {
        if let Some(yuv) = self.yuv() {
            let picture = yuv.view(bytes).map_err(|error| format!("the driver gave too little: {error}"))?;
            pixels.clear();
            pixels.extend_from_slice(picture.bytes());
            return Ok([self.width, self.height]);
        }
        if self.format == PixelFormat::Jpeg {
            return picture::decode_camera_jpeg(bytes, pixels).map(|(width, height)| [width, height]);
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let row_bytes = width * if self.format == PixelFormat::Grey { 1 } else { 3 };
        let stride = (self.stride as usize).max(row_bytes);
        // The last row may come without its padding.
        let needed = (height.max(1) - 1) * stride + row_bytes;
        if bytes.len() < needed {
            return Err(format!("the driver gave {} of {needed} bytes of the frame", bytes.len()));
        }
        pixels.resize(3 * width * height, 0);
        for (y, out) in pixels.chunks_exact_mut(3 * width.max(1)).enumerate() {
            let row = &bytes[y * stride..y * stride + row_bytes];
            let (out, _) = out.as_chunks_mut::<3>();
            match self.format {
                PixelFormat::Rgb => out.as_flattened_mut().copy_from_slice(row),
                PixelFormat::Bgr => {
                    for (pixel, &[b, g, r]) in out.iter_mut().zip(row.as_chunks::<3>().0) {
                        *pixel = [r, g, b];
                    }
                }
                PixelFormat::Grey => out.iter_mut().zip(row).for_each(|(pixel, &grey)| *pixel = [grey; 3]),
                // Dealt with above.
                PixelFormat::Jpeg | PixelFormat::Yuyv | PixelFormat::Nv12 => {}
            }
        }
        Ok([self.width, self.height])
    }

    /// The frame whose pixels, of this width and height, [`read`](Self::read) wrote.
    pub fn frame(&self, [width, height]: [u32; 2], pixels: Arc<Vec<u8>>, meta: FrameMeta) -> Result<Frame, String> {
        match self.yuv() {
            Some(yuv) => Frame::yuv(yuv, pixels, meta).map_err(|error| error.to_string()),
            None => Frame::new(width, height, pixels, meta).ok_or_else(|| "the frame has no pixels".to_owned()),
        }
    }

    /// The layout of luma and chroma, if that is what comes.
    fn yuv(&self) -> Option<YuvLayout> {
        let format = match self.format {
            PixelFormat::Yuyv => YuvFormat::Yuyv,
            PixelFormat::Nv12 => YuvFormat::Nv12,
            PixelFormat::Jpeg | PixelFormat::Rgb | PixelFormat::Bgr | PixelFormat::Grey => return None,
        };
        let Self { width, height, stride, range, .. } = *self;
        Some(YuvLayout { format, width, height, stride, range })
    }
}

#[cfg(test)]
mod tests;
