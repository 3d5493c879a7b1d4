//! Pictures with boxes, labels and the caption drawn.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use ocelli_flow::{BoundingBox, Detection, Frame, FrameMeta, FrameResult, Sink, SinkError, SourceError};

use crate::canvas::{Area, Canvas, Colour, text_width, wrap};

/// JPEG quality, 1 to 100: high enough that thin lines and letters stay clean.
const QUALITY: u8 = 90;
const BAR: Colour = [24, 24, 27];
const WHITE: Colour = [255; 3];
const BLACK: Colour = [0; 3];

/// One a phrase, in the order of their first appearance; told apart by hue, all bright enough for photographs.
const PALETTE: [Colour; 10] = [
    [255, 99, 71],
    [64, 196, 255],
    [255, 214, 0],
    [124, 222, 92],
    [224, 122, 255],
    [255, 160, 54],
    [64, 224, 190],
    [255, 128, 171],
    [140, 158, 255],
    [212, 225, 87],
];

/// How the pictures are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `cat.jpg` for `photos/cat.png`; `cat-7.jpg` where that is another picture's already (7: the sequence number).
    Origin,
    /// `video0-000007.jpg` for a frame of `/dev/video0`.
    Sequence,
}

/// Writes each frame as a JPEG file with what was found in it.
pub struct Annotate {
    folder: PathBuf,
    naming: Naming,
    /// Which origin has which name; as many as there are pictures in the source.
    names: HashMap<String, Arc<str>>,
    /// Phrases in the order of their first appearance.
    phrases: Vec<Arc<str>>,
    encoded: Vec<u8>,
}

impl Annotate {
    /// Into `folder`, which is created if it is missing.
    pub fn new(folder: &Path, naming: Naming) -> Result<Self, SinkError> {
        fs::create_dir_all(folder).map_err(|source| SinkError::Io { place: folder.display().to_string(), source })?;
        Ok(Self { folder: folder.to_owned(), naming, names: HashMap::new(), phrases: Vec::new(), encoded: Vec::new() })
    }

    /// Where the frame goes.
    fn place(&mut self, meta: &FrameMeta) -> Result<PathBuf, SinkError> {
        let origin = Path::new(&*meta.origin);
        let stem = origin.file_stem().map_or("frame".into(), |stem| stem.to_string_lossy());
        if self.naming == Naming::Sequence {
            return Ok(self.folder.join(format!("{stem}-{:06}.jpg", meta.sequence)));
        }
        let parent = origin.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let (Ok(from), Ok(to)) = (parent.canonicalize(), self.folder.canonicalize())
            && from == to
        {
            let reason = "annotated pictures would replace the originals in the same folder; name another folder".to_owned();
            return Err(SinkError::Encode { place: self.folder.display().to_string(), reason });
        }
        let mut name = format!("{stem}.jpg");
        if self.names.get(&name).is_some_and(|owner| *owner != meta.origin) {
            // The same name again when a loop comes round.
            let known = self.names.iter().find(|(_, owner)| **owner == meta.origin).map(|(name, _)| name.clone());
            name = known.unwrap_or_else(|| format!("{stem}-{}.jpg", meta.sequence));
        }
        self.names.entry(name.clone()).or_insert_with(|| Arc::clone(&meta.origin));
        Ok(self.folder.join(name))
    }

    fn colour(&mut self, phrase: &Arc<str>) -> Colour {
        let index = self.phrases.iter().position(|known| known == phrase).unwrap_or_else(|| {
            self.phrases.push(Arc::clone(phrase));
            self.phrases.len() - 1
        });
        PALETTE[index % PALETTE.len()]
    }

    /// The frame with what was found in it; the caption, if there is one, in a bar below.
    pub fn draw(&mut self, frame: &Frame, result: &FrameResult) -> Canvas {
        let style = Style::of(frame.width(), frame.height());
        let (width, margin) = (frame.width(), style.text);
        let lines = match &result.caption {
            Some(caption) => wrap(&caption.text, style.text, width.saturating_sub(2 * margin)),
            None => Vec::new(),
        };
        let line_height = style.text * 5 / 4;
        let bar = if lines.is_empty() { 0 } else { line_height * lines.len() as u32 + margin };
        let mut canvas = Canvas::with_bar(width, frame.rgb(), bar, BAR);
        let coloured: Vec<_> = result.detections.iter().flatten().map(|found| (found, self.colour(&found.phrase))).collect();
        draw_detections(&mut canvas, frame, &style, coloured);
        for (y, line) in (frame.height() + margin / 2..).step_by(line_height as usize).zip(&lines) {
            canvas.text(margin as i32, y as i32, style.text, line, WHITE);
        }
        canvas
    }
}

