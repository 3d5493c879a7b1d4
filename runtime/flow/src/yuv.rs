//! A camera's pixels: luma and chroma, turned into RGB row by row as they are read.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
mod avx2;

const CHANNELS: usize = 3;

/// How far luma and chroma reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum YuvRange {
    /// Luma 16 to 235, chroma 16 to 240: what cameras send unless they say otherwise.
    #[default]
    Limited,
    /// 0 to 255, as in JPEG.
    Full,
}

/// How luma and chroma are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YuvFormat {
    /// `YUYV`: two pixels in four bytes, Y U Y V.
    Yuyv,
    /// `NV12`: a plane of Y, then one of U and V for every 2 x 2 pixels, both with rows of the same stride.
    Nv12,
}

/// How a camera's picture lies in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YuvLayout {
    /// How luma and chroma are stored.
    pub format: YuvFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes from one row to the next, at least a row's; 0: rows without padding. The last row may come without its padding.
    pub stride: u32,
    /// How far luma and chroma reach.
    pub range: YuvRange,
}

/// A buffer that is not a picture of the size it is said to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{width} x {height} pixels of {format} take {needed} bytes, but there are {bytes}")]
pub struct YuvTooShort {
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

impl YuvLayout {
    /// The picture that lies so in `bytes`. What follows it there is no part of it.
    ///
    /// # Errors
    /// A picture without pixels, or one that `bytes` does not hold all of.
    pub fn view(self, bytes: &[u8]) -> Result<Yuv<'_>, YuvTooShort> {
        let rows = self.rows();
        let needed = rows.saturating_sub(1).checked_mul(self.stride()).and_then(|bytes| bytes.checked_add(self.row_bytes()));
        let needed = needed.filter(|_| self.width > 0 && self.height > 0).unwrap_or(usize::MAX);
        if bytes.len() < needed {
            let format = match self.format {
                YuvFormat::Yuyv => "YUYV",
                YuvFormat::Nv12 => "NV12",
            };
            return Err(YuvTooShort { format, width: self.width, height: self.height, needed, bytes: bytes.len() });
        }
        Ok(Yuv::of(self, &bytes[..bytes.len().min(rows.saturating_mul(self.stride()))]))
    }

    fn row_bytes(&self) -> usize {
        match self.format {
            YuvFormat::Yuyv => (self.width as usize).div_ceil(2) * 4,
            YuvFormat::Nv12 => self.width as usize,
        }
    }

    /// Rows of both planes.
    fn rows(&self) -> usize {
        let height = self.height as usize;
        match self.format {
            YuvFormat::Yuyv => height,
            YuvFormat::Nv12 => height + height.div_ceil(2),
        }
    }

    fn stride(&self) -> usize {
        (self.stride as usize).max(self.row_bytes())
    }
}

/// A camera's picture where it lies. No copy of it is made.
#[derive(Debug, Clone, Copy)]
pub struct Yuv<'a> {
    layout: YuvLayout,
    stride: usize,
    bytes: &'a [u8],
    convert: Converter,
}

impl<'a> Yuv<'a> {
    /// A picture in bytes that [`YuvLayout::view`] gave out before.
    pub(crate) fn of(layout: YuvLayout, bytes: &'a [u8]) -> Self {
        Self { layout, stride: layout.stride(), bytes, convert: Converter::new(layout.range) }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.layout.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.layout.height
    }

    /// The picture as it is, rows' padding included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The whole picture as RGB, `[height][width][3]`, written over what was in `rgb`.
    pub fn to_rgb(&self, rgb: &mut Vec<u8>) {
        let width = self.layout.width as usize;
        rgb.resize(width * self.layout.height as usize * CHANNELS, 0);
        for (y, out) in rgb.chunks_exact_mut(width * CHANNELS).enumerate() {
            self.row(y, 0..width, out.as_chunks_mut::<CHANNELS>().0);
        }
    }

