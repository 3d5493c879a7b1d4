//! A progress bar on a terminal for what takes longer than a second.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner shows no bar: it would only flicker.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts what is done. Drawn on standard error, if that is a terminal, once a second has passed.
pub struct Progress {
    place: Option<MultiProgress>,
    bar: ProgressBar,
    started: Instant,
    shown: bool,
}

impl Progress {
    /// `place`: where to draw, `None` for nowhere. `length` unknown: a count without an end.
    pub fn new(place: Option<MultiProgress>, what: &str, length: Option<u64>) -> Self {
        let template = match length {
            Some(_) => "{msg} {wide_bar} {pos}/{len} · {per_sec} · {eta} left",
            None => "{msg} {spinner} {pos} · {per_sec} · {elapsed}",
        };
        Self::with_template(place, what, length, template)
    }

    /// Of bytes.
    pub fn of_bytes(place: Option<MultiProgress>, what: &str, length: u64) -> Self {
        Self::with_template(place, what, Some(length), "{msg} {wide_bar} {bytes}/{total_bytes} · {bytes_per_sec} · {eta} left")
    }

    fn with_template(place: Option<MultiProgress>, what: &str, length: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
        // The templates are constants; the default style stands in if indicatif ever refuses one.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        Self { place, bar, started: Instant::now(), shown: false }
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.advance(1);
    }

    /// So many more are done.
    pub fn advance(&mut self, count: u64) {
        self.bar.inc(count);
        if !self.shown && self.started.elapsed() >= PATIENCE {
            self.shown = true;
            if let Some(place) = &self.place {
                self.bar = place.add(self.bar.clone());
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
