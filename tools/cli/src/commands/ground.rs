//! `ocelli ground`: where in a picture a phrase is.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use ocelli_flow::{Detection, GroundOptions, Grounder, Model, PhraseSet};
use ocelli_pipeline::json::Line;

use crate::drawing::Drawing;
use crate::failure::Outcome;
use crate::images::{self, ImageError};
use crate::session::{self, Session};
use crate::source::{Pictures, Source};
use crate::text;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pictures: Pictures,
    #[command(flatten)]
    queries: Queries,
    #[command(flatten)]
    detecting: Detecting,
    /// Picture with the boxes drawn; a folder where there are several pictures
    #[arg(long, value_name = "OUT")]
    annotate: Option<PathBuf>,
}

/// What to look for.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Queries {
    /// What to look for, as "a dog"; may be repeated, and take several
    #[arg(long, value_name = "S", num_args = 1..)]
    phrase: Vec<String>,
    /// Look for what this picture shows, with a model that can (OWL-ViT)
    #[arg(long, value_name = "Q")]
    query_image: Option<PathBuf>,
    /// The same, of a file that `preprocess` wrote
    #[arg(long, value_name = "F")]
    query_pixels: Option<PathBuf>,
}

impl Queries {
    /// Encoded once for all pictures.
    fn encode(&self, model: &dyn Model, grounder: &dyn Grounder) -> Result<PhraseSet> {
        let images = self.query_image.iter().cloned().map(Source::Image);
        let Some(query) = images.chain(self.query_pixels.iter().cloned().map(Source::Pixels)).next() else {
            return Ok(grounder.phrases(&self.phrase.iter().map(String::as_str).collect::<Vec<_>>())?);
        };
        let encoded = query.read()?.encode(model)?;
        Ok(grounder.image_query(&encoded, &query.path().to_string_lossy())?)
    }
}

/// Which boxes to keep; other commands that look for phrases take it, too.
#[derive(Debug, Clone, clap::Args)]
pub struct Detecting {
    /// Smallest score to report, 0 to 1; default: the model's own
    #[arg(long, value_name = "T")]
    threshold: Option<f32>,
    /// At most K boxes a phrase
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Leave out boxes that overlap a better one of the same phrase by more than this IoU, 0 to 1; 1 keeps all
    #[arg(long, value_name = "IOU")]
    nms: Option<f32>,
}

impl Detecting {
    /// What the model is told; an error where a number is out of range.
    pub fn options(&self) -> Result<GroundOptions> {
        for (option, value) in [("--threshold", self.threshold), ("--nms", self.nms)] {
            if let Some(value) = value {
                ensure!((0.0..=1.0).contains(&value), "{option} {value}: must lie between 0 and 1");
            }
        }
        Ok(GroundOptions { threshold: self.threshold, top: self.top.map(|top| top as usize), nms: self.nms })
    }
}

/// The boxes of all phrases, a picture at a time.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    text::check_all("--phrase", &args.queries.phrase)?;
    let sources = args.pictures.sources();
    let options = args.detecting.options()?;
    let mut drawing = args.annotate.map(|place| Drawing::new(place, &sources)).transpose()?;

    let model = session.model()?;
    let grounder = session::grounder(&*model)?;
    let phrases = args.queries.encode(&*model, grounder)?;
    images::each(&session.out, &sources, |name, looked| {
        let detections = grounder.ground(&looked.encode(&*model)?, &phrases, &options)?;
        let printed = if session.out.json() {
            session.out.line(&Line::detections(name, looked.width(), looked.height(), &detections))
        } else {
            session.out.text(human(name, &detections))
        };
        printed.map_err(ImageError::Fatal)?;
        let drawn = drawing.as_mut().zip(looked.frame()).map(|(drawing, frame)| drawing.draw(frame, detections));
        drawn.unwrap_or(Ok(())).map_err(ImageError::Fatal)
    })
}

fn human(name: &str, detections: &[Detection]) -> String {
    let mut block = name.to_owned();
    if detections.is_empty() {
        block.push_str("\n  nothing found");
    }
    for detection in detections {
        // Writing to a string cannot fail.
        let _ = write!(block, "\n  {}", box_line(detection));
    }
    block
}

/// `0.83  a dog  at 12,40 – 118,200`
pub fn box_line(detection: &Detection) -> String {
    let b = detection.bbox;
    format!("{:.2}  {}  at {:.0},{:.0} – {:.0},{:.0}", detection.score, detection.phrase, b.x0, b.y0, b.x1, b.y1)
}

#[cfg(test)]
mod tests {
    use ocelli_flow::BoundingBox;

    use super::*;

    #[test]
    fn boxes_read_as_corners() {
        let bbox = BoundingBox { x0: 12.4, y0: 40.0, x1: 118.0, y1: 199.6 };
        let detection = Detection { phrase: "a dog".into(), score: 0.834, bbox, objectness: None };
        assert_eq!(human("a.jpg", &[detection]), "a.jpg\n  0.83  a dog  at 12,40 – 118,200");
        assert_eq!(human("a.jpg", &[]), "a.jpg\n  nothing found");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let detecting = |threshold, nms| Detecting { threshold, top: None, nms };
        assert!(detecting(Some(0.0), Some(1.0)).options().is_ok());
        assert!(detecting(Some(1.5), None).options().unwrap_err().to_string().contains("--threshold"));
        assert!(detecting(None, Some(f32::NAN)).options().unwrap_err().to_string().contains("--nms"));
    }
}
