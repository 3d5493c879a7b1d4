//! From a capture thread to its consumer: one slot, newest frame wins.
//!
//! A queue that refuses the *new* frame would hand the consumer ever staler ones. Here a new frame pushes out the one that nobody
//! fetched, and carries the count of what was given up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use heapless::Deque;
use ocelli_flow::{Frame, FrameMeta, FrameSource, Next, SourceError};

/// How often a waiting consumer looks whether it was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// What waits for the consumer.
#[derive(Default)]
struct Slot {
    /// The newest frame that was not fetched yet.
    frame: Deque<Frame, 1>,
    /// Frames pushed out of the slot since the last one that was fetched, with those lost before they came here.
    dropped: u64,
    /// The newest item that could not be read. Kept apart: it must not push out a good frame.
    bad: Option<(String, SourceError)>,
    /// Set once the source has ended, with the reason if it was lost.
    ended: Option<Option<SourceError>>,
}

#[derive(Default)]
struct Exchange {
    slot: Mutex<Slot>,
    changed: Condvar,
    closed: AtomicBool,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // Every change to the slot is complete in itself, so that one a panic interrupted elsewhere does no harm.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what the source had next; false once it has ended.
    fn put(&self, next: Result<Next, SourceError>) -> bool {
        let mut slot = self.lock();
        match next {
            Ok(Next::Frame(frame)) => {
                if let Some(stale) = slot.frame.pop_front() {
                    slot.dropped += 1 + stale.meta().dropped;
                }
                // There is room: the only place was just cleared.
                let _ = slot.frame.push_back(frame);
            }
            Ok(Next::Bad { origin, error }) => slot.bad = Some((origin, error)),
            Ok(Next::End) => slot.ended = Some(None),
            Err(error) => slot.ended = Some(Some(error)),
        }
        let goes_on = slot.ended.is_none();
        drop(slot);
        self.changed.notify_one();
        goes_on
    }

    /// Waits for the next thing, or for `stop`.
    fn take(&self, stop: &AtomicBool) -> Result<Next, SourceError> {
        let mut slot = self.lock();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(Next::End);
            }
            if let Some((origin, error)) = slot.bad.take() {
                return Ok(Next::Bad { origin, error });
            }
            if let Some(frame) = slot.frame.pop_front() {
                let dropped = std::mem::take(&mut slot.dropped);
                return Ok(Next::Frame(with_more_dropped(frame, dropped)));
            }
            if let Some(reason) = &mut slot.ended {
                return reason.take().map_or(Ok(Next::End), Err);
            }
            slot = self.changed.wait_timeout(slot, STOP_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn with_more_dropped(frame: Frame, dropped: u64) -> Frame {
    let meta = FrameMeta { dropped: frame.meta().dropped + dropped, ..frame.meta().clone() };
    frame.with_meta(meta)
}

/// A live source in a thread of its own, of which the consumer gets the newest frame.
///
/// The thread ends with the source, or at the latest one frame after this value is dropped.
pub struct Live {
    exchange: Arc<Exchange>,
    stop: Arc<AtomicBool>,
    capture: Option<JoinHandle<()>>,
}

impl Live {
    /// Starts capturing. Once `stop` is set, a waiting [`next`](FrameSource::next) returns [`Next::End`] soon, even if no frame comes.
    pub fn start<S: FrameSource + 'static>(mut source: S, stop: Arc<AtomicBool>) -> Self {
        let exchange = Arc::new(Exchange::default());
        let theirs = Arc::clone(&exchange);
        let capture = thread::spawn(move || {
            let mut goes_on = true;
            while goes_on && !theirs.closed.load(Ordering::Relaxed) {
                goes_on = theirs.put(source.next());
            }
        });
        Self { exchange, stop, capture: Some(capture) }
    }
}

impl FrameSource for Live {
    fn live(&self) -> bool {
        true
    }

