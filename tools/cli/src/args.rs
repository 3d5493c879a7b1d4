//! The command line as typed. Each command's own arguments stand in its file and are validated there.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ocelli_ops::device::DeviceChoice;

use crate::commands::{
    ask, bench, caption, classify, completions, embed, eval, ground, import, inspect, matching, preprocess, pull, quantize, run, search,
    verify,
};

/// See what is in pictures and camera frames, where it is, and say it in one sentence. Offline.
#[derive(Debug, Parser)]
#[command(name = "ocelli", version, arg_required_else_help = true, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Results go to standard output, everything else to standard error. \
Exit codes: 0 done; 1 done, but some pictures of `run` were bad (or `inspect --verify` found damage, or `verify` a difference); \
2 the command or its input was wrong.";

/// Understood by every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Model bundle (.ocelli); default: nano, which is inside this program
    #[arg(short = 'm', long, global = true, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// Where to compute: auto, cpu, gpu or ndarray
    #[arg(long, global = true, value_name = "D", default_value = "auto")]
    pub device: DeviceChoice,

    /// CPU threads; default: one a core
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Instruction set of the CPU's kernels, for comparing (also OCELLI_ISA); default: the fastest there is
    #[arg(long, global = true, value_name = "NAME")]
    pub isa: Option<String>,

    /// One JSON object a line on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// No progress bar and no remarks; errors are still said
    #[arg(short = 'q', long, global = true)]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stream pictures or a camera through the model
    Run(run::Args),
    /// Turn pictures and texts into vectors of one space
    Embed(embed::Args),
    /// Which of some labels fits a picture
    Classify(classify::Args),
    /// Where in a picture a phrase is
    Ground(ground::Args),
    /// One sentence about a picture
    Caption(caption::Args),
    /// An answer to a question about pictures
    Ask(ask::Args),
    /// Whether a text describes a picture
    Match(matching::Args),
    /// Write what the model's towers read of a picture
    Preprocess(preprocess::Args),
    /// Find the pictures of a folder that fit a text
    Search(search::Args),
    /// Measure a model on a labelled folder
    Eval(eval::Args),
    /// Make a bundle of a Hugging Face or open_clip checkpoint
    Import(import::Args),
    /// Keep a bundle's weights in fewer bits, and say what that costs
    Quantize(quantize::Args),
    /// What is in a bundle
    Inspect(inspect::Args),
    /// Fetch a model from the Hugging Face Hub and import it: the only command that opens a connection
    Pull(pull::Args),
    /// Whether this build and device compute what the bundle's golden vectors say
    Verify(verify::Args),
    /// How long each stage takes on this machine
    Bench(bench::Args),
    /// Completions for a shell, on standard output
    Completions(completions::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn globals_may_follow_the_command() {
        let cli = Cli::try_parse_from(["ocelli", "caption", "--image", "a.jpg", "--json", "--threads", "2"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.threads, Some(2));
    }

    #[test]
    fn zero_threads_are_refused() {
        assert!(Cli::try_parse_from(["ocelli", "inspect", "--threads", "0"]).is_err());
    }
}
