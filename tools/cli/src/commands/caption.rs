//! `ocelli caption`: one sentence about a picture.

use anyhow::Result;
use ocelli_flow::{CaptionOptions, GenerateOptions};
use ocelli_pipeline::json::Line;

use crate::failure::Outcome;
use crate::images::{self, ImageError};
use crate::session::{self, Session};
use crate::source::Pictures;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pictures: Pictures,
    #[command(flatten)]
    decoding: Decoding,
}

/// How to search for the sentence; other commands that caption take it, too.
#[derive(Debug, Clone, clap::Args)]
pub struct Decoding {
    /// Sentences to follow at once; 1 is greedy; default: the model's own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    beams: Option<u16>,
    /// Longest caption in tokens; default: the model's own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_tokens: Option<u16>,
}

impl Decoding {
    /// What the model is told.
    pub fn options(&self) -> CaptionOptions {
        let generate =
            GenerateOptions { beams: self.beams.map(usize::from), max_tokens: self.max_tokens.map(usize::from), ..Default::default() };
        CaptionOptions { generate, ..CaptionOptions::default() }
    }
}

/// One caption a picture.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let model = session.model()?;
    let captioner = session::captioner(&*model)?;
    let options = args.decoding.options();
    let sources = args.pictures.sources();
    images::each(&session.out, &sources, |name, looked| {
        let caption = captioner.caption(&looked.encode(&*model)?, &options, &mut ())?;
        let printed = if session.out.json() {
            session.out.line(&Line::caption(name, &caption))
        } else if sources.len() == 1 {
            session.out.text(&caption.text)
        } else {
            session.out.text(format!("{name}: {}", caption.text))
        };
        printed.map_err(ImageError::Fatal)
    })
}
