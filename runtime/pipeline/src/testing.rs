//! Fakes of everything around the loop, for tests here and in other crates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ocelli_flow::{
    BoundingBox, Caption, CaptionOptions, Captioner, Detection, Embedder, Embedding, Encoded, Frame, FrameMeta, FrameResult, FrameSource,
    GroundOptions, Grounder, Inputs, Listener, Model, ModelError, Next, PhraseSet, Sink, SinkError, SourceError,
};

use crate::clock::Clock;

/// A clock that stands still until it is moved. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct FakeClock(Arc<AtomicU64>);

impl FakeClock {
    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A camera with a picture every `interval` on a [`FakeClock`]: its frames are `captured_at` multiples of it, and those that
/// came and went between two calls of [`next`](FrameSource::next) are dropped, as a driver with one buffer would.
#[derive(Debug, Clone)]
pub struct FakeCamera {
    /// Moved by whoever consumes the frames; moved here, too, when a frame is waited for.
    pub clock: FakeClock,
    /// Time between two frames.
    pub interval: Duration,
    /// It is unplugged after the frame with this sequence number.
    pub last: u64,
    next: u64,
}

impl FakeCamera {
    /// A camera whose first frame is due now.
    pub fn new(clock: FakeClock, interval: Duration, last: u64) -> Self {
        Self { clock, interval, last, next: 0 }
    }
}

impl FrameSource for FakeCamera {
    fn live(&self) -> bool {
        true
    }

    fn next(&mut self) -> Result<Next, SourceError> {
        let newest = (self.clock.now().as_micros() / self.interval.as_micros().max(1)) as u64;
        let sequence = newest.max(self.next);
        if sequence > self.last {
            return Err(SourceError::Camera { device: "/dev/fake".into(), reason: "unplugged".into() });
        }
        let captured_at = self.interval * sequence as u32;
        self.clock.advance(captured_at.saturating_sub(self.clock.now()));
        let dropped = sequence - self.next;
        self.next = sequence + 1;
        Ok(frame(FrameMeta { origin: "/dev/fake".into(), sequence, captured_at, dropped }).map_or(Next::End, Next::Frame))
    }
}

/// Four by two pixels, all of the sequence number's grey.
pub fn frame(meta: FrameMeta) -> Option<Frame> {
    Frame::new(4, 2, vec![meta.sequence as u8; 24], meta)
}

/// A source that gives what it was made of, then ends.
#[derive(Debug, Default)]
pub struct FakeSource(pub std::collections::VecDeque<Result<Next, SourceError>>);

impl FakeSource {
    /// Frames 0 to `count`, exclusive, except that those in `bad` cannot be read.
    pub fn with_bad(count: u64, bad: &[u64]) -> Self {
        let item = |sequence| {
            let origin = format!("{sequence}.jpg");
            if bad.contains(&sequence) {
                let error = SourceError::Picture { path: origin.clone().into(), reason: "damaged".into() };
                return Ok(Next::Bad { origin, error });
            }
            Ok(frame(FrameMeta { sequence, ..FrameMeta::still(origin) }).map_or(Next::End, Next::Frame))
        };
        Self((0..count).map(item).collect())
    }
}

impl FrameSource for FakeSource {
    fn live(&self) -> bool {
        false
    }

