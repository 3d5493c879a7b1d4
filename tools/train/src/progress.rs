//! Progress on the terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `steps` steps with the time left and a message (loss, rate, dev figures). Silent where there is no terminal.
pub fn bar(steps: u64, done: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {elapsed_precise} left {eta} {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar.set_position(done);
    bar
}

/// A running mean that forgets, for losses in a bar's message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Running {
    mean: f64,
    count: u32,
}

impl Running {
    /// Adds a value; the last hundred or so count.
    pub fn push(&mut self, value: f64) {
        self.count = (self.count + 1).min(100);
        self.mean += (value - self.mean) / f64::from(self.count);
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }
}
