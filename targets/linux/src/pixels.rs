//! What cameras deliver, to RGB.

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

    /// Bytes of a row of `width` pixels in the first plane; 0 for JPEG.
    fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::Yuyv => width.div_ceil(2) * 4,
            Self::Nv12 | Self::Grey => width,
            Self::Rgb | Self::Bgr => 3 * width,
            Self::Jpeg => 0,
        }
    }
}

/// How far luma and chroma reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Range {
    /// Luma 16 to 235, chroma 16 to 240: what cameras send unless they say otherwise.
    #[default]
    Limited,
    /// 0 to 255, as in JPEG.
    Full,
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
    pub range: Range,
}

impl Layout {
    /// Converts one buffer into `rgb`, which is resized to fit; returns width and height, which for JPEG are those of the JPEG.
    pub fn to_rgb(&self, bytes: &[u8], rgb: &mut Vec<u8>) -> Result<(u32, u32), String> {
        if self.format == PixelFormat::Jpeg {
            return picture::decode_camera_jpeg(bytes, rgb);
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let row_bytes = self.format.row_bytes(width);
        let stride = (self.stride as usize).max(row_bytes);
        let rows = if self.format == PixelFormat::Nv12 { height + height.div_ceil(2) } else { height };
        // The last row may come without its padding.
        let needed = (rows.max(1) - 1) * stride + row_bytes;
        if bytes.len() < needed {
            return Err(format!("the driver gave {} of {needed} bytes of the frame", bytes.len()));
        }
        rgb.resize(3 * width * height, 0);
        let convert = Converter::new(self.range);
        for (y, out) in rgb.chunks_exact_mut(3 * width.max(1)).enumerate() {
            let row = &bytes[y * stride..y * stride + row_bytes];
            let (out, _) = out.as_chunks_mut::<3>();
            match self.format {
                PixelFormat::Yuyv => {
                    for (pair, quad) in out.chunks_mut(2).zip(row.as_chunks::<4>().0) {
                        let [y0, u, y1, v] = *quad;
                        for (pixel, luma) in pair.iter_mut().zip([y0, y1]) {
                            *pixel = convert.rgb(luma, u, v);
                        }
                    }
                }
                PixelFormat::Nv12 => {
                    let chroma = &bytes[(height + y / 2) * stride..];
                    for (x, (pixel, &luma)) in out.iter_mut().zip(row).enumerate() {
                        // An odd width has no V for the last column where rows are not padded: grey then.
                        let at = x & !1;
                        let v = chroma.get(at + 1).copied().unwrap_or(128);
                        *pixel = convert.rgb(luma, chroma[at], v);
                    }
                }
                PixelFormat::Rgb => out.as_flattened_mut().copy_from_slice(row),
                PixelFormat::Bgr => {
                    for (pixel, &[b, g, r]) in out.iter_mut().zip(row.as_chunks::<3>().0) {
                        *pixel = [r, g, b];
                    }
                }
                PixelFormat::Grey => out.iter_mut().zip(row).for_each(|(pixel, &grey)| *pixel = [grey; 3]),
                // Dealt with above.
                PixelFormat::Jpeg => {}
            }
        }
        Ok((self.width, self.height))
    }
}

/// ITU-R BT.601 in 16.16 fixed point:
/// `R = y (Y - black) + rv (V - 128)`, `G = y (Y - black) - gu (U - 128) - gv (V - 128)`, `B = y (Y - black) + bu (U - 128)`.
struct Converter {
    black: i32,
    y: i32,
    rv: i32,
    gu: i32,
    gv: i32,
    bu: i32,
}

impl Converter {
    fn new(range: Range) -> Self {
        match range {
            // 255/219 for luma; for chroma 255/224 times 1.402, 0.344136, 0.714136, 1.772.
            Range::Limited => Self { black: 16, y: 76_309, rv: 104_597, gu: 25_675, gv: 53_279, bu: 132_201 },
            Range::Full => Self { black: 0, y: 65_536, rv: 91_881, gu: 22_553, gv: 46_802, bu: 116_130 },
        }
    }

    #[inline(always)]
    fn rgb(&self, luma: u8, u: u8, v: u8) -> [u8; 3] {
        let luma = self.y * (i32::from(luma) - self.black) + (1 << 15);
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let level = |sum: i32| (sum >> 16).clamp(0, 255) as u8;
        [level(luma + self.rv * v), level(luma - self.gu * u - self.gv * v), level(luma + self.bu * u)]
    }
}

#[cfg(test)]
mod tests;
