//! The CPU's threads and instruction set, one for the process.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::thread::available_parallelism;

use ocelli_kernels::isa::IsaError;
use ocelli_kernels::{Engine, Isa, Pool};

static POOL: OnceLock<Pool> = OnceLock::new();

thread_local! {
    static ENGINE: RefCell<Engine<'static>> = RefCell::new(Engine::new(Isa::chosen(), pool()));
}

/// The kernels' threads: as many as [`crate::set_threads`] said, else one a core.
pub fn pool() -> &'static Pool {
    POOL.get_or_init(|| Pool::new(available_parallelism().map_or(1, usize::from)))
}

/// Sizes the pool; false where it is there already.
pub(crate) fn set_pool(threads: usize) -> bool {
    POOL.set(Pool::new(threads)).is_ok()
}

/// Fixes the instruction set that kernels compute with: the one named, else the one that `OCELLI_ISA` names, else the fastest. The first
/// choice of a process stays.
pub fn set_isa(name: Option<&str>) -> Result<Isa, IsaError> {
    Isa::choose(name)
}

/// The instruction set that kernels compute with.
pub fn isa() -> Isa {
    Isa::chosen()
}

/// Calls `compute` with this thread's engine.
pub(crate) fn with_engine<R>(compute: impl FnOnce(&mut Engine<'static>) -> R) -> R {
    ENGINE.with_borrow_mut(compute)
}
