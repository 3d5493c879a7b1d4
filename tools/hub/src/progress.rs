//! Whoever wants to see how far a download is.

use std::time::Duration;

/// Told what a pull does, by the thread that calls it. All but the first three methods may be left as they are.
pub trait Progress {
    /// A file begins. Once more for the same file if it has to begin anew, with a server that does not resume: count from 0 again.
    fn start(&mut self, file: &str, bytes: u64);

    /// So many bytes more. The first call of a resumed file covers what was there already.
    fn advance(&mut self, bytes: u64);

    /// The file is whole and its checksum right.
    fn finish(&mut self);

    /// How many files will be fetched, and their bytes in all. Once, before the first `start`; not if nothing is to be fetched.
    fn plan(&mut self, files: usize, bytes: u64) {
        let _ = (files, bytes);
    }

    /// The connection broke, and is tried again after `pause`.
    fn retry(&mut self, file: &str, why: &str, pause: Duration) {
        let _ = (file, why, pause);
    }

    /// Whether to stop. Asked several times a second while data comes; what has arrived is kept.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&mut self, _file: &str, _bytes: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn finish(&mut self) {}
}
