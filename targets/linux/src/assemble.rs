//! A driver's buffer to a frame.

use std::sync::Arc;
use std::time::Duration;

use ocelli_flow::{FrameMeta, Next, SourceError};
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
        let (layout, mut size) = (self.layout, [0, 0]);
        let filled = self.pool.fill(|pixels| layout.read(bytes, pixels).map(|found| size = found));
        let Some(filled) = filled else {
            self.dropped += 1;
            return None;
        };
        let meta = FrameMeta { origin: Arc::clone(&self.device), sequence, captured_at: info.captured_at, dropped: self.dropped };
        match filled.and_then(|pixels| layout.frame(size, pixels, meta)) {
            Ok(frame) => {
                self.dropped = 0;
                Some(Next::Frame(frame))
            }
            Err(reason) => Some(self.bad(reason)),
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
    use ocelli_flow::{Frame, YuvRange};

    use crate::pixels::PixelFormat;

    fn assembler() -> Assembler {
        of_format(PixelFormat::Grey, 2)
    }

    /// Pictures of 2 x 1 pixels.
    fn of_format(format: PixelFormat, stride: u32) -> Assembler {
        Assembler::new("/dev/fake".into(), Layout { format, width: 2, height: 1, stride, range: YuvRange::Full })
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

    #[test]
    fn luma_and_chroma_go_through_the_pool_as_they_are() {
        let mut assembler = of_format(PixelFormat::Yuyv, 6);
        let frame = good(assembler.frame(&[10, 128, 20, 128, 0, 0, 77], info(0)));
        let at = frame.as_yuv().unwrap().bytes().as_ptr();
        assert_eq!(frame.as_yuv().unwrap().bytes(), [10, 128, 20, 128, 0, 0]);
        assert_eq!(frame.rgb(), [10, 10, 10, 20, 20, 20]);
        // Nor does an RGB copy keep the buffer.
        drop(frame);
        let held: Vec<Frame> = (1..=BUFFERS as u32).map(|n| good(assembler.frame(&[n as u8, 128, 0, 128], info(n)))).collect();
        assert!(assembler.frame(&[9; 4], info(9)).is_none());
        assert_eq!(held[0].as_yuv().unwrap().bytes().as_ptr(), at, "the same buffer again");
        assert_eq!(held[0].rgb(), [1, 1, 1, 0, 0, 0]);
        drop(held);
        let Some(Next::Bad { error: SourceError::Camera { reason, .. }, .. }) = assembler.frame(&[1, 2, 3], info(10)) else {
            panic!("too short");
        };
        assert_eq!(reason, "the driver gave too little: 2 x 1 pixels of YUYV take 4 bytes, but there are 3");
    }
}
