//! A vision transformer that a text decoder reads (`VisionEncoderDecoderModel`): captions by GPT-2 (vit-gpt2, distilvit), and TrOCR, which
//! reads lines of text (Li et al. 2021, <https://arxiv.org/abs/2109.10282>).
//!
//! `config`: shapes; `tensors`: the table; `model`: the equations.

pub mod config;
pub mod model;
pub mod tensors;

use serde_json::{Value, json};

pub use config::EncoderDecoderConfig;
pub use model::{EncoderDecoder, PictureReader};

use crate::LoadError;
use crate::plan::{Declared, Plan, PlanError, TextPlan};
use crate::table::Row;

/// The manifest's name of it.
pub const FAMILY: &str = "encoder_decoder";

/// The table of tensors of a manifest's configuration.
pub fn table(config: &Value) -> Result<Vec<Row>, LoadError> {
    Ok(tensors::rows(&config::EncoderDecoderConfig::from_json(config)?))
}

/// How to import `VisionEncoderDecoderModel`.
pub fn plan(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    let config = EncoderDecoderConfig::of_transformers(declared)?;
    Ok(Plan {
        family: FAMILY,
        tasks: vec!["caption".to_owned()],
        rows: tensors::rows(&config),
        text: Some(TextPlan { max_tokens: None, padded: false, vocabulary: config.text.vocabulary }),
        config: json!(config),
        pictures: true,
        chat: false,
    })
}