    fn next(&mut self) -> Result<Next, SourceError> {
        if self.capture.as_ref().is_some_and(JoinHandle::is_finished) && self.exchange.lock().ended.is_none() {
            // The thread did not end by itself: the source panicked.
            self.exchange.put(Ok(Next::End));
        }
        self.exchange.take(&self.stop)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.exchange.closed.store(true, Ordering::Relaxed);
        if let Some(capture) = self.capture.take() {
            // A panic in the source was printed when it happened.
            let _ = capture.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn frame(sequence: u64, dropped: u64) -> Frame {
        let meta = FrameMeta { sequence, dropped, ..FrameMeta::still("/dev/fake") };
        Frame::new(1, 1, vec![sequence as u8; 3], meta).unwrap()
    }

    fn expect_frame(next: Result<Next, SourceError>) -> (u64, u64) {
        match next {
            Ok(Next::Frame(frame)) => (frame.meta().sequence, frame.meta().dropped),
            other => panic!("{other:?}"),
        }
    }

    /// A camera that gives what the test sends, when the test sends it.
    struct Scripted(mpsc::Receiver<Result<Next, SourceError>>);

    impl FrameSource for Scripted {
        fn live(&self) -> bool {
            true
        }

        fn next(&mut self) -> Result<Next, SourceError> {
            self.0.recv().unwrap_or(Ok(Next::End))
        }
    }

    fn lost() -> SourceError {
        SourceError::Camera { device: "/dev/fake".into(), reason: "unplugged".into() }
    }

    #[test]
    fn newest_wins_and_every_loss_is_counted() {
        let (exchange, go) = (Exchange::default(), AtomicBool::new(false));
        exchange.put(Ok(Next::Frame(frame(0, 0))));
        assert_eq!(expect_frame(exchange.take(&go)), (0, 0));
        // The driver lost 2 before frame 3; frames 3 and 4 are pushed out.
        for f in [frame(3, 2), frame(4, 0), frame(5, 0)] {
            exchange.put(Ok(Next::Frame(f)));
        }
        assert_eq!(expect_frame(exchange.take(&go)), (5, 4));
        exchange.put(Ok(Next::Frame(frame(6, 0))));
        assert_eq!(expect_frame(exchange.take(&go)), (6, 0), "the count starts anew");
    }

    #[test]
    fn a_bad_frame_pushes_nothing_out_and_the_last_frame_comes_before_the_end() {
        let (exchange, go) = (Exchange::default(), AtomicBool::new(false));
        assert!(exchange.put(Ok(Next::Frame(frame(0, 0)))));
        assert!(exchange.put(Ok(Next::Bad { origin: "/dev/fake".into(), error: lost() })));
        assert!(!exchange.put(Err(lost())));
        assert!(matches!(exchange.take(&go), Ok(Next::Bad { .. })));
        assert_eq!(expect_frame(exchange.take(&go)), (0, 0));
        assert!(matches!(exchange.take(&go), Err(SourceError::Camera { .. })));
        assert!(matches!(exchange.take(&go), Ok(Next::End)), "the reason is told once");
    }

    #[test]
    fn frames_cross_the_thread() {
        let (camera, script) = mpsc::sync_channel(0);
        let mut live = Live::start(Scripted(script), Arc::default());
        for sequence in 0..3 {
            camera.send(Ok(Next::Frame(frame(sequence, 0)))).unwrap();
            assert_eq!(expect_frame(live.next()), (sequence, 0));
        }
        drop(camera);
        assert!(matches!(live.next(), Ok(Next::End)));
    }

    #[test]
    fn stop_ends_the_wait_for_a_silent_camera() {
        let (camera, script) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let mut live = Live::start(Scripted(script), Arc::clone(&stop));
        let waiting = thread::spawn(move || (matches!(live.next(), Ok(Next::End)), live));
        stop.store(true, Ordering::Relaxed);
        let (ended, live) = waiting.join().unwrap();
        assert!(ended);
        drop(camera);
        drop(live);
    }

    #[test]
    fn a_source_that_panics_ends_the_stream() {
        struct Panics;
        impl FrameSource for Panics {
            fn live(&self) -> bool {
                true
            }
            fn next(&mut self) -> Result<Next, SourceError> {
                panic!("on purpose")
            }
        }
        let mut live = Live::start(Panics, Arc::default());
        while !live.capture.as_ref().unwrap().is_finished() {
            thread::yield_now();
        }
        assert!(matches!(live.next(), Ok(Next::End)));
    }
}