    fn next(&mut self) -> Result<Next, SourceError> {
        self.0.pop_front().unwrap_or(Ok(Next::End))
    }
}

/// A model with every head that says how often each was asked, and takes its time on a [`FakeClock`].
///
/// Its features are the grey level of the frame's first pixel. It finds every phrase in the left half of every picture.
#[derive(Debug, Default)]
pub struct FakeModel {
    /// Moved by `takes` on every encode.
    pub clock: FakeClock,
    /// How long an encode takes.
    pub takes: Duration,
    /// The encode of a frame of this grey level fails.
    pub fails_at: Option<u8>,
    /// It cannot do anything but encode.
    pub headless: bool,
    /// How often a picture was encoded.
    pub encodes: AtomicU64,
    /// How often [`Captioner::caption`] was called.
    pub captions: AtomicU64,
}

impl Model for FakeModel {
    fn name(&self) -> &str {
        "fake"
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        let grey = frame.rgb().first().copied().unwrap_or_default();
        Ok(Inputs::pixels(frame.width(), frame.height(), [1; 4], vec![f32::from(grey)]))
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        self.encodes.fetch_add(1, Ordering::SeqCst);
        self.clock.advance(self.takes);
        let (width, height) = (inputs.width, inputs.height);
        let pixels = inputs.into_pixels(&[1; 4]).map_err(|reason| ModelError::Inputs { reason })?;
        let grey = pixels[0] as u8;
        if self.fails_at == Some(grey) {
            return Err(ModelError::Compute { stage: "encode", reason: "on purpose".into() });
        }
        Ok(Encoded::new(width, height, grey))
    }

    fn embedder(&self) -> Option<&dyn Embedder> {
        (!self.headless).then_some(self)
    }

    fn grounder(&self) -> Option<&dyn Grounder> {
        (!self.headless).then_some(self)
    }

    fn captioner(&self) -> Option<&dyn Captioner> {
        (!self.headless).then_some(self)
    }
}

impl Embedder for FakeModel {
    fn dim(&self) -> usize {
        2
    }

    fn logit_scale(&self) -> f32 {
        1.0
    }

    fn embed_image(&self, encoded: &Encoded, _raw: bool) -> Result<Embedding, ModelError> {
        Ok(Embedding { values: vec![1.0, f32::from(*encoded.features::<u8>()?)] })
    }

    fn embed_text(&self, texts: &[&str], _raw: bool) -> Result<Vec<Embedding>, ModelError> {
        Ok(texts.iter().map(|text| Embedding { values: vec![0.0, text.len() as f32] }).collect())
    }
}

impl Grounder for FakeModel {
    fn phrases(&self, phrases: &[&str]) -> Result<PhraseSet, ModelError> {
        Ok(PhraseSet { phrases: phrases.iter().map(|&p| p.into()).collect(), features: Box::new(()) })
    }

    fn ground(&self, encoded: &Encoded, phrases: &PhraseSet, _options: &GroundOptions) -> Result<Vec<Detection>, ModelError> {
        let bbox = BoundingBox { x0: 0.0, y0: 0.0, x1: encoded.width as f32 / 2.0, y1: encoded.height as f32 };
        Ok(phrases.phrases.iter().map(|phrase| Detection { phrase: phrase.clone(), score: 0.5, bbox, objectness: None }).collect())
    }
}

impl Captioner for FakeModel {
    fn caption(&self, encoded: &Encoded, _options: &CaptionOptions, _listener: &mut dyn Listener) -> Result<Caption, ModelError> {
        self.captions.fetch_add(1, Ordering::SeqCst);
        let grey = *encoded.features::<u8>()?;
        Ok(Caption { text: format!("grey {grey}"), tokens: vec![u32::from(grey)], logprob: -1.0, score: -1.0, regions: vec![] })
    }
}

/// What a [`FakeSink`] was given.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// In order.
    pub results: Vec<FrameResult>,
    /// Origins, in order.
    pub bad: Vec<String>,
    /// How often it was flushed.
    pub flushes: u64,
}

/// A sink that keeps what it is given. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FakeSink(Arc<Mutex<Seen>>);

impl FakeSink {
    /// What it was given so far.
    pub fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, what: impl FnOnce(&mut Seen)) -> Result<(), SinkError> {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

impl Sink for FakeSink {
    fn result(&mut self, _frame: &Frame, result: &FrameResult) -> Result<(), SinkError> {
        self.note(|seen| seen.results.push(result.clone()))
    }

    fn bad(&mut self, origin: &str, _error: &SourceError) -> Result<(), SinkError> {
        self.note(|seen| seen.bad.push(origin.to_owned()))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.note(|seen| seen.flushes += 1)
    }
}
