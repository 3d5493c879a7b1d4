//! The `ocelli` command: results on standard output, everything else on standard error.
//!
//! | module | what |
//! |---|---|
//! | [`args`] | the command line as typed |
//! | [`session`] | what all commands share once it is validated: model, device, output |
//! | [`commands`] | one file a command: its arguments, what they become, and what it does |
//! | [`output`], [`show`], [`progress`], [`failure`], [`interrupt`] | how it speaks, and how it ends |
//! | [`source`], [`pixels`], [`images`], [`text`], [`zero_shot`] | pictures, texts and labels, one after another |
//! | [`generating`] | how a model writes texts |
//! | [`cache`] | embeddings kept between searches |
//! | [`camera`] | a camera as a source of frames |
//! | [`embedded`] | nano, inside the program |
//! | [`measure`] | what `eval` measures |
//! | [`drawing`] | `ground`'s boxes on a copy of the picture |
//! | [`usage`], [`stats`] | time and memory, and what is said of many measurements |
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

mod args;
mod cache;
mod camera;
mod commands;
mod drawing;
mod embedded;
mod failure;
mod generating;
mod images;
mod interrupt;
mod lora;
mod measure;
mod output;
mod pixels;
mod progress;
mod session;
mod show;
mod source;
mod stats;
mod text;
mod usage;
mod zero_shot;

use crate::args::{Cli, Command};
use crate::session::Session;

fn main() -> ExitCode {
    let started = Instant::now();
    ocelli_linux::memory::give_back_large();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain_usage(&error),
    };
    let result = Session::new(cli.global, started).and_then(|session| match cli.command {
        Command::Run(args) => commands::run::run(&session, args),
        Command::Embed(args) => commands::embed::run(&session, args),
        Command::Classify(args) => commands::classify::run(&session, args),
        Command::Ground(args) => commands::ground::run(&session, args),
        Command::Preprocess(args) => commands::preprocess::run(&session, args),
        Command::Ask(args) => commands::ask::run(&session, args),
        Command::Match(args) => commands::matching::run(&session, args),
        Command::Caption(args) => commands::caption::run(&session, args),
        Command::Search(args) => commands::search::run(&session, args),
        Command::Eval(args) => commands::eval::run(&session, args),
        Command::Import(args) => commands::import::run(&session, args),
        Command::Quantize(args) => commands::quantize::run(&session, args),
        Command::Inspect(args) => commands::inspect::run(&session, args),
        Command::Pull(args) => commands::pull::run(&session, args),
        Command::Verify(args) => commands::verify::run(&session, args),
        Command::Bench(args) => commands::bench::run(&session, args),
        Command::Completions(args) => commands::completions::run(&args),
    });
    match result {
        Ok(outcome) => outcome.into(),
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::say(&failure::sentence(&error));
            ExitCode::from(2)
        }
    }
}

/// Help and version are answers; anything else clap says is a usage error: one sentence, exit code 2.
fn explain_usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !error.use_stderr() || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
        // A reader that has gone (`ocelli --help | head -1`) is no failure.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let known = <Cli as clap::CommandFactory>::command();
    let command = std::env::args().skip(1).find(|word| known.find_subcommand(word).is_some());
    let command = command.map_or_else(|| "ocelli".to_owned(), |name| format!("ocelli {name}"));
    failure::say(&failure::usage_sentence(error, &command));
    ExitCode::from(2)
}
