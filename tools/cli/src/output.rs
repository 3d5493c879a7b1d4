//! Results on standard output, remarks and errors on standard error, neither torn by a progress bar.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressDrawTarget};
use ocelli_pipeline::json::Line;
use serde::Serialize;

use crate::failure;
use crate::progress::Progress;

/// Where the program speaks. A clone speaks in the same place.
#[derive(Clone)]
pub struct Output {
    json: bool,
    quiet: bool,
    bars: MultiProgress,
    stdout_is_terminal: bool,
}

impl Output {
    /// `json`: one object a line; `quiet`: no bars, no remarks.
    pub fn new(json: bool, quiet: bool) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { json, quiet, bars, stdout_is_terminal: io::stdout().is_terminal() }
    }

    /// Whether results are JSON lines.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A bar for `what` (a plural: "pictures").
    pub fn progress(&self, what: &str, length: Option<u64>) -> Progress {
        Progress::new((!self.quiet).then(|| self.bars.clone()), what, length)
    }

    /// A bar for `what` ("importing") that counts bytes.
    pub fn bytes(&self, what: &str, length: u64) -> Progress {
        Progress::of_bytes((!self.quiet).then(|| self.bars.clone()), what, length)
    }

    /// One JSON line.
    pub fn line(&self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value).context("cannot write this result as JSON")?;
        self.text(&line)
    }

    /// Text for people, with a line end.
    pub fn text(&self, text: impl Display) -> Result<()> {
        self.put(text).context("standard output")
    }

    /// The same with the system's own error, for a [`Sink`](ocelli_flow::Sink).
    pub fn put(&self, text: impl Display) -> io::Result<()> {
        let write = || writeln!(io::stdout(), "{text}");
        // A bar on standard error only shares the screen with results if both are the terminal.
        if self.stdout_is_terminal { self.bars.suspend(write) } else { write() }
    }

    /// What was buffered goes out.
    pub fn flush(&self) -> io::Result<()> {
        io::stdout().flush()
    }

    /// A remark on standard error; not where `--quiet` is.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            self.bars.suspend(|| failure::say(&text.to_string()));
        }
    }

    /// What was wrong: a sentence on standard error, whatever `--quiet` says.
    pub fn complain(&self, message: &str) {
        self.bars.suspend(|| failure::say(message));
    }

    /// What was wrong with one picture: a sentence on standard error and, in JSON, a line among the results.
    pub fn problem(&self, image: &str, message: &str) -> Result<()> {
        self.complain(message);
        if self.json { self.line(&Line::error(image, &message)) } else { Ok(()) }
    }
}
