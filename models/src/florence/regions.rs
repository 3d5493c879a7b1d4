//! Places in an answer: `a bus<loc_10><loc_20><loc_500><loc_999>` names a box in thousandths of the picture.
//!
//! An answer is read as transformers' `Florence2PostProcessor` at 5.23 reads it, whose regular expressions are written out here as scanners; the
//! expression stands above each. What fits none of them is passed over.

use std::ops::Range;

use ocelli_flow::BoundingBox;

use super::tasks::Answer;

/// Parts of a side that locations count.
const BINS: f64 = 1000.0;
/// Locations of a box, and the fewest that follow on a phrase.
const BOX: usize = 4;
/// Locations of a quadrilateral.
const QUADRILATERAL: usize = 8;

/// A place, and what is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// May be empty.
    pub label: String,
    /// In pixels of the picture.
    pub bbox: BoundingBox,
    /// Which of the answer's locations say where it is.
    pub locations: Range<usize>,
}

/// What is known beside the answer.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Width and height of the picture in pixels.
    pub size: [u32; 2],
    /// Labels that are left out of [`Answer::Phrases`].
    pub banned: &'a [String],
    /// Quadrilaterals of a smaller part of the picture are left out.
    pub least_area: f64,
}

/// The regions of an answer, in its order.
pub fn regions(answer: &str, kind: Answer, rules: &Rules<'_>) -> Vec<Region> {
    let text = answer.replace("<s>", "").replace("</s>", "").replace("<pad>", "");
    let written = Written { locations: locations(&text), text: &text, rules };
    let mut found = match kind {
        Answer::Text | Answer::Polygons => Vec::new(),
        Answer::Proposals => written.proposals(),
        Answer::Quadrilaterals => return written.quadrilaterals(),
        Answer::BoxesOrPolygons if text.contains("<poly>") => return written.polygons(),
        Answer::Boxes | Answer::BoxesOrPolygons | Answer::Phrases => written.boxes(),
    };
    if kind == Answer::Phrases {
        found.retain(|region| !rules.banned.contains(&region.label));
    }
    found.iter_mut().for_each(|region| region.label.retain(|letter| letter.is_ascii()));
    found
}

/// How sure the model was of a region: the geometric mean of its locations' probabilities, `logprobs` of all locations of the answer; 1 where
/// there are others than the answer has, because some were spelled out letter by letter.
pub fn score(region: &Region, answer: &str, logprobs: &[f32]) -> f32 {
    match logprobs.get(region.locations.clone()) {
        Some(each) if !each.is_empty() && locations(answer).len() == logprobs.len() => {
            (each.iter().sum::<f32>() / each.len() as f32).exp().min(1.0)
        }
        _ => 1.0,
    }
}

/// `<loc_7>` in a text.
#[derive(Debug, Clone, PartialEq)]
struct Location {
    bytes: Range<usize>,
    bin: u32,
}

/// `<loc_(\d+)>`
fn locations(text: &str) -> Vec<Location> {
    let mark = "<loc_";
    let found = text.match_indices(mark).filter_map(|(start, _)| {
        let digits = text[start + mark.len()..].split_once('>')?.0;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // What is beyond all numbers is beyond the picture, too.
        let bin = digits.parse().unwrap_or(u32::MAX);
        Some(Location { bytes: start..start + mark.len() + digits.len() + 1, bin })
    });
    found.collect()
}

struct Written<'a> {
    text: &'a str,
    locations: Vec<Location>,
    rules: &'a Rules<'a>,
}

