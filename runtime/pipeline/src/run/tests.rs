use std::sync::Arc;

use super::*;
use crate::newest::Live;
use crate::testing::{FakeCamera, FakeClock, FakeModel, FakeSink, FakeSource};

static GO: AtomicBool = AtomicBool::new(false);

fn plan(model: &FakeModel) -> Plan {
    Plan {
        embed: true,
        phrases: Some(model.phrases(&["a cat", "a dog"]).unwrap()),
        caption: Some(CaptionPlan { every: 2, ..CaptionPlan::default() }),
        ..Plan::default()
    }
}

#[test]
fn every_picture_is_looked_at_once_and_bad_ones_are_counted() {
    let (model, mut sink) = (FakeModel::default(), FakeSink::default());
    let mut source = FakeSource::with_bad(5, &[2]);
    let summary = run(&mut source, &model, &plan(&model), &mut sink, &GO, &FakeClock::default()).unwrap();
    assert_eq!(summary, Summary { frames: 4, bad: 1, ..Summary::default() });
    assert_eq!(model.encodes.load(Ordering::SeqCst), 4, "one encode a frame, for three heads");
    let seen = sink.seen();
    assert_eq!(seen.bad, ["2.jpg"]);
    assert_eq!(seen.flushes, 1);
    assert_eq!(seen.results.iter().map(|r| r.meta.sequence).collect::<Vec<_>>(), [0, 1, 3, 4]);
    assert!(seen.results.iter().all(|r| r.detections.as_ref().unwrap().len() == 2 && r.embedding.is_some()));
    let captions: Vec<_> = seen.results.iter().map(|r| r.caption.as_ref().map(|c| c.text.as_str())).collect();
    assert_eq!(captions, [Some("grey 0"), None, Some("grey 3"), None], "every second frame looked at");
}

#[test]
fn every_counts_by_sequence_number() {
    let (model, mut sink) = (FakeModel::default(), FakeSink::default());
    let plan = Plan { every: 3, ..Plan::default() };
    let mut source = FakeSource::with_bad(8, &[3]);
    let summary = run(&mut source, &model, &plan, &mut sink, &GO, &FakeClock::default()).unwrap();
    // 0; 3 is due but bad, so 4; 7.
    assert_eq!(sink.seen().results.iter().map(|r| r.meta.sequence).collect::<Vec<_>>(), [0, 4, 7]);
    assert_eq!((summary.frames, summary.bad, summary.skipped), (3, 1, 4));
    assert!(sink.seen().results.iter().all(|r| r.detections.is_none() && r.caption.is_none() && r.embedding.is_none()));
}

#[test]
fn stop_finishes_the_frame_and_flushes() {
    struct StopsAt<'a>(FakeSink, &'a AtomicBool);
    impl Sink for StopsAt<'_> {
        fn result(&mut self, frame: &Frame, result: &FrameResult) -> Result<(), SinkError> {
            self.1.store(frame.meta().sequence == 1, Ordering::Relaxed);
            self.0.result(frame, result)
        }
        fn bad(&mut self, origin: &str, error: &SourceError) -> Result<(), SinkError> {
            self.0.bad(origin, error)
        }
        fn flush(&mut self) -> Result<(), SinkError> {
            self.0.flush()
        }
    }
    let (model, seen, stop) = (FakeModel::default(), FakeSink::default(), AtomicBool::new(false));
    let mut sink = StopsAt(seen.clone(), &stop);
    let mut source = FakeSource::with_bad(9, &[]);
    let summary = run(&mut source, &model, &Plan::default(), &mut sink, &stop, &FakeClock::default()).unwrap();
    assert_eq!((summary.frames, summary.stopped), (2, true));
    assert_eq!((seen.seen().results.len(), seen.seen().flushes), (2, 1));
}

#[test]
fn max_frames_ends_it() {
    let (model, mut sink) = (FakeModel::default(), FakeSink::default());
    let plan = Plan { max_frames: Some(2), ..Plan::default() };
    let summary = run(&mut FakeSource::with_bad(9, &[]), &model, &plan, &mut sink, &GO, &FakeClock::default()).unwrap();
    assert_eq!((summary.frames, summary.stopped), (2, false));
}

#[test]
fn what_the_model_lacks_is_said_before_the_first_frame() {
    let (with, without) = (FakeModel::default(), FakeModel { headless: true, ..FakeModel::default() });
    let (mut source, mut sink) = (FakeSource::with_bad(1, &[]), FakeSink::default());
    let error = run(&mut source, &without, &plan(&with), &mut sink, &GO, &FakeClock::default()).unwrap_err();
    assert!(matches!(error, RunError::Unsupported { task: "embed", .. }), "{error}");
    assert_eq!(source.0.len(), 1);
}

#[test]
fn a_failing_model_names_the_frame_and_earlier_results_are_flushed() {
    let (model, mut sink) = (FakeModel { fails_at: Some(1), ..FakeModel::default() }, FakeSink::default());
    let error = run(&mut FakeSource::with_bad(3, &[]), &model, &Plan::default(), &mut sink, &GO, &FakeClock::default()).unwrap_err();
    assert_eq!(error.to_string(), "1.jpg: encode: on purpose");
    assert_eq!((sink.seen().results.len(), sink.seen().flushes), (1, 1));
}

/// A camera at 10 frames a second and a model that takes a quarter of one: frames 0, 2, 5, … as they are the newest when it is free.
#[test]
fn a_slow_model_gets_the_newest_frame_with_its_age() {
    let clock = FakeClock::default();
    let model = FakeModel { clock: clock.clone(), takes: Duration::from_millis(250), ..FakeModel::default() };
    let mut camera = FakeCamera::new(clock.clone(), Duration::from_millis(100), 7);
    let mut sink = FakeSink::default();
    let error = run(&mut camera, &model, &Plan::default(), &mut sink, &GO, &clock).unwrap_err();
    assert!(matches!(error, RunError::Source(SourceError::Camera { .. })), "unplugged at the end");
    let seen = sink.seen();
    let told = |r: &FrameResult| (r.meta.sequence, r.meta.dropped, r.age_at_start.as_millis(), r.age_at_end.as_millis());
    assert_eq!(seen.results.iter().map(told).collect::<Vec<_>>(), [(0, 0, 0, 250), (2, 1, 50, 300), (5, 2, 0, 250), (7, 1, 50, 300)]);
    assert_eq!(seen.flushes, 1);
}

/// Through the real thread: how many arrive depends on timing, but none is lost without being counted, and they come in order.
#[test]
fn live_frames_are_delivered_or_counted() {
    let clock = FakeClock::default();
    let camera = FakeCamera::new(clock.clone(), Duration::from_millis(10), 499);
    let (model, mut sink) = (FakeModel::default(), FakeSink::default());
    let mut live = Live::start(camera, Arc::default());
    run(&mut live, &model, &Plan::default(), &mut sink, &GO, &clock).unwrap_err();
    let results = sink.seen().results;
    assert_eq!(results.last().unwrap().meta.sequence, 499, "the last frame is never stale");
    assert!(results.windows(2).all(|pair| pair[0].meta.sequence + pair[1].meta.dropped + 1 == pair[1].meta.sequence));
    assert_eq!(results.iter().map(|r| r.meta.dropped + 1).sum::<u64>(), 500);
}
