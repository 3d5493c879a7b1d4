//! Starting the program and reading what it said.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program that cargo has just built.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ocelli");

/// What it said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }
}

impl Said {
    /// The lines of `--json`.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{self:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Those of one type.
    pub fn lines_of(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["type"] == kind).collect()
    }

    /// Asserts exit code 0.
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts one clear sentence on standard error, with these words in it, nothing on standard output, and exit code 2.
    pub fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        self.one_sentence(words)
    }

    /// Asserts one line on standard error with these words in it, in any case.
    pub fn one_sentence(self, words: &[&str]) -> Self {
        assert_eq!(self.stderr.lines().count(), 1, "one sentence, not {}: {self:?}", self.stderr.lines().count());
        assert!(self.stderr.starts_with("ocelli: "), "{self:?}");
        let lower = self.stderr.to_lowercase();
        for word in words {
            assert!(lower.contains(&word.to_lowercase()), "no {word:?} in {self:?}");
        }
        assert!(!lower.contains("panicked"), "{self:?}");
        self
    }
}

/// The program with these arguments, not started yet.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn ocelli<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Said {
    command(arguments).output().unwrap_or_else(|error| panic!("{PROGRAM}: {error}")).into()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// The start photographs.
#[cfg(feature = "nano")]
pub fn frames() -> std::path::PathBuf {
    // As a user types it, from the root of the repository.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository").join("tests/frames")
}