impl Written<'_> {
    /// `([^<]+(?:<loc_\d+>){4,})`, and of each `<loc_(\d+)><loc_(\d+)><loc_(\d+)><loc_(\d+)>`.
    fn boxes(&self) -> Vec<Region> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((start, end)) = self.words(at) {
            at = end;
            let run = self.run(end);
            if run.len() < BOX {
                continue;
            }
            at = self.locations[run.end - 1].bytes.end;
            let Some(label) = label(&self.text[start..end]) else { continue };
            found.extend(self.boxes_of(run, label));
        }
        found
    }

    /// `(?:<loc_\d+>){4,}`, and of each its boxes.
    fn proposals(&self) -> Vec<Region> {
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(location) = self.locations.get(next) {
            let run = self.run(location.bytes.start);
            next = run.end;
            found.extend(self.boxes_of(run, ""));
        }
        found
    }

    /// `(.+?)` and eight locations.
    fn quadrilaterals(&self) -> Vec<Region> {
        let mut found = Vec::new();
        let mut at = 0;
        // The content is as short as can be, so it ends before the first eight locations after it has begun.
        for (i, location) in self.locations.iter().enumerate() {
            let start = location.bytes.start;
            // No content goes beyond its line.
            at = self.text.get(at..start).and_then(|content| content.rfind('\n')).map_or(at, |newline| at + newline + 1);
            let run = self.run(start);
            if start <= at || run.len() < QUADRILATERAL {
                continue;
            }
            let quadrilateral = i..i + QUADRILATERAL;
            let content = self.text[at..start].trim();
            at = self.locations[quadrilateral.end - 1].bytes.end;
            let points = self.points(&quadrilateral);
            if self.rules.least_area > 0.0 && shoelace(&points) < self.picture_area() * self.rules.least_area {
                continue;
            }
            found.extend(self.around(&points, quadrilateral, content));
        }
        found
    }

    /// `([^<]+(?:<loc_\d+>|<sep>|<poly>|</poly>){4,})`, and of each what is between `<poly>` and `</poly>`, or all where there are not both.
    fn polygons(&self) -> Vec<Region> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((start, end)) = self.words(at) {
            at = end;
            let (mut marks, mut stop) = (0, end);
            while let Some(next) = self.mark(stop) {
                (marks, stop) = (marks + 1, next);
            }
            if marks < BOX {
                continue;
            }
            at = stop;
            let all = &self.text[start..stop];
            let Some(label) = ["<loc_", "<poly>"].iter().filter_map(|mark| all.find(mark)).min().and_then(|end| label(&all[..end])) else {
                continue;
            };
            let mut parts = Vec::new();
            let mut rest = start;
            while let Some(open) = self.text[rest..stop].find("<poly>").map(|open| rest + open + "<poly>".len())
                && let Some(close) = self.text[open..stop].find("</poly>").map(|close| open + close)
            {
                parts.push(open..close);
                rest = close;
            }
            if !(all.contains("<poly>") && all.contains("</poly>")) {
                parts.push(start..stop);
            }
            found.extend(parts.into_iter().filter_map(|part| self.polygon(&part, label)));
        }
        found
    }

    /// `((?:<loc_\d+>)+)(?:<sep>|$)` of a part, all of it one region.
    fn polygon(&self, part: &Range<usize>, label: &str) -> Option<Region> {
        let within: Vec<usize> = (0..self.locations.len())
            .filter(|&i| part.start <= self.locations[i].bytes.start && self.locations[i].bytes.end <= part.end)
            .collect();
        let (&first, &last) = (within.first()?, within.last()?);
        let mut points = Vec::new();
        let mut next = first;
        while next <= last {
            let run = self.run(self.locations[next].bytes.start);
            next = run.end;
            let end = self.locations[run.end - 1].bytes.end;
            if end == part.end || self.text[end..part.end].starts_with("<sep>") {
                points.extend(self.points(&run));
            }
        }
        self.around(&points, first..last + 1, label)
    }

    /// `[^<]+` before a `<`, the first that begins at `from` or later.
    fn words(&self, from: usize) -> Option<(usize, usize)> {
        let rest = self.text.get(from..)?;
        let start = from + rest.find(|letter| letter != '<')?;
        let end = start + self.text[start..].find('<')?;
        Some((start, end))
    }

    /// The end of the mark at a byte: a location, or what stands between them.
    fn mark(&self, at: usize) -> Option<usize> {
        let run = self.run(at);
        if let Some(location) = self.locations.get(run.start).filter(|_| !run.is_empty()) {
            return Some(location.bytes.end);
        }
        let marks = ["<sep>", "<poly>", "</poly>"];
        marks.iter().find(|mark| self.text[at..].starts_with(**mark)).map(|mark| at + mark.len())
    }

    /// Indices of the locations that stand one behind the other from a byte on.
    fn run(&self, at: usize) -> Range<usize> {
        let first = self.locations.partition_point(|location| location.bytes.start < at);
        let mut end = at;
        let together = self.locations[first..].iter().take_while(|location| {
            let follows = location.bytes.start == end;
            end = location.bytes.end;
            follows
        });
        first..first + together.count()
    }

    fn boxes_of(&self, run: Range<usize>, label: &str) -> Vec<Region> {
        let boxes = run.clone().step_by(BOX).map(|first| first..first + BOX).filter(|each| each.end <= run.end);
        boxes.filter_map(|each| self.around(&self.points(&each), each, label)).collect()
    }

    /// Places of pairs of locations, in pixels: the middles of their bins, rounded down.
    fn points(&self, run: &Range<usize>) -> Vec<[f32; 2]> {
        let place = |bin: u32, side: u32| ((bin as f32 + 0.5) * (f64::from(side) / BINS) as f32).trunc();
        let [width, height] = self.rules.size;
        let pairs = self.locations[run.clone()].as_chunks::<2>().0;
        pairs.iter().map(|[x, y]| [place(x.bin, width), place(y.bin, height)]).collect()
    }

    /// What lies between the outermost points, cut to the picture.
    fn around(&self, points: &[[f32; 2]], locations: Range<usize>, label: &str) -> Option<Region> {
        let least = |axis: usize| points.iter().map(|point| point[axis].clamp(0.0, self.rules.size[axis] as f32)).reduce(f32::min);
        let most = |axis: usize| points.iter().map(|point| point[axis].clamp(0.0, self.rules.size[axis] as f32)).reduce(f32::max);
        let bbox = BoundingBox { x0: least(0)?, y0: least(1)?, x1: most(0)?, y1: most(1)? };
        Some(Region { label: label.to_owned(), bbox, locations })
    }

    fn picture_area(&self) -> f64 {
        self.rules.size.iter().map(|&side| f64::from(side)).product()
    }
}

/// `^\s*(.*?)` before locations: no label goes beyond its line.
fn label(words: &str) -> Option<&str> {
    let words = words.trim_start();
    (!words.contains('\n')).then(|| words.trim_end())
}

/// The reference's area of a quadrilateral, from which its last side is missing.
fn shoelace(points: &[[f32; 2]]) -> f64 {
    let cross = |a: &[f32; 2], b: &[f32; 2]| f64::from(a[0]) * f64::from(b[1]) - f64::from(b[0]) * f64::from(a[1]);
    0.5 * points.windows(2).map(|pair| cross(&pair[0], &pair[1])).sum::<f64>().abs()
}

#[cfg(test)]
#[path = "regions_tests.rs"]
mod tests;
