//! Memory that the tasks of one job write, each its own part.

/// The start of a slice that several tasks write to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedMut<T>(*mut T, usize);

// SAFETY: every access is unsafe, and its caller answers for no two tasks touching the same element.
unsafe impl<T: Send> Send for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// The slice's memory; the slice must outlive every use.
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr(), slice.len())
    }

    /// Pointer to element `i`.
    ///
    /// # Safety
    /// `i` is within the slice, and what is written there no other task touches.
    #[inline(always)]
    pub(crate) unsafe fn at(&self, i: usize) -> *mut T {
        debug_assert!(i <= self.1, "{i} of {}", self.1);
        // SAFETY: the caller's.
        unsafe { self.0.add(i) }
    }

    /// Writes element `i`.
    ///
    /// # Safety
    /// As [`SharedMut::at`].
    #[inline(always)]
    pub(crate) unsafe fn write(&self, i: usize, value: T) {
        debug_assert!(i < self.1, "{i} of {}", self.1);
        // SAFETY: the caller's.
        unsafe { self.0.add(i).write(value) }
    }

    /// The part that begins at element `i`.
    ///
    /// # Safety
    /// As [`SharedMut::at`].
    #[inline(always)]
    pub(crate) unsafe fn from(&self, i: usize) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { self.at(i) }, self.1 - i)
    }
}
