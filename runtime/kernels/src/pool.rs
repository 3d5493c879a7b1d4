//! The threads that share a kernel's work.
//!
//! One job at a time: `run(tasks, work)` calls `work(0)` … `work(tasks - 1)`, each once, on the caller's thread and the pool's. A
//! decoder issues hundreds of small kernels a token, so a worker that is out of work looks for more for a while before it sleeps.
//!
//! Tasks are claimed from one word that holds the job's number, its task count and the next task. A claim is a compare-exchange of
//! that word, so a worker that slept through a job's end cannot claim a task of the next one by the old job's count; and whoever has
//! claimed a task keeps the job alive, because `run` returns only when every claimed task is done.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// How often an idle worker looks for work before it sleeps: some hundreds of microseconds, longer than what a decoder does between two kernels.
const SPINS: u32 = 20_000;
/// How often the caller looks whether the last tasks are done before it lets others have its core.
const PATIENCE: u32 = 2000;
const FIELD: u64 = (1 << 20) - 1;
/// Most tasks of one job.
const MOST_TASKS: usize = FIELD as usize;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

thread_local! {
    /// Whether this thread is inside a job: what it asks for then, it does alone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Shared {
    /// `job << 40 | tasks << 20 | next`
    state: AtomicU64,
    work: UnsafeCell<Option<*const Work<'static>>>,
    done: AtomicUsize,
    failed: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
}

// SAFETY: `work` is written only by the one caller that holds the pool's lock while no task is claimed, and read only by those who have
// claimed a task of the job it belongs to; the pointee is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: the pointer is only used as above.
unsafe impl Send for Shared {}

impl Shared {
    /// Does one task of the current job, if one is left.
    fn claim_one(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let (tasks, next) = (state >> 20 & FIELD, state & FIELD);
        if next >= tasks {
            return false;
        }
        if self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return true;
        }
        // SAFETY: this thread has claimed a task and not yet counted it as done, so `run` has not returned: the job is alive, and
        // `work` was written before the `Release` of the state that was read.
        let work = unsafe { (*self.work.get()).map(|work| &*work) };
        if let Some(work) = work {
            INSIDE.set(true);
            if catch_unwind(AssertUnwindSafe(|| work(next as usize))).is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            INSIDE.set(false);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    fn has_work(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state & FIELD < state >> 20 & FIELD
    }

    fn serve(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            if self.claim_one() {
                continue;
            }
            let mut spins = 0;
            while spins < SPINS && !self.has_work() {
                spin_loop();
                spins += 1;
            }
            if spins == SPINS {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !self.has_work() && !self.stop.load(Ordering::SeqCst) {
            door = self.bell.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.door.lock().unwrap_or_else(PoisonError::into_inner));
            self.bell.notify_all();
        }
    }
}

/// A fixed number of threads, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    /// One job at a time.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads`, at least one. Where the system gives fewer, it has fewer: see [`Pool::threads`].
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            done: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            door: Mutex::new(()),
            bell: Condvar::new(),
        });
        let spawn = |i| {
            let shared = shared.clone();
            thread::Builder::new().name(format!("ocelli-kernel-{i}")).spawn(move || shared.serve()).ok()
        };
        let workers = (1..threads).map_while(spawn).collect();
        Self { shared, turn: Mutex::new(()), workers }
    }

    /// How many threads take part.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with 0 … `tasks` − 1, each once, and returns when all have. From inside a task it runs on this thread alone.
    ///
    /// A panic of a task is passed on once the others are done.
    pub fn run(&self, tasks: usize, work: &Work<'_>) {
        if tasks <= 1 || self.workers.is_empty() || tasks > MOST_TASKS || INSIDE.get() {
            return (0..tasks).for_each(work);
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.done.store(0, Ordering::Relaxed);
        // SAFETY: only the lifetime is changed; the pointer is not used after this function has returned.
        let work: *const Work<'static> = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: this thread holds the turn, and all tasks of the job before are done: nobody reads `work` now.
        unsafe { *shared.work.get() = Some(work) };
        let job = (shared.state.load(Ordering::Relaxed) >> 40).wrapping_add(1);
        shared.state.store(job << 40 | (tasks as u64) << 20, Ordering::SeqCst);
        shared.wake();
        while shared.claim_one() {}
        let mut spins = 0;
        while shared.done.load(Ordering::Acquire) < tasks {
            if spins < PATIENCE {
                spin_loop();
                spins += 1;
            } else {
                // A worker that shares this core cannot finish while this thread spins.
                thread::yield_now();
            }
        }
        let failed = shared.failed.swap(false, Ordering::Relaxed);
        drop(turn);
        if failed {
            resume_unwind(Box::new("a kernel's task panicked"));
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.door.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.bell.notify_all();
        for worker in self.workers.drain(..) {
            // A worker ends by itself; tasks' panics are caught.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 17, 200] {
                for _ in 0..50 {
                    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(tasks, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
                }
            }
        }
    }

    #[test]
    fn sleepers_wake_and_nested_jobs_run() {
        let pool = Pool::new(3);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let count = AtomicUsize::new(0);
        pool.run(8, &|_| {
            pool.run(4, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
        });
        assert_eq!(count.load(Ordering::Relaxed), 32);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(16, &|i| assert_ne!(i, 7))));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(16, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 16);
    }
}
