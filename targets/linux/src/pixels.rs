//! What cameras deliver, to RGB.

use ocelli_pipeline::picture;
use ocelli_preprocess::{Source, YuvRange};

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
    /// Converts one buffer into `rgb`, which is resized to fit; returns width and height, which for JPEG are those of the JPEG.
    pub fn to_rgb(&self, bytes: &[u8], rgb: &mut Vec<u8>) -> Result<(u32, u32), String> {
        match self.format {
            PixelFormat::Jpeg => return picture::decode_camera_jpeg(bytes, rgb),
            PixelFormat::Yuyv | PixelFormat::Nv12 => {
                let open = if self.format == PixelFormat::Yuyv { Source::yuyv } else { Source::nv12 };
                let source = open(self.width, self.height, self.stride, self.range, bytes);
                source.map_err(|error| format!("the driver gave too little: {error}"))?.to_rgb(rgb);
                return Ok((self.width, self.height));
            }
            PixelFormat::Rgb | PixelFormat::Bgr | PixelFormat::Grey => {}
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let row_bytes = width * if self.format == PixelFormat::Grey { 1 } else { 3 };
        let stride = (self.stride as usize).max(row_bytes);
        // The last row may come without its padding.
        let needed = (height.max(1) - 1) * stride + row_bytes;
        if bytes.len() < needed {
            return Err(format!("the driver gave {} of {needed} bytes of the frame", bytes.len()));
        }
        rgb.resize(3 * width * height, 0);
        for (y, out) in rgb.chunks_exact_mut(3 * width.max(1)).enumerate() {
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
        Ok((self.width, self.height))
    }
}

#[cfg(test)]
mod tests;
