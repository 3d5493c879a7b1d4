//! `ocelli caption`: one sentence about a picture.

use std::fmt::Write;

use anyhow::Result;
use ocelli_flow::{Caption, CaptionOptions};
use ocelli_pipeline::json::Line;

use super::ground::box_line;
use crate::failure::Outcome;
use crate::generating::{Generating, Live};
use crate::images::{self, ImageError};
use crate::lora::Loras;
use crate::session::{self, Session};
use crate::source::{Pictures, Tiling};

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pictures: Pictures,
    #[command(flatten)]
    tiling: Tiling,
    #[command(flatten)]
    loras: Loras,
    /// How the caption begins (BLIP), or what the model is told (SmolVLM)
    #[arg(long, value_name = "S")]
    prompt: Option<String>,
    /// What is asked for, with a model that has tasks (Florence-2): `detailed_caption`, `ocr`, …
    #[arg(long, value_name = "T")]
    task: Option<String>,
    #[command(flatten)]
    generating: Generating,
}

/// One caption a picture.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let options = CaptionOptions { prompt: args.prompt, task: args.task, ..args.generating.captions()? };
    let model = args.loras.model(session)?;
    let captioner = session::captioner(&*model)?;
    let sources = args.pictures.sources();
    images::each(&session.out, &sources, |name, looked| {
        let encoded = args.tiling.encode(looked, &*model)?;
        let mut live = if sources.len() == 1 { Live::new(&session.out) } else { Live::hidden() };
        let caption = captioner.caption(&encoded, &options, &mut live)?;
        let printed = if session.out.json() {
            session.out.line(&Line::caption(name, &caption))
        } else if sources.len() == 1 {
            live.finish(&session.out, &human(&caption))
        } else {
            session.out.text(format!("{name}: {}", human(&caption)))
        };
        printed.map_err(ImageError::Fatal)
    })
}

/// The sentence, and the places that it names.
fn human(caption: &Caption) -> String {
    let mut block = caption.text.clone();
    for region in &caption.regions {
        // Writing to a string cannot fail.
        let _ = write!(block, "\n  {}", box_line(region));
    }
    block
}
