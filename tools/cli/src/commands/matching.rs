//! `ocelli match`: whether a text describes a picture.

use std::fmt::Write;

use anyhow::{Context, Result};
use ocelli_flow::{Encoded, Match, Model, ModelError, Scoring};
use ocelli_pipeline::json::Line;

use crate::failure::Outcome;
use crate::images::{self, ImageError};
use crate::session::Session;
use crate::source::Pictures;
use crate::text;

/// What the cosine of a picture and a text is multiplied with (CLIPScore; Hessel et al. 2021, <https://arxiv.org/abs/2104.08718>).
const CLIP_SCORE: f32 = 2.5;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pictures: Pictures,
    /// Text to compare with; may be repeated, and take several
    #[arg(long, value_name = "S", num_args = 1.., required = true)]
    text: Vec<String>,
}

/// How well every text fits, a picture at a time.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    text::check_all("--text", &args.text)?;
    let texts: Vec<&str> = args.text.iter().map(String::as_str).collect();
    let model = session.model()?;
    let kind =
        kind(&*model).with_context(|| format!("the model {} cannot compare pictures with texts; choose another with -m", model.name()))?;
    images::each(&session.out, &args.pictures.sources(), |name, looked| {
        let encoded = looked.encode(&*model)?;
        let matches = matches(&*model, &encoded, &texts)?;
        let printed = if session.out.json() {
            session.out.line(&Line::matches(name, kind, &texts, &matches))
        } else {
            session.out.text(human(name, &texts, &matches))
        };
        printed.map_err(ImageError::Fatal)
    })
}

/// What scores are: `itm`, the probability of a head that read both; `sigmoid`, the probability of a pair; `clip_score`.
fn kind(model: &dyn Model) -> Option<&'static str> {
    if model.matcher().is_some() {
        return Some("itm");
    }
    Some(match model.embedder()?.scoring() {
        Scoring::Sigmoid => "sigmoid",
        Scoring::Softmax => "clip_score",
    })
}

fn matches(model: &dyn Model, encoded: &Encoded, texts: &[&str]) -> Result<Vec<Match>, ModelError> {
    if let Some(matcher) = model.matcher() {
        return matcher.match_texts(encoded, texts);
    }
    let Some(embedder) = model.embedder() else { return Err(ModelError::Unsupported { what: "compare pictures with texts" }) };
    let picture = embedder.embed_image(encoded, false)?;
    let fits = |cosine: f32| match embedder.scoring() {
        Scoring::Sigmoid => 1.0 / (1.0 + (-(cosine * embedder.logit_scale() + embedder.logit_bias())).exp()),
        Scoring::Softmax => CLIP_SCORE * cosine.max(0.0),
    };
    let embedded = embedder.embed_text(texts, false)?;
    Ok(embedded.iter().map(|text| picture.dot(text)).map(|cosine| Match { score: fits(cosine), cosine: Some(cosine) }).collect())
}

fn human(name: &str, texts: &[&str], matches: &[Match]) -> String {
    let mut block = name.to_owned();
    for (text, found) in texts.iter().zip(matches) {
        // Writing to a string cannot fail.
        let _ = write!(block, "\n  {:.3}  {text}", found.score);
    }
    block
}
