//! How many CPU threads compute.

/// The number of threads was asked for too late: computing has begun.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the number of threads can only be set before the first computation; set it once, at the start")]
pub struct ThreadsError;

/// Lets the CPU device compute on `count` threads, at least one. Call it before the first computation; without it there is one a core.
///
/// The kernels have a pool of their own; what burn's CPU backends compute shares rayon's global pool. Both get this size; an idle pool
/// sleeps.
pub fn set_threads(count: usize) -> Result<(), ThreadsError> {
    if !crate::cpu::set_pool(count.max(1)) {
        return Err(ThreadsError);
    }
    rayon::ThreadPoolBuilder::new().num_threads(count.max(1)).build_global().map_err(|_| ThreadsError)
}
