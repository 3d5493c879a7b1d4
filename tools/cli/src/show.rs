//! What `run` says of each frame, as JSON or for people, and how far it is.

use std::fmt::Write;
use std::io;

use ocelli_flow::{Frame, FrameResult, Sink, SinkError, SourceError};
use ocelli_pipeline::json::Line;

use crate::commands::ground::box_line;
use crate::failure::without_codes;
use crate::output::Output;
use crate::progress::Progress;

/// Speaks of every frame on standard output and of every bad picture on standard error.
pub struct Show {
    out: Output,
    progress: Progress,
    phrases: Vec<String>,
    live: bool,
}

impl Show {
    /// `phrases`: what is looked for, so that it can be said what was not found; `live`: frames come from a camera and have an age.
    pub fn new(out: Output, length: Option<u64>, phrases: Vec<String>, live: bool) -> Self {
        let progress = out.progress(if live { "frames" } else { "pictures" }, length);
        Self { out, progress, phrases, live }
    }

    fn human(&self, result: &FrameResult) -> String {
        let mut block = format!("{}  {}×{}", result.meta.origin, result.width, result.height);
        // Writing to a string cannot fail.
        if self.live {
            let _ = write!(block, "  #{}, {} ms old", result.meta.sequence, result.age_at_end.as_millis());
            if result.meta.dropped > 0 {
                let _ = write!(block, ", {} dropped before it", result.meta.dropped);
            }
        }
        if let Some(caption) = &result.caption {
            let _ = write!(block, "\n  {}", caption.text);
        }
        if let Some(detections) = &result.detections {
            for detection in detections {
                let _ = write!(block, "\n  {}", box_line(detection));
            }
            let missed = self.phrases.iter().filter(|phrase| !detections.iter().any(|found| *found.phrase == ***phrase));
            for phrase in missed {
                let _ = write!(block, "\n  not found: {phrase}");
            }
        }
        if let Some(embedding) = &result.embedding {
            let head: Vec<String> = embedding.values.iter().take(6).map(|value| format!("{value:+.4}")).collect();
            let _ = write!(block, "\n  embedding of {} numbers: {} …", embedding.values.len(), head.join(" "));
        }
        block
    }
}

fn broken(source: io::Error) -> SinkError {
    SinkError::Io { place: "standard output".into(), source }
}

impl Sink for Show {
    fn result(&mut self, _: &Frame, result: &FrameResult) -> Result<(), SinkError> {
        let said = if self.out.json() {
            serde_json::to_string(&Line::frame(result)).map_err(io::Error::from).and_then(|line| self.out.put(line))
        } else {
            self.out.put(self.human(result))
        };
        said.map_err(broken)?;
        self.progress.step();
        Ok(())
    }

    fn bad(&mut self, origin: &str, error: &SourceError) -> Result<(), SinkError> {
        self.progress.step();
        let message = without_codes(&error.to_string());
        self.out.complain(&message);
        if self.out.json() {
            let line = serde_json::to_string(&Line::error(origin, &message)).map_err(io::Error::from);
            line.and_then(|line| self.out.put(line)).map_err(broken)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.out.flush().map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ocelli_flow::{BoundingBox, Caption, Detection, FrameMeta};

    use super::*;

    #[test]
    fn a_block_says_what_is_there_and_what_is_not() {
        let out = Output::new(false, true);
        let show = Show::new(out, Some(1), vec!["a dog".into(), "a cat".into()], false);
        let bbox = BoundingBox { x0: 1.0, y0: 2.0, x1: 3.0, y1: 4.0 };
        let result = FrameResult {
            meta: FrameMeta::still("a.jpg"),
            width: 640,
            height: 480,
            age_at_start: Duration::ZERO,
            age_at_end: Duration::ZERO,
            embedding: None,
            detections: Some(vec![Detection { phrase: "a dog".into(), score: 0.5, bbox, objectness: None }]),
            caption: Some(Caption { text: "a dog runs".into(), tokens: vec![], logprob: 0.0, score: 0.0, regions: vec![] }),
        };
        assert_eq!(show.human(&result), "a.jpg  640×480\n  a dog runs\n  0.50  a dog  at 1,2 – 3,4\n  not found: a cat");
    }
}
