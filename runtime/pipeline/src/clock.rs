//! The clock that captures and results are dated on.

use std::time::Duration;

/// Time that only moves forward.
pub trait Clock: Send + Sync {
    /// Time since a fixed, arbitrary moment: on Linux since boot, as V4L2 drivers date their frames.
    fn now(&self) -> Duration;
}

/// The system's monotonic clock (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Monotonic;

#[cfg(unix)]
impl Clock for Monotonic {
    fn now(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
    }
}

#[cfg(not(unix))]
impl Clock for Monotonic {
    /// Time since the first call: no camera here dates frames on a clock of the system.
    fn now(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_forward() {
        let before = Monotonic.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(Monotonic.now() >= before + Duration::from_millis(2));
    }
}
