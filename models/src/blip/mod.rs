//! BLIP (Li et al. 2022, <https://arxiv.org/abs/2201.12086>): captions, matches of pictures and texts, answers to questions.
//!
//! `config`: shapes; `tensors`: the table; `forward`: the equations; `model`: they behind the traits of `ocelli_flow`.

pub mod config;
pub mod forward;
pub mod model;
pub mod tensors;

use serde_json::{Value, json};

pub use config::{BlipConfig, Purpose};
pub use forward::Parts;
pub use model::Blip;

use crate::LoadError;
use crate::plan::{Declared, Plan, PlanError, TextPlan};
use crate::table::Row;

/// The manifest's name of it.
pub const FAMILY: &str = "blip";

/// The table of tensors of a manifest's configuration.
pub fn table(config: &Value) -> Result<Vec<Row>, LoadError> {
    Ok(tensors::rows(&config::BlipConfig::from_json(config)?))
}

/// How to import `BlipForConditionalGeneration`.
pub fn plan_caption(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    planned(declared, Purpose::Caption)
}

/// How to import `BlipForImageTextRetrieval`.
pub fn plan_match(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    planned(declared, Purpose::Match(256))
}

/// How to import `BlipForQuestionAnswering`.
pub fn plan_answer(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    planned(declared, Purpose::Answer)
}

fn planned(declared: &Declared<'_>, purpose: Purpose) -> Result<Plan, PlanError> {
    let config = BlipConfig::of_transformers(declared, purpose)?;
    Ok(Plan {
        family: FAMILY,
        tasks: config.tasks(),
        rows: tensors::rows(&config),
        text: Some(TextPlan { max_tokens: None, padded: false, vocabulary: config.text.vocabulary }),
        config: json!(config),
        pictures: true,
        chat: false,
    })
}
