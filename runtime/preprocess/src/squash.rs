//! The whole picture, resized to a square and normalised.

use ocelli_flow::Frame;

use crate::passes::CHANNELS;
use crate::source::Source;
use crate::taps::{Taps, WEIGHT_BITS};

/// Half a grey level: sums are rounded, not cut.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Resizes pictures to `side` x `side` without keeping the aspect ratio, and normalises them.
///
/// Equal to `Image.resize((side, side), BILINEAR)` of Pillow up to version 12: columns first, rounded to 8 bits, then rows; see [`Taps`] for the weights.
/// (Pillow 13 begins with the rows where it expects that to be faster: up to one grey level of difference.)
/// A camera's pixels are read as they are, with the result of their RGB copy. Weights and buffers are kept from picture to picture, so that a stream of frames of one size computes no weights and allocates nothing.
#[derive(Debug, Clone)]
pub struct Squash {
    side: u32,
    source: (u32, u32),
    columns: Taps,
    rows: Taps,
    /// One row of the source, where it cannot be read where it lies.
    row: Vec<u8>,
    /// `[source height][side][3]`, only as far as both passes are needed.
    narrowed: Vec<u8>,
    /// `[side][side][3]`
    rgb: Vec<u8>,
    row_sums: Vec<i32>,
    /// What each grey level of each channel becomes.
    levels: Box<[[f32; 256]; CHANNELS]>,
}

impl Squash {
    /// A resize to `side` x `side` (at least 1), after which a grey level `p` of channel `c` becomes `(p / 255 - mean[c]) / std[c]`.
    pub fn new(side: u32, mean: [f32; 3], std: [f32; 3]) -> Self {
        Self::with_levels(side, |channel, grey| (f32::from(grey) / 255.0 - mean[channel]) / std[channel])
    }

    /// The same, where a grey level of a channel, red being 0, becomes what `level` says.
    pub fn with_levels(side: u32, level: impl Fn(usize, u8) -> f32) -> Self {
        let mut levels = Box::new([[0.0; 256]; CHANNELS]);
        for (channel, levels) in levels.iter_mut().enumerate() {
            for (grey, place) in (0..=u8::MAX).zip(levels) {
                *place = level(channel, grey);
            }
        }
        Self {
            side: side.max(1),
            source: (0, 0),
            columns: Taps::default(),
            rows: Taps::default(),
            row: Vec::new(),
            narrowed: Vec::new(),
            rgb: Vec::new(),
            row_sums: Vec::new(),
            levels,
        }
    }

    /// The model's input, planar: `out` becomes `[3][side][side]`, red first. Its capacity is reused.
    pub fn normalised(&mut self, frame: &Frame, out: &mut Vec<f32>) {
        let plane = self.side as usize * self.side as usize;
        self.resize(frame);
        let rgb = self.untouched(frame).unwrap_or(&self.rgb);
        out.clear();
        out.resize(CHANNELS * plane, 0.0);
        let (red, rest) = out.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let [reds, greens, blues] = &*self.levels;
        for (((pixel, r), g), b) in rgb.as_chunks::<CHANNELS>().0.iter().zip(red).zip(green).zip(blue) {
            *r = reds[usize::from(pixel[0])];
            *g = greens[usize::from(pixel[1])];
            *b = blues[usize::from(pixel[2])];
        }
    }

    /// The resized picture before it is normalised, `[side][side][3]`.
    pub fn pixels<'a>(&'a mut self, frame: &'a Frame) -> &'a [u8] {
        self.resize(frame);
        self.untouched(frame).unwrap_or(&self.rgb)
    }

    /// An RGB picture that has the model's size already is read where it lies.
    fn untouched<'a>(&self, frame: &'a Frame) -> Option<&'a [u8]> {
        let fits = (frame.width(), frame.height()) == (self.side, self.side);
        (fits && frame.as_yuv().is_none()).then(|| frame.rgb())
    }

    /// Fills `self.rgb` unless the frame is read where it lies.
    fn resize(&mut self, frame: &Frame) {
        if self.untouched(frame).is_some() {
            return;
        }
        let (width, height) = (frame.width(), frame.height());
        if self.source != (width, height) {
            self.columns.compute(width, self.side);
            self.rows.compute(height, self.side);
            self.source = (width, height);
        }
        let side = self.side as usize;
        self.rgb.resize(side * side * CHANNELS, 0);
        if height == self.side {
            narrow(&Source::frame(frame), &self.columns, &mut self.rgb, side, &mut self.row);
            return;
        }
        let narrowed = if width == self.side && frame.as_yuv().is_none() {
            frame.rgb()
        } else {
            self.narrowed.resize(height as usize * side * CHANNELS, 0);
            narrow(&Source::frame(frame), &self.columns, &mut self.narrowed, side, &mut self.row);
            &self.narrowed
        };
        shorten(narrowed, &self.rows, &mut self.rgb, side, &mut self.row_sums);
    }
}

/// Resizes every row of `source` to `side` pixels. `buffer` is scratch for one row.
fn narrow(source: &Source<'_>, columns: &Taps, target: &mut [u8], side: usize, buffer: &mut Vec<u8>) {
    let width = source.width() as usize;
    for (y, target) in target.chunks_exact_mut(side * CHANNELS).enumerate() {
        let row = source.row(y, 0..width, 0, buffer);
        if width == side {
            target.copy_from_slice(row);
            continue;
        }
        let (row, _) = row.as_chunks::<CHANNELS>();
        for ((first, weights), target) in columns.iter().zip(target.as_chunks_mut::<CHANNELS>().0) {
            let mut sums = [HALF; CHANNELS];
            for (weight, pixel) in weights.iter().zip(&row[first..first + weights.len()]) {
                for (sum, &grey) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(grey);
                }
            }
            *target = sums.map(grey_level);
        }
    }
}

/// Resizes the columns of `source`, whose rows are `side` pixels wide. `sums` is scratch for one row.
fn shorten(source: &[u8], rows: &Taps, target: &mut [u8], side: usize, sums: &mut Vec<i32>) {
    let stride = side * CHANNELS;
    sums.resize(stride, 0);
    for ((first, weights), target) in rows.iter().zip(target.chunks_exact_mut(stride)) {
        sums.fill(HALF);
        for (weight, row) in weights.iter().zip(source[first * stride..].chunks_exact(stride)) {
            for (sum, &grey) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(grey);
            }
        }
        for (target, &sum) in target.iter_mut().zip(sums.iter()) {
            *target = grey_level(sum);
        }
    }
}

/// Back from fixed point. Weights that round up may sum to slightly over 1, so white could overflow.
fn grey_level(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).min(255) as u8
}
