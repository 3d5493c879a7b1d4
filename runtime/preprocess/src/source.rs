//! Where the pixels lie: RGB, or as a camera sends them.

use std::ops::Range;

use ocelli_flow::Frame;

use crate::passes::{CHANNELS, Isa};

#[cfg(target_arch = "x86_64")]
mod avx2;

/// How far luma and chroma reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum YuvRange {
    /// Luma 16 to 235, chroma 16 to 240: what cameras send unless they say otherwise.
    #[default]
    Limited,
    /// 0 to 255, as in JPEG.
    Full,
}

/// A picture that is read row by row, and turned into RGB on the way, so that no RGB copy of it is made.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    width: u32,
    height: u32,
    bytes: &'a [u8],
    stride: usize,
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Rgb,
    Yuyv(Converter),
    Nv12(Converter),
}

/// A buffer that is not a picture of the size it is said to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{width} x {height} pixels of {format} take {needed} bytes, but there are {bytes}")]
pub struct SourceTooShort {
    /// `YUYV`, `NV12`.
    pub format: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What there should be, at least; `usize::MAX` where a side is zero or the size does not fit.
    pub needed: usize,
    /// What there is.
    pub bytes: usize,
}

impl<'a> Source<'a> {
    /// A frame's RGB pixels.
    pub fn rgb(frame: &'a Frame) -> Self {
        let stride = frame.width() as usize * CHANNELS;
        Self { width: frame.width(), height: frame.height(), bytes: frame.rgb(), stride, format: Format::Rgb }
    }

    /// An RGB picture of height and width without padding.
    pub(crate) fn bytes([height, width]: [u32; 2], bytes: &'a [u8]) -> Self {
        Self { width, height, bytes, stride: width as usize * CHANNELS, format: Format::Rgb }
    }

    /// `YUYV`: two pixels in four bytes, Y U Y V. `stride`: bytes from one row to the next; 0: rows without padding. The last row may
    /// come without its padding.
    pub fn yuyv(width: u32, height: u32, stride: u32, range: YuvRange, bytes: &'a [u8]) -> Result<Self, SourceTooShort> {
        let format = Format::Yuyv(Converter::new(range));
        Self::new("YUYV", [width, height, stride], (width as usize).div_ceil(2) * 4, height as usize, format, bytes)
    }

    /// `NV12`: a plane of Y, then one of U and V for every 2 x 2 pixels, both with rows of `stride` bytes (0: without padding).
    pub fn nv12(width: u32, height: u32, stride: u32, range: YuvRange, bytes: &'a [u8]) -> Result<Self, SourceTooShort> {
        let rows = height as usize + (height as usize).div_ceil(2);
        Self::new("NV12", [width, height, stride], width as usize, rows, Format::Nv12(Converter::new(range)), bytes)
    }

    fn new(
        name: &'static str,
        [width, height, stride]: [u32; 3],
        row_bytes: usize,
        rows: usize,
        format: Format,
        bytes: &'a [u8],
    ) -> Result<Self, SourceTooShort> {
        let stride = (stride as usize).max(row_bytes);
        let needed = rows.saturating_sub(1).checked_mul(stride).and_then(|bytes| bytes.checked_add(row_bytes));
        let needed = needed.filter(|_| width > 0 && height > 0).unwrap_or(usize::MAX);
        if bytes.len() < needed {
            return Err(SourceTooShort { format: name, width, height, needed, bytes: bytes.len() });
        }
        Ok(Self { width, height, bytes, stride, format })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The whole picture as RGB, `[height][width][3]`.
    pub fn to_rgb(&self, rgb: &mut Vec<u8>) {
        let (width, isa) = (self.width as usize, Isa::detect());
        rgb.resize(width * self.height as usize * CHANNELS, 0);
        for (y, out) in rgb.chunks_exact_mut(width * CHANNELS).enumerate() {
            self.convert(isa, y, 0..width, out.as_chunks_mut::<CHANNELS>().0);
        }
    }

    /// The pixels `columns` of row `y` as RGB, `[pixel][3]`, followed by anything up to a length of `least` bytes. `buffer` is used where
    /// they cannot be borrowed.
    pub(crate) fn row<'b>(&self, isa: Isa, y: usize, columns: Range<usize>, least: usize, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let values = columns.len() * CHANNELS;
        let row = &self.bytes[y * self.stride..];
        if let Format::Rgb = self.format
            && let Some(row) = row.get(columns.start * CHANNELS..columns.start * CHANNELS + values.max(least))
        {
            return row;
        }
        buffer.resize(values.max(least), 0);
        self.convert(isa, y, columns, buffer[..values].as_chunks_mut::<CHANNELS>().0);
        buffer
    }

