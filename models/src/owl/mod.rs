//! OWL-ViT (Minderer et al. 2022, <https://arxiv.org/abs/2205.06230>) and OWLv2 (Minderer et al. 2023, <https://arxiv.org/abs/2306.09683>): boxes for
//! phrases, or for what another picture shows.
//!
//! `config`: shapes; `tensors`: the table; `heads` and `forward`: the equations; `select`: which boxes are reported; `model`: behind the
//! traits of `ocelli_flow`.

pub mod config;
pub mod forward;
pub mod heads;
pub mod model;
pub mod select;
pub mod tensors;

pub use config::OwlConfig;
pub use model::Owl;

use serde_json::{Value, json};

use crate::LoadError;
use crate::plan::{Declared, Plan, PlanError, TextPlan};
use crate::table::Row;

/// The manifest's name of it.
pub const FAMILY: &str = "owl";

/// The table of tensors of a manifest's configuration.
pub fn table(config: &Value) -> Result<Vec<Row>, LoadError> {
    Ok(tensors::rows(&OwlConfig::from_json(config)?))
}

/// How to import `OwlViTForObjectDetection` and `Owlv2ForObjectDetection`.
pub fn plan(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    let config = config::of_transformers(declared)?;
    let text = &config.text;
    Ok(Plan {
        family: FAMILY,
        tasks: vec!["ground".to_owned()],
        rows: tensors::rows(&config),
        text: Some(TextPlan { max_tokens: Some(text.max_tokens), padded: false, vocabulary: text.vocabulary }),
        pictures: true,
        chat: false,
        config: json!(config),
    })
}
