//! Where frames come from, and where results go.

use std::time::Duration;

use crate::{Caption, Detection, Embedding, Frame, FrameMeta, SinkError, SourceError};

/// What a source has next.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Frame),
    /// One item that could not be read; the source goes on.
    Bad {
        /// The item (a picture's path).
        origin: String,
        /// What was wrong with it.
        error: SourceError,
    },
    /// Nothing comes any more.
    End,
}

/// A source of frames: a picture, a folder, a camera.
pub trait FrameSource: Send {
    /// Whether frames are lost if they are not fetched in time (a camera). Of a source that is not live every frame is processed.
    fn live(&self) -> bool;

    /// How many items there are, where that is known.
    fn len_hint(&self) -> Option<u64> {
        None
    }

    /// The next frame. An `Err` ends the stream: the source is lost.
    fn next(&mut self) -> Result<Next, SourceError>;
}

/// All that was found out about one frame.
#[derive(Debug, Clone)]
pub struct FrameResult {
    /// The frame's origin, sequence number, time of capture, and the drops before it.
    pub meta: FrameMeta,
    /// Width of the source picture in pixels.
    pub width: u32,
    /// Height of the source picture in pixels.
    pub height: u32,
    /// Age of the frame when work on it began.
    pub age_at_start: Duration,
    /// Age of the frame when the result was ready.
    pub age_at_end: Duration,
    /// The picture's embedding, if it was asked for.
    pub embedding: Option<Embedding>,
    /// The phrases found, if any were asked for.
    pub detections: Option<Vec<Detection>>,
    /// The caption, if it was asked for and this frame's turn.
    pub caption: Option<Caption>,
}

/// Takes results: JSON lines, annotated pictures.
pub trait Sink: Send {
    /// Takes one result with the frame it speaks of.
    fn result(&mut self, frame: &Frame, result: &FrameResult) -> Result<(), SinkError>;

    /// Takes note of an item that could not be read.
    fn bad(&mut self, origin: &str, error: &SourceError) -> Result<(), SinkError>;

    /// Everything buffered goes out.
    fn flush(&mut self) -> Result<(), SinkError>;
}
