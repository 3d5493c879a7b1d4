//! Time and memory this process has used.

use std::time::{Duration, Instant};

/// CPU time of all threads so far; `None` where the system does not tell.
#[cfg(unix)]
pub fn cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

/// CPU time of all threads so far; `None` where the system does not tell.
#[cfg(not(unix))]
pub fn cpu_time() -> Option<Duration> {
    None
}

/// Largest resident set so far in bytes; `None` where the system does not tell.
pub fn peak_rss_bytes() -> Option<u64> {
    parse_peak(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What one call took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Took {
    /// On the clock.
    pub wall_ms: f64,
    /// Of all threads together; wall time where the system does not tell.
    pub cpu_ms: f64,
}

/// Runs `work` and says what it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let cpu = cpu_time();
    let wall = Instant::now();
    let value = work();
    let wall_ms = wall.elapsed().as_secs_f64() * 1e3;
    let cpu_ms = cpu.zip(cpu_time()).map_or(wall_ms, |(from, to)| to.saturating_sub(from).as_secs_f64() * 1e3);
    (value, Took { wall_ms, cpu_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_read_in_bytes() {
        assert_eq!(parse_peak("VmPeak:\t 9 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 5 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_peak("VmRSS:\t 5 kB\n"), None);
    }

    #[test]
    fn sleeping_takes_time_but_no_cpu() {
        let ((), took) = timed(|| std::thread::sleep(Duration::from_millis(20)));
        assert!(took.wall_ms >= 20.0);
        #[cfg(unix)]
        assert!(cpu_time().is_some());
    }
}