impl Sink for Annotate {
    fn result(&mut self, frame: &Frame, result: &FrameResult) -> Result<(), SinkError> {
        let path = self.place(&result.meta)?;
        let canvas = self.draw(frame, result);
        self.encoded.clear();
        JpegEncoder::new_with_quality(&mut self.encoded, QUALITY)
            .encode(canvas.rgb(), canvas.width(), canvas.height(), ExtendedColorType::Rgb8)
            .map_err(|error| SinkError::Encode { place: path.display().to_string(), reason: error.to_string() })?;
        fs::write(&path, &self.encoded).map_err(|source| SinkError::Io { place: path.display().to_string(), source })
    }

    fn bad(&mut self, _origin: &str, _error: &SourceError) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Sizes in pixels that suit a picture.
struct Style {
    text: u32,
    line: i32,
}

impl Style {
    /// Text grows with the root of the shorter side: 14 pixels at 224, 20 at 480, 30 at 1080, 42 at 2160. Lines are an eighth of it.
    fn of(width: u32, height: u32) -> Self {
        let text = (0.9 * f64::from(width.min(height)).sqrt()).round().max(12.0);
        Self { text: text as u32, line: (text / 8.0).round().max(2.0) as i32 }
    }
}

/// Boxes first, the best on top; then labels, the best with the first choice of place.
fn draw_detections(canvas: &mut Canvas, frame: &Frame, style: &Style, mut found: Vec<(&Detection, Colour)>) {
    let picture = Area { x: 0, y: 0, width: frame.width() as i32, height: frame.height() as i32 };
    found.sort_by(|a, b| a.0.score.total_cmp(&b.0.score));
    for (detection, colour) in &found {
        let area = pixels(&detection.bbox);
        // A dark rim on both sides keeps the line visible on a background of its own colour.
        canvas.outline(area.grown(1), style.line + 2, BLACK);
        canvas.outline(area, style.line, *colour);
    }
    let mut taken: Vec<Area> = Vec::new();
    for (detection, colour) in found.iter().rev() {
        let (pad, size) = (style.text as i32 / 4, style.text);
        let text = label(detection, size, picture.width - 2 * pad);
        let (width, height) = (text_width(&text, size) + 2 * pad, size as i32 + pad / 2);
        let area = pixels(&detection.bbox);
        let x = area.x.min(picture.width - width).max(0);
        let bottom = area.y + area.height;
        let places = [area.y - height, area.y, bottom, bottom - height, area.y + height].map(|y| Area { x, y, width, height });
        let free = |place: &&Area| picture.holds(**place) && !taken.iter().any(|other| other.overlaps(**place));
        let fallback = Area { y: area.y.clamp(0, (picture.height - height).max(0)), ..places[1] };
        let place = places.iter().find(free).copied().unwrap_or(fallback);
        canvas.fill(place, *colour);
        canvas.text(place.x + pad, place.y + pad / 4, size, &text, ink(*colour));
        taken.push(place);
    }
}

/// Phrase and score, the phrase cut to what fits into `width` pixels.
fn label(detection: &Detection, size: u32, width: i32) -> String {
    let score = format!(" {:.2}", detection.score);
    let letters = (width / text_width(" ", size).max(1)) as usize;
    let room = letters.saturating_sub(score.len()).max(1);
    let phrase = &*detection.phrase;
    if phrase.chars().count() <= room {
        return format!("{phrase}{score}");
    }
    let cut: String = phrase.chars().take(room.saturating_sub(2)).collect();
    format!("{cut}..{score}")
}

/// Black or white, whichever stands out (luma of ITU-R BT.601).
fn ink([r, g, b]: Colour) -> Colour {
    let luma = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
    if luma > 128_000 { BLACK } else { WHITE }
}

/// The pixels that a box touches.
fn pixels(bbox: &BoundingBox) -> Area {
    let (x, y) = (bbox.x0.floor() as i32, bbox.y0.floor() as i32);
    Area { x, y, width: (bbox.x1.ceil() as i32 - x).max(1), height: (bbox.y1.ceil() as i32 - y).max(1) }
}

#[cfg(test)]
mod tests;
