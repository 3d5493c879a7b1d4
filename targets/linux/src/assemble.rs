//! A driver's buffer to a frame.

use std::sync::Arc;
use std::time::Duration;

use ocelli_flow::{Frame, FrameMeta, Next, SourceError};
use ocelli_pipeline::Pool;

use crate::pixels::Layout;
use crate::sequence::Sequence;

/// One is with the consumer, one in the exchange, one is being filled, one to spare.
const BUFFERS: usize = 4;

/// What the driver says of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferInfo {
    /// The driver's frame counter.
    pub sequence: u32,
    /// Time of capture on the monotonic clock.
    pub captured_at: Duration,
    /// The driver noticed that the data is damaged.
    pub damaged: bool,
}

/// Turns buffers into frames of a fixed pool.
pub struct Assembler {
    device: Arc<str>,
    layout: Layout,
    pool: Pool<BUFFERS>,
    sequence: Sequence,
    /// Frames lost since the last one that was handed out.
    dropped: u64,
}

impl Assembler {
    /// For the buffers of `device`.
    pub fn new(device: Arc<str>, layout: Layout) -> Self {
        Self { device, layout, pool: Pool::new(), sequence: Sequence::default(), dropped: 0 }
    }

    /// One buffer's frame. `None`: the frame is given up because all of the pool is in use; the next one counts it.
    pub fn frame(&mut self, bytes: &[u8], info: BufferInfo) -> Option<Next> {
        let (sequence, dropped) = self.sequence.next(info.sequence);
        self.dropped += dropped;
        if info.damaged {
            return Some(self.bad("the driver marked the frame as damaged; a loose cable or too little USB bandwidth".to_owned()));
        }
        let (layout, mut size) = (self.layout, (0, 0));
        let filled = self.pool.fill(|rgb| layout.to_rgb(bytes, rgb).map(|found| size = found));
        let Some(filled) = filled else {
            self.dropped += 1;
            return None;
        };
        let rgb = match filled {
            Ok(rgb) => rgb,
            Err(reason) => return Some(self.bad(reason)),
        };
        let meta = FrameMeta { origin: Arc::clone(&self.device), sequence, captured_at: info.captured_at, dropped: self.dropped };
        match Frame::new(size.0, size.1, rgb, meta) {
            Some(frame) => {
                self.dropped = 0;
                Some(Next::Frame(frame))
            }
            None => Some(self.bad("the frame has no pixels".to_owned())),
        }
    }

    fn bad(&self, reason: String) -> Next {
        let device = self.device.to_string();
        Next::Bad { origin: device.clone(), error: SourceError::Camera { device, reason } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_preprocess::YuvRange;

    use crate::pixels::PixelFormat;

    fn assembler() -> Assembler {
        let layout = Layout { format: PixelFormat::Grey, width: 2, height: 1, stride: 2, range: YuvRange::Limited };
        Assembler::new("/dev/fake".into(), layout)
    }

    fn info(sequence: u32) -> BufferInfo {
        BufferInfo { sequence, captured_at: Duration::from_millis(u64::from(sequence)), damaged: false }
    }

    fn good(next: Option<Next>) -> Frame {
        match next {
            Some(Next::Frame(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn meta_comes_from_the_driver() {
        let mut assembler = assembler();
        good(assembler.frame(&[1, 2], info(5)));
        let frame = good(assembler.frame(&[3, 4], info(8)));
        assert_eq!(frame.rgb(), [3, 3, 3, 4, 4, 4]);
        let meta = FrameMeta { origin: "/dev/fake".into(), sequence: 3, captured_at: Duration::from_millis(8), dropped: 2 };
        assert_eq!(*frame.meta(), meta);
    }

    #[test]
    fn bad_buffers_are_reported_and_keep_the_count() {
        let mut assembler = assembler();
        good(assembler.frame(&[1, 2], info(0)));
        assert!(matches!(assembler.frame(&[1], info(2)), Some(Next::Bad { .. })), "too short");
        assert!(matches!(assembler.frame(&[1, 2], BufferInfo { damaged: true, ..info(3) }), Some(Next::Bad { .. })));
        let frame = good(assembler.frame(&[1, 2], info(4)));
        assert_eq!((frame.meta().sequence, frame.meta().dropped), (4, 1));
    }

    #[test]
    fn a_full_pool_drops_and_counts_and_recovers() {
        let mut assembler = assembler();
        let mut held: Vec<Frame> = (0..BUFFERS as u32).map(|n| good(assembler.frame(&[n as u8, 0], info(n)))).collect();
        assert!(assembler.frame(&[9, 9], info(4)).is_none());
        assert!(assembler.frame(&[9, 9], info(5)).is_none());
        assert_eq!(held[0].rgb()[0], 0, "shared pixels are never written");
        held.remove(0);
        assert_eq!(good(assembler.frame(&[9, 9], info(6))).meta().dropped, 2);
    }
}
