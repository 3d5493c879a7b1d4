use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ocelli_flow::FrameMeta;

use super::*;
use crate::testing::{FakeSink, frame};

fn result(meta: &FrameMeta) -> FrameResult {
    let (width, height) = (4, 2);
    FrameResult {
        meta: meta.clone(),
        width,
        height,
        age_at_start: Duration::ZERO,
        age_at_end: Duration::ZERO,
        embedding: None,
        detections: None,
        caption: None,
    }
}

fn error() -> SourceError {
    SourceError::Picture { path: "bad.jpg".into(), reason: "damaged".into() }
}

/// A pipe that shows what has been flushed, and breaks after some lines.
#[derive(Clone, Default)]
struct Pipe {
    buffered: Vec<u8>,
    arrived: Arc<Mutex<Vec<u8>>>,
    lines_left: usize,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.lines_left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.lines_left -= 1;
        self.buffered.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.arrived.lock().unwrap().append(&mut self.buffered);
        Ok(())
    }
}

#[test]
fn each_line_arrives_at_once_and_a_broken_pipe_is_told() {
    let pipe = Pipe { lines_left: 2, ..Pipe::default() };
    let arrived = Arc::clone(&pipe.arrived);
    let lines = || arrived.lock().unwrap().iter().filter(|&&byte| byte == b'\n').count();
    let mut sink = JsonLines::new(pipe, "standard output");
    let (frame, result) = (frame(FrameMeta::still("a.jpg")).unwrap(), result(&FrameMeta::still("a.jpg")));
    sink.result(&frame, &result).unwrap();
    assert_eq!(lines(), 1);
    sink.bad("bad.jpg", &error()).unwrap();
    assert_eq!(lines(), 2);
    let said = sink.result(&frame, &result).unwrap_err();
    assert!(matches!(&said, SinkError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe));
    assert!(said.to_string().starts_with("standard output: "));
}

#[test]
fn a_tee_gives_everything_to_all_and_flushes_all() {
    struct Full;
    impl Sink for Full {
        fn result(&mut self, _: &Frame, _: &FrameResult) -> Result<(), SinkError> {
            Err(SinkError::Encode { place: "disk".into(), reason: "full".into() })
        }
        fn bad(&mut self, _: &str, _: &SourceError) -> Result<(), SinkError> {
            Ok(())
        }
        fn flush(&mut self) -> Result<(), SinkError> {
            Err(SinkError::Encode { place: "disk".into(), reason: "full".into() })
        }
    }
    let (first, last) = (FakeSink::default(), FakeSink::default());
    let mut tee = Tee::new(vec![Box::new(first.clone()), Box::new(Full), Box::new(last.clone())]);
    let (frame, result) = (frame(FrameMeta::still("a.jpg")).unwrap(), result(&FrameMeta::still("a.jpg")));
    tee.bad("bad.jpg", &error()).unwrap();
    assert!(tee.result(&frame, &result).is_err());
    assert!(tee.flush().is_err());
    assert_eq!((first.seen().results.len(), first.seen().bad.len(), first.seen().flushes), (1, 1, 1));
    assert_eq!((last.seen().results.len(), last.seen().bad.len(), last.seen().flushes), (0, 1, 1));
}
