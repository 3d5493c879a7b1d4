//! The number of threads, in a process in which nothing has computed yet.

use ocelli_ops::{ThreadsError, cpu, set_threads};

#[test]
fn threads_are_set_once() {
    assert_eq!(set_threads(3), Ok(()));
    assert_eq!(rayon::current_num_threads(), 3);
    assert_eq!(cpu::pool().threads(), 3);
    assert_eq!(set_threads(2), Err(ThreadsError));
}
