//! The lines of `--json`: a contract, the same for every command. Fields are only ever added.

use std::io::{self, Write};
use std::time::Duration;

use ocelli_flow as flow;
use serde::Serialize;

/// One object, one line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line<'a> {
    /// `ocelli embed`: of a picture or of a text.
    Embedding {
        /// The picture's path as it was given.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<&'a str>,
        /// The text as it was given.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        /// The model's name.
        model: &'a str,
        /// Length of `values`.
        dim: usize,
        /// L2-normalised unless raw ones were asked for.
        values: &'a [f32],
    },
    /// `ocelli classify`: labels, best first.
    Classification {
        /// The picture's path as it was given.
        image: &'a str,
        /// Best first.
        scores: Vec<Score<'a>>,
    },
    /// `ocelli ground`: phrases found, in pixels of the source picture.
    Detections {
        /// The picture's path as it was given.
        image: &'a str,
        /// Of the source picture, in pixels.
        width: u32,
        /// Of the source picture, in pixels.
        height: u32,
        /// Phrase by phrase, best first.
        detections: Vec<Detection<'a>>,
    },
    /// `ocelli caption`.
    Caption {
        /// The picture's path as it was given.
        image: &'a str,
        /// The sentence.
        #[serde(flatten)]
        caption: Caption<'a>,
    },
    /// `ocelli ask`.
    Answer {
        /// The pictures' paths as they were given.
        images: &'a [String],
        /// As it was asked.
        question: &'a str,
        /// The answer.
        text: &'a str,
        /// Generated ids, without prompt, start and end tokens.
        tokens: &'a [u32],
        /// Natural logarithm, summed over the tokens.
        logprob: f32,
        /// What beams are compared by; without beams `logprob`.
        score: f32,
        /// Why it ends there: `end`, `length`, `stop`, `cancelled`.
        finish: &'static str,
    },
    /// `ocelli match`: texts in the order in which they were given.
    Match {
        /// The picture's path as it was given.
        image: &'a str,
        /// What scores are: `itm`, `sigmoid`, `clip_score`.
        kind: &'a str,
        /// One a text.
        scores: Vec<MatchScore<'a>>,
    },
    /// `ocelli run`: all that was found out about one frame.
    Frame(Frame<'a>),
    /// Something could not be read; the rest goes on.
    Error {
        /// The picture's path, or the camera.
        source: &'a str,
        /// What was wrong, where, and what to do.
        error: String,
    },
}

impl<'a> Line<'a> {
    /// Of a picture.
    pub fn image_embedding(image: &'a str, model: &'a str, embedding: &'a flow::Embedding) -> Self {
        Self::Embedding { image: Some(image), text: None, model, dim: embedding.values.len(), values: &embedding.values }
    }

    /// Of a text.
    pub fn text_embedding(text: &'a str, model: &'a str, embedding: &'a flow::Embedding) -> Self {
        Self::Embedding { image: None, text: Some(text), model, dim: embedding.values.len(), values: &embedding.values }
    }

    /// Labels of a picture.
    pub fn classification(image: &'a str, classification: &'a flow::Classification) -> Self {
        let score = |s: &'a flow::LabelScore| Score { label: &s.label, logit: s.logit, score: s.score };
        Self::Classification { image, scores: classification.scores.iter().map(score).collect() }
    }

    /// Phrases found in a picture of `width` x `height` pixels.
    pub fn detections(image: &'a str, width: u32, height: u32, detections: &'a [flow::Detection]) -> Self {
        Self::Detections { image, width, height, detections: detections.iter().map(Detection::from).collect() }
    }

    /// A picture's caption.
    pub fn caption(image: &'a str, caption: &'a flow::Caption) -> Self {
        Self::Caption { image, caption: caption.into() }
    }

    /// An answer to a question about pictures.
    pub fn answer(images: &'a [String], question: &'a str, answer: &'a flow::Generation) -> Self {
        let finish = match answer.finish {
            flow::Finish::End => "end",
            flow::Finish::Length => "length",
            flow::Finish::Stop => "stop",
            flow::Finish::Cancelled => "cancelled",
        };
        let flow::Generation { text, tokens, score, .. } = answer;
        Self::Answer { images, question, text: text.trim(), tokens, logprob: answer.logprob(), score: *score, finish }
    }

