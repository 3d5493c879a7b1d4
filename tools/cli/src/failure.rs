//! How a command ends: exit codes, and errors as one sentence.

use std::io::{self, Write};
use std::process::ExitCode;

/// How a command that was carried out ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Everything went well: exit code 0.
    Done,
    /// Done, with bad pictures or damage found, which has been said: exit code 1.
    SomeBad,
    /// The input was wrong, which has been said: exit code 2.
    BadInput,
    /// Stopped by Ctrl-C before the end: exit code 130, as shells have it.
    Interrupted,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::SomeBad => Self::from(1),
            Outcome::BadInput => Self::from(2),
            Outcome::Interrupted => Self::from(130),
        }
    }
}

/// Says a sentence on standard error. Where nobody listens (`2>&1 | head`) there is nothing to be done: no panic, as `eprintln` has it.
pub fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "ocelli: {sentence}");
}

/// The error and its causes as one sentence. Causes that an outer message already quotes are not said twice.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if said.contains(&message) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&message);
    }
    without_codes(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Leaves out " (os error 2)", which Rust puts after what the system said and which tells a user nothing more.
pub fn without_codes(said: &str) -> String {
    let mut parts = said.split(" (os error ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
    }
    kept
}

/// Whether whoever read our output has gone (`| head`): a quiet end, no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// clap's page about a wrong command line, as one sentence: what is wrong, its tip, and where to read on.
pub fn usage_sentence(error: &clap::Error, command: &str) -> String {
    let page = error.to_string();
    let about: Vec<&str> =
        page.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let about = about.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let about = about.trim_start_matches("error: ").trim_end_matches('.').replace(" tip: ", "; tip: ");
    format!("{about}; see `{command} --help`")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = Err::<(), _>(inner).context("photo.jpg: no such file").context("cannot read").unwrap_err();
        assert_eq!(sentence(&error), "cannot read: photo.jpg: no such file");
    }

    #[test]
    fn a_sentence_has_one_line() {
        assert_eq!(sentence(&anyhow::anyhow!("two\n  lines")), "two lines");
    }

    #[test]
    fn codes_of_the_system_are_left_out() {
        let error = anyhow::anyhow!("/nope: No such file or directory (os error 2): is it there?");
        assert_eq!(sentence(&error), "/nope: No such file or directory: is it there?");
        assert_eq!(sentence(&anyhow::anyhow!("(os error 2")), "(os error 2");
    }

    #[test]
    fn broken_pipe_is_seen_through_context() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("standard output");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }

    #[test]
    fn usage_errors_are_one_sentence() {
        let command = clap::Command::new("ocelli").arg(clap::Arg::new("loop").long("loop"));
        let error = command.try_get_matches_from(["ocelli", "--lop"]).unwrap_err();
        let said = usage_sentence(&error, "ocelli");
        assert!(said.starts_with("unexpected argument '--lop' found; tip: "), "{said}");
        assert!(said.ends_with("see `ocelli --help`"), "{said}");
        assert!(!said.contains('\n'));
    }
}
