//! Where results go: JSON lines, and several sinks at once.

use std::io::Write;

use ocelli_flow::{Frame, FrameResult, Sink, SinkError, SourceError};

use crate::json::Line;

/// One JSON object a line, flushed line by line so that a reader at the other end of a pipe sees each result at once.
pub struct JsonLines<W> {
    out: W,
    place: String,
}

impl<W: Write + Send> JsonLines<W> {
    /// Writes to `out`, which errors call `place` (`standard output`, a file's path).
    pub fn new(out: W, place: impl Into<String>) -> Self {
        Self { out, place: place.into() }
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn write(&mut self, line: &Line<'_>) -> Result<(), SinkError> {
        let written = line.write_to(&mut self.out).and_then(|()| self.out.flush());
        written.map_err(|source| SinkError::Io { place: self.place.clone(), source })
    }
}

impl<W: Write + Send> Sink for JsonLines<W> {
    fn result(&mut self, _frame: &Frame, result: &FrameResult) -> Result<(), SinkError> {
        self.write(&Line::frame(result))
    }

    fn bad(&mut self, origin: &str, error: &SourceError) -> Result<(), SinkError> {
        self.write(&Line::error(origin, error))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.out.flush().map_err(|source| SinkError::Io { place: self.place.clone(), source })
    }
}

/// Hands everything to each of several sinks, in order. The first failure ends it, except that all are flushed.
#[derive(Default)]
pub struct Tee {
    sinks: Vec<Box<dyn Sink>>,
}

impl Tee {
    /// To all of `sinks`.
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { sinks }
    }
}

impl Sink for Tee {
    fn result(&mut self, frame: &Frame, result: &FrameResult) -> Result<(), SinkError> {
        self.sinks.iter_mut().try_for_each(|sink| sink.result(frame, result))
    }

    fn bad(&mut self, origin: &str, error: &SourceError) -> Result<(), SinkError> {
        self.sinks.iter_mut().try_for_each(|sink| sink.bad(origin, error))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let mut first = Ok(());
        for sink in &mut self.sinks {
            first = first.and(sink.flush());
        }
        first
    }
}

#[cfg(test)]
mod tests;