    /// The pixels `columns` of row `y` as RGB into `out`, which has as many.
    fn convert(&self, isa: Isa, y: usize, columns: Range<usize>, out: &mut [[u8; CHANNELS]]) {
        let row = &self.bytes[y * self.stride..];
        match &self.format {
            Format::Rgb => out.as_flattened_mut().copy_from_slice(&row[columns.start * CHANNELS..columns.end * CHANNELS]),
            Format::Yuyv(convert) => {
                // From an even column on.
                let odd = columns.start % 2;
                let (quads, _) = row[columns.start / 2 * 4..].as_chunks::<4>();
                let (head, out) = out.split_at_mut(odd);
                if let (Some(pixel), &[_, u, y1, v]) = (head.first_mut(), &quads[0]) {
                    *pixel = convert.rgb(y1, u, v);
                }
                let quads = &quads[odd..];
                let done = match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2(token) => avx2::yuyv(token, convert, quads.as_flattened(), out),
                    Isa::Portable => 0,
                };
                for (pair, &[y0, u, y1, v]) in out[done..].chunks_mut(2).zip(&quads[done / 2..]) {
                    for (pixel, luma) in pair.iter_mut().zip([y0, y1]) {
                        *pixel = convert.rgb(luma, u, v);
                    }
                }
            }
            Format::Nv12(convert) => {
                let chroma = &self.bytes[(self.height as usize + y / 2) * self.stride..];
                // Groups begin at even columns.
                let odd = columns.start % 2;
                let done = match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2(token) => {
                        let even = columns.start + odd;
                        avx2::nv12(token, convert, &row[even..columns.end], &chroma[even.min(chroma.len())..], &mut out[odd..])
                    }
                    Isa::Portable => 0,
                };
                let (head, tail) = out.split_at_mut(odd);
                let places = (columns.start..columns.start + odd).chain(columns.start + odd + done..columns.end);
                for (pixel, x) in head.iter_mut().chain(&mut tail[done..]).zip(places) {
                    // An odd width may have no V for the last column: grey then.
                    let at = x & !1;
                    let v = chroma.get(at + 1).copied().unwrap_or(128);
                    *pixel = convert.rgb(row[x], chroma[at], v);
                }
            }
        }
    }
}

/// ITU-R BT.601 in 16.16 fixed point:
/// `R = y (Y - black) + rv (V - 128)`, `G = y (Y - black) - gu (U - 128) - gv (V - 128)`, `B = y (Y - black) + bu (U - 128)`.
#[derive(Debug, Clone, Copy)]
struct Converter {
    black: i32,
    y: i32,
    rv: i32,
    gu: i32,
    gv: i32,
    bu: i32,
}

impl Converter {
    fn new(range: YuvRange) -> Self {
        match range {
            // 255/219 for luma; for chroma 255/224 times 1.402, 0.344136, 0.714136, 1.772.
            YuvRange::Limited => Self { black: 16, y: 76_309, rv: 104_597, gu: 25_675, gv: 53_279, bu: 132_201 },
            YuvRange::Full => Self { black: 0, y: 65_536, rv: 91_881, gu: 22_553, gv: 46_802, bu: 116_130 },
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
