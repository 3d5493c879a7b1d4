//! A fixed number of frame buffers, so that streaming does not grow the heap.

use std::sync::Arc;

use heapless::Vec as FixedVec;

/// `N` buffers that come back by themselves: a buffer is free again once every [`Frame`](ocelli_flow::Frame) that shares it is gone.
///
/// A consumer holds one frame, the exchange another, the capture thread fills a third: 4 are enough for one consumer.
#[derive(Debug, Default)]
pub struct Pool<const N: usize> {
    buffers: FixedVec<Arc<Vec<u8>>, N>,
}

impl<const N: usize> Pool<N> {
    /// A pool whose buffers are allocated when they are first needed.
    pub fn new() -> Self {
        Self { buffers: FixedVec::new() }
    }

    /// Has `fill` write into a free buffer and shares the buffer out. `None` if all are in use.
    pub fn fill<E>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Option<Result<Arc<Vec<u8>>, E>> {
        let free = match self.buffers.iter_mut().position(|buffer| Arc::get_mut(buffer).is_some()) {
            Some(free) => free,
            None => {
                self.buffers.push(Arc::default()).ok()?;
                self.buffers.len() - 1
            }
        };
        let shared = self.buffers.get_mut(free)?;
        // The pool's own reference is the only one.
        let buffer = Arc::get_mut(shared)?;
        Some(fill(buffer).map(|()| Arc::clone(shared)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &mut Pool<2>, value: u8) -> Option<Arc<Vec<u8>>> {
        pool.fill(|buffer| {
            buffer.clear();
            buffer.resize(12, value);
            Ok::<_, ()>(())
        })?
        .ok()
    }

    #[test]
    fn buffers_are_reused_and_never_written_while_shared() {
        let mut pool = Pool::new();
        let (a, b) = (take(&mut pool, 1).unwrap(), take(&mut pool, 2).unwrap());
        assert!(take(&mut pool, 3).is_none());
        let (at, b_at) = (a.as_ptr(), b.as_ptr());
        drop(a);
        let c = take(&mut pool, 3).unwrap();
        assert_eq!((c.as_ptr(), b.as_ptr()), (at, b_at), "the freed buffer, not a new one");
        assert!(b.iter().all(|&byte| byte == 2) && c.iter().all(|&byte| byte == 3));
    }

    #[test]
    fn a_failed_fill_leaves_the_buffer_free() {
        let mut pool = Pool::<1>::new();
        assert_eq!(pool.fill(|_| Err("no")), Some(Err("no")));
        assert!(pool.fill(|_| Ok::<_, ()>(())).is_some());
    }
}