    /// How well texts fit a picture.
    pub fn matches(image: &'a str, kind: &'a str, texts: &[&'a str], matches: &[flow::Match]) -> Self {
        let score = |(&text, found): (&&'a str, &flow::Match)| MatchScore { text, score: found.score, cosine: found.cosine };
        Self::Match { image, kind, scores: texts.iter().zip(matches).map(score).collect() }
    }

    /// One frame of a stream.
    pub fn frame(result: &'a flow::FrameResult) -> Self {
        Self::Frame(Frame {
            source: &result.meta.origin,
            sequence: result.meta.sequence,
            width: result.width,
            height: result.height,
            captured_at_ms: milliseconds(result.meta.captured_at),
            age_start_ms: milliseconds(result.age_at_start),
            age_end_ms: milliseconds(result.age_at_end),
            dropped: result.meta.dropped,
            embedding: result.embedding.as_ref().map(|embedding| embedding.values.as_slice()),
            detections: result.detections.as_ref().map(|all| all.iter().map(Detection::from).collect()),
            caption: result.caption.as_ref().map(Caption::from),
        })
    }

    /// Something that could not be read.
    pub fn error(source: &'a str, error: &impl std::fmt::Display) -> Self {
        Self::Error { source, error: error.to_string() }
    }

    /// Writes the object and a line feed, in one piece.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        out.write_all(&line)
    }
}

/// A text and how well it fits a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MatchScore<'a> {
    /// As it was given.
    pub text: &'a str,
    /// 0 to 1, but for `clip_score`, which may reach 2.5.
    pub score: f32,
    /// Of the embeddings; left out where the model has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f32>,
}

/// A label and how well it fits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score<'a> {
    /// As it was asked for.
    pub label: &'a str,
    /// Similarity times the model's logit scale.
    pub logit: f32,
    /// 0 to 1.
    pub score: f32,
}

/// A phrase found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection<'a> {
    /// As it was asked for.
    pub phrase: &'a str,
    /// 0 to 1.
    pub score: f32,
    /// `[x0, y0, x1, y1]` in pixels of the source picture.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// How likely it is that anything is there, where the model says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objectness: Option<f32>,
}

impl<'a> From<&'a flow::Detection> for Detection<'a> {
    fn from(detection: &'a flow::Detection) -> Self {
        let flow::BoundingBox { x0, y0, x1, y1 } = detection.bbox;
        Self { phrase: &detection.phrase, score: detection.score, bbox: [x0, y0, x1, y1], objectness: detection.objectness }
    }
}

/// A sentence about a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Caption<'a> {
    /// The sentence.
    pub text: &'a str,
    /// Generated ids, without prompt, start and end tokens.
    pub tokens: &'a [u32],
    /// Natural logarithm, summed over the tokens.
    pub logprob: f32,
    /// What beams are compared by; without beams `logprob`.
    pub score: f32,
    /// Places that the text names; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detections: Vec<Detection<'a>>,
}

impl<'a> From<&'a flow::Caption> for Caption<'a> {
    fn from(caption: &'a flow::Caption) -> Self {
        let detections = caption.regions.iter().map(Detection::from).collect();
        Self { text: &caption.text, tokens: &caption.tokens, logprob: caption.logprob, score: caption.score, detections }
    }
}

/// One frame of a stream. What was not asked for is left out; a caption also where it was not this frame's turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frame<'a> {
    /// The picture's path, or the camera.
    pub source: &'a str,
    /// Counts the frames of the source from 0.
    pub sequence: u64,
    /// Of the source picture, in pixels.
    pub width: u32,
    /// Of the source picture, in pixels.
    pub height: u32,
    /// Time of capture on the system's monotonic clock, in milliseconds.
    pub captured_at_ms: f64,
    /// Age of the frame when work on it began, in milliseconds.
    pub age_start_ms: f64,
    /// Age of the frame when the result was ready, in milliseconds.
    pub age_end_ms: f64,
    /// Frames given up since the frame before this one.
    pub dropped: u64,
    /// L2-normalised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<&'a [f32]>,
    /// Phrase by phrase, best first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detections: Option<Vec<Detection<'a>>>,
    /// The sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption: Option<Caption<'a>>,
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests;
