//! The loop: frame by frame from the source through the model to the sink.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ocelli_flow::{
    CaptionOptions, Captioner, Embedder, Frame, FrameResult, FrameSource, GroundOptions, Grounder, Model, ModelError, Next, PhraseSet,
    Sink, SinkError, SourceError,
};

use crate::clock::Clock;

/// What to find out about the frames.
#[derive(Default)]
pub struct Plan {
    /// Put each frame's embedding into its result.
    pub embed: bool,
    /// Phrases to look for, encoded once before the stream starts.
    pub phrases: Option<PhraseSet>,
    /// Which detections to return.
    pub ground: GroundOptions,
    /// Whether and how often to caption.
    pub caption: Option<CaptionPlan>,
    /// Of how many frames one is looked at: 0 and 1 mean each. Counted by sequence number, dropped and bad frames included.
    pub every: u64,
    /// End after so many frames were looked at.
    pub max_frames: Option<u64>,
}

/// How often and how to caption.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CaptionPlan {
    /// Of how many frames looked at one is captioned, beginning with the first: 0 and 1 mean each.
    pub every: u64,
    /// Beam width and length.
    pub options: CaptionOptions,
}

/// What came of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames looked at, one result each.
    pub frames: u64,
    /// Items that could not be read, each reported to the sink.
    pub bad: u64,
    /// Good frames passed over on purpose ([`Plan::every`]).
    pub skipped: u64,
    /// Frames of a live source given up because the model was busy or the driver overrun.
    pub dropped: u64,
    /// Whether it ended because it was asked to stop.
    pub stopped: bool,
    /// From the first look at the source to the last flush.
    pub elapsed: Duration,
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The source is lost.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model failed.
    #[error("{origin}: {source}")]
    Model {
        /// The frame's origin.
        origin: String,
        /// What happened.
        source: ModelError,
    },
    /// A result could not be handed on.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The plan asks for what the model does not have.
    #[error("model {model} cannot {task}; leave that out, or choose another model")]
    Unsupported {
        /// The model's name.
        model: String,
        /// `embed`, `ground`, `caption`.
        task: &'static str,
    },
}

/// Runs `source` through `model` into `sink` until it ends, an error ends it, or `stop` is set; then the frame in hand is finished.
///
/// A live source is wrapped in [`Live`](crate::Live) first, so that a busy model gets the newest frame; of any other source every frame
/// is looked at. Each frame is encoded once, for all heads. Whatever happens, the sink is flushed.
pub fn run(
    source: &mut dyn FrameSource,
    model: &dyn Model,
    plan: &Plan,
    sink: &mut dyn Sink,
    stop: &AtomicBool,
    clock: &dyn Clock,
) -> Result<Summary, RunError> {
    let heads = Heads::of(model, plan)?;
    let began = clock.now();
    let outcome = stream(source, &heads, sink, stop, clock);
    let flushed = sink.flush();
    let mut summary = outcome?;
    flushed?;
    summary.elapsed = clock.now().saturating_sub(began);
    Ok(summary)
}

fn stream(
    source: &mut dyn FrameSource,
    heads: &Heads<'_>,
    sink: &mut dyn Sink,
    stop: &AtomicBool,
    clock: &dyn Clock,
) -> Result<Summary, RunError> {
    let mut summary = Summary::default();
    let every = heads.plan.every.max(1);
    let mut due = 0;
    while heads.plan.max_frames.is_none_or(|max| summary.frames < max) {
        if stop.load(Ordering::Relaxed) {
            summary.stopped = true;
            break;
        }
        match source.next()? {
            Next::Frame(frame) => {
                summary.dropped += frame.meta().dropped;
                if frame.meta().sequence < due {
                    summary.skipped += 1;
                    continue;
                }
                due = frame.meta().sequence + every;
                let result = heads.look(&frame, summary.frames, clock)?;
                sink.result(&frame, &result)?;
                summary.frames += 1;
            }
            Next::Bad { origin, error } => {
                summary.bad += 1;
                sink.bad(&origin, &error)?;
            }
            Next::End => {
                // A live source ends when it is asked to stop while no frame comes.
                summary.stopped = stop.load(Ordering::Relaxed);
                break;
            }
        }
    }
    Ok(summary)
}

/// The heads that a plan needs, found before the first frame.
struct Heads<'a> {
    model: &'a dyn Model,
    plan: &'a Plan,
    embedder: Option<&'a dyn Embedder>,
    grounder: Option<(&'a dyn Grounder, &'a PhraseSet)>,
    captioner: Option<(&'a dyn Captioner, &'a CaptionPlan)>,
}

impl<'a> Heads<'a> {
    fn of(model: &'a dyn Model, plan: &'a Plan) -> Result<Self, RunError> {
        let unsupported = |task| RunError::Unsupported { model: model.name().to_owned(), task };
        let embedder = if plan.embed { Some(model.embedder().ok_or(unsupported("embed"))?) } else { None };
        let grounder = match &plan.phrases {
            Some(phrases) => Some((model.grounder().ok_or(unsupported("ground"))?, phrases)),
            None => None,
        };
        let captioner = match &plan.caption {
            Some(caption) => Some((model.captioner().ok_or(unsupported("caption"))?, caption)),
            None => None,
        };
        Ok(Self { model, plan, embedder, grounder, captioner })
    }

    /// All that the plan wants to know of the `nth` frame looked at.
    fn look(&self, frame: &Frame, nth: u64, clock: &dyn Clock) -> Result<FrameResult, RunError> {
        let captured_at = frame.meta().captured_at;
        let age_at_start = clock.now().saturating_sub(captured_at);
        let failed = |source| RunError::Model { origin: frame.meta().origin.to_string(), source };
        let encoded = self.model.encode(frame).map_err(failed)?;
        let embedding = self.embedder.map(|e| e.embed_image(&encoded, false)).transpose().map_err(failed)?;
        let detections = self.grounder.map(|(g, phrases)| g.ground(&encoded, phrases, &self.plan.ground)).transpose().map_err(failed)?;
        let caption = match self.captioner {
            Some((captioner, plan)) if nth.is_multiple_of(plan.every.max(1)) => {
                Some(captioner.caption(&encoded, &plan.options, &mut ()).map_err(failed)?)
            }
            _ => None,
        };
        Ok(FrameResult {
            meta: frame.meta().clone(),
            width: frame.width(),
            height: frame.height(),
            age_at_start,
            age_at_end: clock.now().saturating_sub(captured_at),
            embedding,
            detections,
            caption,
        })
    }
}

#[cfg(test)]
mod tests;
