//! Drawing on RGB pixels: rectangles and text, nothing else.

use crate::font;

/// Red, green, blue.
pub type Colour = [u8; 3];

/// A rectangle of whole pixels; may reach beyond the canvas, where nothing is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: i32,
    /// Top edge.
    pub y: i32,
    /// Pixels across.
    pub width: i32,
    /// Pixels down.
    pub height: i32,
}

impl Area {
    /// Grown by `by` pixels on every side.
    pub fn grown(self, by: i32) -> Self {
        Self { x: self.x - by, y: self.y - by, width: self.width + 2 * by, height: self.height + 2 * by }
    }

    /// Whether the two share a pixel.
    pub fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.width && other.x < self.x + self.width && self.y < other.y + other.height && other.y < self.y + self.height
    }

    /// Whether all of `other` lies within.
    pub fn holds(self, other: Self) -> bool {
        other.x >= self.x
            && other.y >= self.y
            && other.x + other.width <= self.x + self.width
            && other.y + other.height <= self.y + self.height
    }
}

/// Pixels to draw on, `[height][width][3]`.
#[derive(Debug, Clone)]
pub struct Canvas {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    cover: Vec<u8>,
}

impl Canvas {
    /// A canvas with `rgb` at its top and `below` more rows of `colour`.
    pub fn with_bar(width: u32, rgb: &[u8], below: u32, colour: Colour) -> Self {
        let bar = below as usize * width as usize;
        let mut pixels = Vec::with_capacity(rgb.len() + 3 * bar);
        pixels.extend_from_slice(rgb);
        pixels.extend(std::iter::repeat_n(colour, bar).flatten());
        let height = (pixels.len() / 3 / width.max(1) as usize) as u32;
        Self { width, height, rgb: pixels, cover: Vec::new() }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, row by row.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, area: Area, colour: Colour) {
        let columns = clip(area.x, area.width, self.width);
        for y in clip(area.y, area.height, self.height) {
            let row = y * self.width as usize;
            for pixel in self.rgb[3 * (row + columns.start)..3 * (row + columns.end)].as_chunks_mut().0 {
                *pixel = colour;
            }
        }
    }

    /// Draws a frame of `line` pixels just inside the rectangle.
    pub fn outline(&mut self, area: Area, line: i32, colour: Colour) {
        let Area { x, y, width, height } = area;
        let line = line.min(width.min(height).max(1));
        for side in [
            Area { height: line, ..area },
            Area { y: y + height - line, height: line, ..area },
            Area { x, y, width: line, height },
            Area { x: x + width - line, y, width: line, height },
        ] {
            self.fill(side, colour);
        }
    }

    /// Writes one line of text, `size` pixels high, with its top left corner at `x`, `y`.
    pub fn text(&mut self, x: i32, y: i32, size: u32, text: &str, colour: Colour) {
        let mut cover = std::mem::take(&mut self.cover);
        let advance = font::advance(size) as i32;
        for (left, character) in (0..).map(|i| x + i * advance).zip(text.chars()) {
            if left >= self.width as i32 {
                break;
            }
            font::rasterise(character, size, &mut cover);
            for (row, covers) in (y..).zip(cover.chunks_exact(advance.max(1) as usize)) {
                for (column, &cover) in (left..).zip(covers) {
                    self.blend(column, row, colour, cover);
                }
            }
        }
        self.cover = cover;
    }

    fn blend(&mut self, x: i32, y: i32, colour: Colour, cover: u8) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if cover == 0 || x >= self.width || y >= self.height {
            return;
        }
        let at = 3 * (y as usize * self.width as usize + x as usize);
        let cover = u32::from(cover);
        for (under, over) in self.rgb[at..at + 3].iter_mut().zip(colour) {
            *under = ((u32::from(*under) * (255 - cover) + u32::from(over) * cover + 127) / 255) as u8;
        }
    }
}

/// Width in pixels of `text`, `size` pixels high.
pub fn text_width(text: &str, size: u32) -> i32 {
    (text.chars().count() as u32).saturating_mul(font::advance(size)).min(i32::MAX as u32) as i32
}

/// Breaks `text` between words into lines of at most `width` pixels; words that are longer are broken where they must be.
pub fn wrap(text: &str, size: u32, width: u32) -> Vec<String> {
    let columns = (width / font::advance(size).max(1)).max(1) as usize;
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + rest.len() <= columns {
            used += 1;
            push(&mut lines, ' ');
        } else if used > 0 {
            used = 0;
            lines.push(String::new());
        }
        while rest.len() > columns - used {
            let tail = rest.split_off(columns);
            rest.drain(..).for_each(|c| push(&mut lines, c));
            lines.push(String::new());
            rest = tail;
        }
        used += rest.len();
        rest.into_iter().for_each(|c| push(&mut lines, c));
    }
    lines
}

fn push(lines: &mut [String], character: char) {
    if let Some(line) = lines.last_mut() {
        line.push(character);
    }
}

/// The part of `from..from + length` that lies within `0..end`.
fn clip(from: i32, length: i32, end: u32) -> std::ops::Range<usize> {
    let bound = |value: i64| value.clamp(0, i64::from(end)) as usize;
    let (start, stop) = (bound(i64::from(from)), bound(i64::from(from) + i64::from(length)));
    start..stop.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_outline_touches_its_rim_only() {
        let mut canvas = Canvas::with_bar(6, &[0; 6 * 5 * 3], 0, [0; 3]);
        canvas.outline(Area { x: 1, y: 1, width: 4, height: 3 }, 1, [9, 9, 9]);
        let lit: Vec<_> = canvas.rgb().chunks_exact(3).map(|p| u8::from(p[0] == 9)).collect();
        #[rustfmt::skip]
        assert_eq!(lit, [
            0, 0, 0, 0, 0, 0,
            0, 1, 1, 1, 1, 0,
            0, 1, 0, 0, 1, 0,
            0, 1, 1, 1, 1, 0,
            0, 0, 0, 0, 0, 0,
        ]);
    }

    proptest! {
        #[test]
        fn drawing_anywhere_is_safe(x in -5000i32..5000, y in -5000i32..5000, width in 0i32..9000, height in 0i32..9000, line in 0i32..50) {
            let mut canvas = Canvas::with_bar(17, &[1; 17 * 5 * 3], 4, [2; 3]);
            canvas.fill(Area { x, y, width, height }, [3; 3]);
            canvas.outline(Area { x, y, width, height }, line, [4; 3]);
            canvas.text(x % 40, y % 40, 20, "É?", [5; 3]);
            prop_assert_eq!((canvas.height(), canvas.rgb().len()), (9, 17 * 9 * 3));
        }

        #[test]
        fn wrapped_lines_fit_and_lose_nothing(text in "[a-zé]{0,30}( [a-z]{1,12}){0,12}", width in 1u32..400) {
            let lines = wrap(&text, 20, width);
            let columns = (width / font::advance(20)).max(1) as usize;
            prop_assert!(lines.iter().all(|line| line.chars().count() <= columns));
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
