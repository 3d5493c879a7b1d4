//! `ocelli completions SHELL`.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Outcome;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

/// Writes the script; into memory first, because the generator panics where its writer fails.
pub fn run(args: &Args) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ocelli", &mut script);
    io::stdout().write_all(&script).context("standard output")?;
    Ok(Outcome::Done)
}