    /// The pixels `columns` of row `y` as RGB into `out`.
    ///
    /// # Panics
    /// Where they are not all in the picture, or `out` has not as many.
    pub fn row(&self, y: usize, columns: Range<usize>, out: &mut [[u8; CHANNELS]]) {
        let YuvLayout { width, height, .. } = self.layout;
        assert!(y < height as usize && columns.end <= width as usize, "row {y}, columns {columns:?} of {width} x {height} pixels");
        assert!(out.len() == columns.len(), "{} pixels for columns {columns:?}", out.len());
        if out.is_empty() {
            return;
        }
        let row = &self.bytes[y * self.stride..];
        match self.layout.format {
            YuvFormat::Yuyv => self.convert.quads(&row[columns.start / 2 * 4..], columns.start % 2, out),
            YuvFormat::Nv12 => {
                let chroma = &self.bytes[(self.layout.height as usize + y / 2) * self.stride..];
                self.convert.planes(row, &chroma[..chroma.len().min(self.stride)], columns, out);
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
    /// AVX2, where this processor has it.
    #[cfg(target_arch = "x86_64")]
    token: Option<pulp::x86::V3>,
}

impl Converter {
    fn new(range: YuvRange) -> Self {
        let [black, y, rv, gu, gv, bu] = match range {
            // 255/219 for luma; for chroma 255/224 times 1.402, 0.344136, 0.714136, 1.772.
            YuvRange::Limited => [16, 76_309, 104_597, 25_675, 53_279, 132_201],
            YuvRange::Full => [0, 65_536, 91_881, 22_553, 46_802, 116_130],
        };
        Self {
            black,
            y,
            rv,
            gu,
            gv,
            bu,
            #[cfg(target_arch = "x86_64")]
            token: pulp::x86::V3::try_new(),
        }
    }

    #[inline(always)]
    fn rgb(&self, luma: u8, u: u8, v: u8) -> [u8; 3] {
        let luma = self.y * (i32::from(luma) - self.black) + (1 << 15);
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let level = |sum: i32| (sum >> 16).clamp(0, 255) as u8;
        [level(luma + self.rv * v), level(luma - self.gu * u - self.gv * v), level(luma + self.bu * u)]
    }

    /// The pixels of a row of `YUYV` from its first (`odd`: 0) or its second (1) on.
    fn quads(&self, row: &[u8], odd: usize, out: &mut [[u8; CHANNELS]]) {
        let (quads, _) = row.as_chunks::<4>();
        let (head, out) = out.split_at_mut(odd.min(out.len()));
        if let (Some(pixel), &[_, u, y1, v]) = (head.first_mut(), &quads[0]) {
            *pixel = self.rgb(y1, u, v);
        }
        let quads = &quads[odd..];
        #[cfg(target_arch = "x86_64")]
        let done = self.token.map_or(0, |token| avx2::yuyv(token, self, quads.as_flattened(), out));
        #[cfg(not(target_arch = "x86_64"))]
        let done = 0;
        for (pair, &[y0, u, y1, v]) in out[done..].chunks_mut(2).zip(&quads[done / 2..]) {
            for (pixel, luma) in pair.iter_mut().zip([y0, y1]) {
                *pixel = self.rgb(luma, u, v);
            }
        }
    }

    /// The pixels `columns` of a row of luma and its row of chroma.
    fn planes(&self, luma: &[u8], chroma: &[u8], columns: Range<usize>, out: &mut [[u8; CHANNELS]]) {
        // Groups begin at even columns.
        let odd = columns.start % 2;
        let (head, tail) = out.split_at_mut(odd.min(out.len()));
        let even = columns.start + head.len();
        #[cfg(target_arch = "x86_64")]
        let done = self.token.map_or(0, |token| avx2::nv12(token, self, &luma[even..columns.end], &chroma[even.min(chroma.len())..], tail));
        #[cfg(not(target_arch = "x86_64"))]
        let done = 0;
        let places = (columns.start..even).chain(even + done..columns.end);
        for (pixel, x) in head.iter_mut().chain(&mut tail[done..]).zip(places) {
            // An odd width may have no V for the last column: grey then.
            let at = x & !1;
            let v = chroma.get(at + 1).copied().unwrap_or(128);
            *pixel = self.rgb(luma[x], chroma[at], v);
        }
    }
}

#[cfg(test)]
mod tests;
