//! How a model writes: options that all commands share which let it, and its words on a terminal while they come.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ocelli_flow::{CaptionOptions, GenerateOptions, Grammar, Listener, Sampling};

use crate::output::Output;

/// How to choose the words.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Writing")]
pub struct Generating {
    /// Texts to follow at once; 1 is greedy; default: the model's own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    beams: Option<u16>,
    /// Longest text in tokens; default: the model's own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Beams are compared by log-probability / tokens^P: 0 favours short texts, 1 compares means
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    length_penalty: Option<f32>,
    /// Draw words instead of taking the likeliest; logits are divided by T
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Draw from the K likeliest only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest that together have this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw from those with at least this part of the likeliest's probability
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Seed of the drawing: the same seed draws the same words
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Above 1: words that are there already become less likely
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// No N tokens in a row come twice; 0 allows it
    #[arg(long, value_name = "N")]
    no_repeat_ngram: Option<usize>,
    /// Stop at this text, which is cut off; may be repeated
    #[arg(long, value_name = "S")]
    stop: Vec<String>,
    /// Write only JSON that this JSON schema describes
    #[arg(long, value_name = "F", group = "grammars")]
    json_schema: Option<PathBuf>,
    /// Write only what this regular expression matches
    #[arg(long, value_name = "R", group = "grammars")]
    regex: Option<String>,
    /// Write only what this grammar allows, in Lark's form
    #[arg(long, value_name = "F", group = "grammars")]
    grammar: Option<PathBuf>,
}

impl Generating {
    /// How to caption.
    pub fn captions(&self) -> Result<CaptionOptions> {
        Ok(CaptionOptions { generate: self.options()?, ..CaptionOptions::default() })
    }

    /// What the model is told.
    pub fn options(&self) -> Result<GenerateOptions> {
        let read = |option: &str, path: &PathBuf| fs::read_to_string(path).with_context(|| format!("{option} {}", path.display()));
        let grammar = match (&self.json_schema, &self.regex, &self.grammar) {
            (Some(path), ..) => Some(Grammar::JsonSchema(read("--json-schema", path)?)),
            (_, Some(regex), _) => Some(Grammar::Regex(regex.clone())),
            (.., Some(path)) => Some(Grammar::Lark(read("--grammar", path)?)),
            _ => None,
        };
        let draws =
            self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some() || self.seed.is_some();
        let sampling = draws.then(|| Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed.unwrap_or(0),
        });
        Ok(GenerateOptions {
            max_tokens: self.max_tokens.map(|tokens| tokens as usize),
            beams: self.beams.map(usize::from),
            length_penalty: self.length_penalty,
            sampling,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram: self.no_repeat_ngram,
            stop: self.stop.clone(),
            grammar,
        })
    }
}

/// Shows words on a terminal as they come; elsewhere nothing, where the whole text follows anyway.
pub struct Live {
    shows: bool,
    /// Nothing has come yet: blanks before the first word are left out.
    fresh: bool,
}

impl Live {
    /// For the one text of a command.
    pub fn new(out: &Output) -> Self {
        Self { shows: !out.json() && io::stdout().is_terminal(), fresh: true }
    }

    /// Nothing is shown.
    pub fn hidden() -> Self {
        Self { shows: false, fresh: true }
    }

    /// Ends the line of what was shown, or prints the whole text.
    pub fn finish(self, out: &Output, text: &str) -> Result<()> {
        out.text(if self.shows { "" } else { text })
    }
}

impl Listener for Live {
    fn hears(&self) -> bool {
        self.shows
    }

    fn piece(&mut self, text: &str) -> ControlFlow<()> {
        let text = if self.fresh { text.trim_start() } else { text };
        if !self.shows || text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.fresh = false;
        let mut stdout = io::stdout();
        // A reader that has gone wants no more.
        match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_alone_draws() {
        let generating = Generating { seed: Some(7), ..Default::default() };
        let sampling = generating.options().unwrap().sampling.unwrap();
        assert_eq!((sampling.seed, sampling.temperature), (7, 1.0));
        assert_eq!(Generating::default().options().unwrap(), GenerateOptions::default());
    }

    #[test]
    fn a_schema_that_is_not_there_is_named() {
        let generating = Generating { json_schema: Some("nowhere.json".into()), ..Default::default() };
        assert!(format!("{:#}", generating.options().unwrap_err()).contains("nowhere.json"));
    }
}
