//! Where the pixels lie: RGB, or as a camera sends them.

use std::ops::Range;

use ocelli_flow::{Frame, Yuv};

use crate::passes::CHANNELS;

/// A picture that is read row by row, and turned into RGB on the way, so that no RGB copy of it is made.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    width: u32,
    height: u32,
    pixels: Pixels<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Pixels<'a> {
    /// Without padding.
    Rgb(&'a [u8]),
    Yuv(Yuv<'a>),
}

impl<'a> Source<'a> {
    /// A frame's pixels, as they came.
    pub fn frame(frame: &'a Frame) -> Self {
        frame.as_yuv().map_or_else(|| Self::bytes([frame.height(), frame.width()], frame.rgb()), Self::yuv)
    }

    /// A camera's pixels in a buffer.
    pub fn yuv(yuv: Yuv<'a>) -> Self {
        Self { width: yuv.width(), height: yuv.height(), pixels: Pixels::Yuv(yuv) }
    }

    /// An RGB picture of height and width without padding.
    pub(crate) fn bytes([height, width]: [u32; 2], bytes: &'a [u8]) -> Self {
        Self { width, height, pixels: Pixels::Rgb(bytes) }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels `columns` of row `y` as RGB, `[pixel][3]`, followed by anything up to a length of `least` bytes. `buffer` is used where
    /// they cannot be borrowed.
    pub(crate) fn row<'b>(&self, y: usize, columns: Range<usize>, least: usize, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let values = columns.len() * CHANNELS;
        let all = values.max(least);
        match &self.pixels {
            Pixels::Rgb(bytes) => {
                let row = &bytes[(y * self.width as usize + columns.start) * CHANNELS..];
                if let Some(row) = row.get(..all) {
                    return row;
                }
                buffer.resize(all, 0);
                buffer[..values].copy_from_slice(&row[..values]);
            }
            Pixels::Yuv(yuv) => {
                buffer.resize(all, 0);
                yuv.row(y, columns, buffer[..values].as_chunks_mut().0);
            }
        }
        buffer
    }
}
