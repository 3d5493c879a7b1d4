//! Which form each weight shall have: by a name, or by a file.
//!
//! ```toml
//! default = "int8"
//!
//! [[rule]]
//! match = "text.layers.*"
//! recipe = "int4"
//! ```
//!
//! `default` goes by what a weight is: `f32`, `f16`, `int8`, `int8g`, `int4` (see [`Storage`]), or `keep`, which is what is done where it is
//! left out. A rule goes by names, in which `*` stands for any letters; of several that match, the last counts.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ocelli_models::table::{Form, Policy, PolicyError, Rule, Storage};
use serde::Deserialize;
use toml::Spanned;

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A recipe that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file system said no.
    #[error("{}: {source}; give one of {WORDS}, or a file that ends in .toml", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no recipe.
    #[error("{}: line {line}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A rule that says nothing about this model.
    #[error("{}: line {line}: {source}", path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: usize,
        /// What is wrong.
        source: PolicyError,
    },
}

/// A policy, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// `int8`, or the file's name.
    pub name: String,
    /// It.
    pub policy: Policy,
    path: PathBuf,
    /// Of each rule.
    lines: Vec<usize>,
}

/// Words for [`Recipe::read`].
const WORDS: &str = "f32, f16, int8, int8g, int4";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Option<Spanned<String>>,
    #[serde(default)]
    rule: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    r#match: Spanned<String>,
    recipe: Spanned<String>,
}

impl Recipe {
    /// By what weights are.
    pub fn of(storage: Storage) -> Self {
        let name = match storage {
            Storage::F32 => "f32",
            Storage::F16 => "f16",
            Storage::Int8 => "int8",
            Storage::Int8Groups => "int8g",
            Storage::Int4 => "int4",
        };
        Self { name: name.to_owned(), policy: Policy::of(storage), path: PathBuf::new(), lines: Vec::new() }
    }

    /// One of `f32`, `f16`, `int8`, `int8g`, `int4`, or a file.
    ///
    /// # Errors
    /// Says what is wrong in the file, and in which line.
    pub fn read(word: &str) -> Result<Self, RecipeError> {
        if let Some(storage) = storage(word) {
            return Ok(Self::of(storage));
        }
        let path = Path::new(word);
        let io = |source| RecipeError::Io { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > MAX_BYTES {
            return Err(RecipeError::File { path: path.to_owned(), line: 1, reason: format!("{length} bytes are no recipe") });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(io)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, RecipeError> {
        let line = |span: Option<Range<usize>>| 1 + text[..span.map_or(0, |span| span.start).min(text.len())].matches('\n').count();
        let failed = |line: usize, reason: String| RecipeError::File { path: path.to_owned(), line, reason };
        let file: File = toml::from_str(text).map_err(|error| failed(line(error.span()), error.message().to_owned()))?;
        let unknown = |word: &Spanned<String>| {
            failed(line(Some(word.span())), format!("{:?} is no recipe; there are {WORDS} and keep", word.get_ref()))
        };
        let default = match &file.default {
            None => None,
            Some(word) if word.get_ref() == "keep" => None,
            Some(word) => Some(storage(word.get_ref()).ok_or_else(|| unknown(word))?),
        };
        let (mut rules, mut lines) = (Vec::new(), Vec::new());
        for entry in file.rule {
            let form = match entry.recipe.get_ref().as_str() {
                "keep" => None,
                word => Some(form(word).ok_or_else(|| unknown(&entry.recipe))?),
            };
            lines.push(line(Some(entry.r#match.span())));
            rules.push(Rule { names: entry.r#match.into_inner(), form });
        }
        if file.default.is_none() && rules.is_empty() {
            return Err(failed(1, "there is neither a `default` nor a [[rule]], so nothing would change".to_owned()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, policy: Policy { default, rules }, path: path.to_owned(), lines })
    }

    /// An error of the policy, with its line.
    pub(crate) fn at_line(&self, source: PolicyError) -> RecipeError {
        RecipeError::Rule { path: self.path.clone(), line: self.lines.get(source.rule()).copied().unwrap_or(1), source }
    }
}

fn storage(word: &str) -> Option<Storage> {
    Some(match word {
        "f32" => Storage::F32,
        "f16" => Storage::F16,
        "int8" => Storage::Int8,
        "int8g" => Storage::Int8Groups,
        "int4" => Storage::Int4,
        _ => return None,
    })
}

fn form(word: &str) -> Option<Form> {
    Some(match storage(word)? {
        Storage::F32 => Form::F32,
        Storage::F16 => Form::F16,
        Storage::Int8 => Form::Int8,
        Storage::Int8Groups => Form::Int8Groups,
        Storage::Int4 => Form::Int4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(text, Path::new("some/mine.toml"))
    }

    #[test]
    fn a_file_is_a_policy() {
        let recipe = parse(
            "default = \"int8\"\n\n[[rule]]\nmatch = \"text.*\"\nrecipe = \"int4\"\n[[rule]]\nmatch = \"text.head*\"\nrecipe = \"keep\"\n",
        );
        let recipe = recipe.unwrap();
        assert_eq!((recipe.name.as_str(), recipe.lines.as_slice()), ("mine.toml", [4, 7].as_slice()));
        assert_eq!(recipe.policy.default, Some(Storage::Int8));
        assert_eq!(recipe.policy.rules[0], Rule { names: "text.*".into(), form: Some(Form::Int4) });
        assert_eq!(recipe.policy.rules[1].form, None);
        assert_eq!(parse("default = \"keep\"").unwrap().policy, Policy::default());
        assert_eq!(Recipe::read("int8g").unwrap().policy, Policy::of(Storage::Int8Groups));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, word) in [
            ("", 1, "nothing would change"),
            ("default = \"int3\"", 1, "int3"),
            ("defolt = \"int8\"", 1, "defolt"),
            ("default = \"int8\"\n[[rule]]\nmatch = \"a\"\nrecipe = \"q4\"", 4, "q4"),
            ("default = \"int8\"\n[[rule]]\nmatch = \"a\"\n", 2, "recipe"),
            ("default = \"int8\"\n[[rule]]\nmatch = \"a\"\nrecipe = \"int4\"\ngroup = 64", 5, "group"),
            ("default = 8", 1, "string"),
            ("default = \"int8\"\n[[rule]\n", 2, ""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("some/mine.toml: line {line}: ")) && error.contains(word), "{text:?}: {error}");
        }
        assert!(Recipe::read("nowhere.toml").unwrap_err().to_string().contains("nowhere.toml"));
    }
}
