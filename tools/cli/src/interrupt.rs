//! Ctrl-C: the first finishes what is in hand and flushes, the second quits at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// Raised by the first Ctrl-C (or SIGTERM).
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From here on Ctrl-C raises the flag this returns.
    pub fn on_ctrl_c() -> Result<Self> {
        let stop = Self::default();
        let flag = Arc::clone(&stop.0);
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .context("cannot take over Ctrl-C")?;
        Ok(stop)
    }

    /// Whether to end after the frame in hand.
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, for a loop that lives in another crate.
    pub fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }
}
