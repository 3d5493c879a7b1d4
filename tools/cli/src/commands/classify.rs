//! `ocelli classify`: which of some labels fits a picture.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use ocelli_flow::Classification;
use ocelli_pipeline::json::Line;

use crate::failure::Outcome;
use crate::images::{self, ImageError};
use crate::lora::Loras;
use crate::session::{self, Session};
use crate::source::Pictures;
use crate::text;
use crate::zero_shot::LabelSet;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pictures: Pictures,
    #[command(flatten)]
    loras: Loras,
    /// Label to choose from; may be repeated; default: the model's own (nano: ImageNet's thousand)
    #[arg(long, value_name = "S", num_args = 1..)]
    label: Vec<String>,
    /// File with more labels, one a line
    #[arg(long, value_name = "F")]
    labels_file: Option<PathBuf>,
    /// Sentence to put labels into, {} for the label; of several the mean is taken; default: the model's own
    #[arg(long, value_name = "T", num_args = 1..)]
    template: Vec<String>,
    /// Print the best K labels; default: 5, with --json all
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
}

/// Best labels first, a picture at a time.
pub fn run(session: &Session, mut args: Args) -> Result<Outcome> {
    text::check_all("--label", &args.label)?;
    args.template.iter().try_for_each(|template| text::check_template(template))?;
    if let Some(file) = &args.labels_file {
        args.label.extend(text::labels_of_file(file)?);
    }
    let top = args.top.map_or(if session.out.json() { usize::MAX } else { 5 }, |top| top as usize);

    let model = args.loras.model(session)?;
    let embedder = session::embedder(&*model)?;
    let labels = LabelSet::new(embedder, &args.label, &args.template, &session.out)?;
    images::each(&session.out, &args.pictures.sources(), |name, looked| {
        let embedding = embedder.embed_image(&looked.encode(&*model)?, false)?;
        let mut classification = labels.classify(&embedding);
        classification.scores.truncate(top);
        let printed = if session.out.json() {
            session.out.line(&Line::classification(name, &classification))
        } else {
            session.out.text(human(name, &classification))
        };
        printed.map_err(ImageError::Fatal)
    })
}

fn human(name: &str, classification: &Classification) -> String {
    let mut block = name.to_owned();
    for score in &classification.scores {
        // Writing to a string cannot fail.
        let _ = write!(block, "\n  {:5.1} %  {}", score.score * 100.0, score.label);
    }
    block
}

#[cfg(test)]
mod tests {
    use ocelli_flow::LabelScore;

    use super::*;

    #[test]
    fn people_see_percent() {
        let scores = vec![LabelScore { label: "dog".into(), logit: 3.0, score: 0.875 }];
        assert_eq!(human("a.jpg", &Classification { scores }), "a.jpg\n   87.5 %  dog");
    }
}
