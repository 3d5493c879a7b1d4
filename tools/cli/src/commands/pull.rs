//! `ocelli pull`: a model from the Hugging Face Hub. The only command that opens a connection.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use ocelli_hub::{HubError, Request, Settings};

use crate::commands::import::Making;
use crate::failure::Outcome;
use crate::interrupt::Stop;
use crate::output::Output;
use crate::progress::Progress;
use crate::session::Session;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model on the Hub, with a branch, tag or commit if you like
    #[arg(value_name = "ORG/NAME[@REV]")]
    repository: String,
    /// Bundle to write; default: NAME.ocelli, here
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    making: Making,
}

/// Fetches what an importer needs into the cache (`HF_HOME`), and imports it.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let settings = Settings::from_env()?;
    let request = Request::parse(&args.repository, settings)?;
    let output = match args.output {
        Some(output) => output,
        None => {
            let name = args.repository.split('@').next().and_then(|model| model.rsplit('/').next()).context("a model has a name")?;
            PathBuf::from(format!("{name}.ocelli"))
        }
    };
    args.making.check(&output)?;
    let mut bars = Bars { out: &session.out, bar: None, stop: Stop::on_ctrl_c()? };
    let snapshot = match ocelli_hub::pull(&request, &mut bars) {
        Err(HubError::Cancelled) => return Ok(Outcome::Interrupted),
        other => other?,
    };
    bars.bar = None;
    let fetched = snapshot.files.iter().filter(|file| file.fetched);
    let bytes: u64 = fetched.clone().map(|file| file.bytes).sum();
    session.out.note(format!(
        "{} at {}: {} files, {} of them fetched ({:.1} MB), {}",
        snapshot.repo,
        &snapshot.commit[..snapshot.commit.len().min(12)],
        snapshot.files.len(),
        fetched.count(),
        bytes as f64 / 1e6,
        snapshot.folder.display()
    ));
    args.making.carry_out(session, &snapshot.folder, None, &output)
}

/// A bar a file.
struct Bars<'a> {
    out: &'a Output,
    bar: Option<Progress>,
    stop: Stop,
}

impl ocelli_hub::Progress for Bars<'_> {
    fn start(&mut self, file: &str, bytes: u64) {
        self.bar = Some(self.out.bytes(file, bytes));
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &mut self.bar {
            bar.advance(bytes);
        }
    }

    fn finish(&mut self) {
        self.bar = None;
    }

    fn retry(&mut self, file: &str, why: &str, pause: Duration) {
        self.out.note(format!("{file}: {why}; trying again in {:.1} s", pause.as_secs_f64()));
    }

    fn cancelled(&self) -> bool {
        self.stop.raised()
    }
}
