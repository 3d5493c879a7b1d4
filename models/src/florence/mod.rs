//! Florence-2 (Xiao et al. 2024, <https://arxiv.org/abs/2311.06242>): captions, texts, objects and phrases with their places, all written as text.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | shapes, from transformers' configuration or Microsoft's |
//! | [`tensors`] | the table, in the names of either |
//! | [`davit`] | pictures to maps |
//! | [`bart`] | tokens to tokens |
//! | [`forward`] | the whole: maps to tokens, tokens to what the decoder attends to |
//! | [`tasks`] | what can be asked for, and in which words |
//! | [`regions`] | places in what was written |
//! | [`model`] | behind the traits of `ocelli_flow` |

pub mod bart;
pub mod config;
pub mod davit;
pub mod forward;
pub mod model;
pub mod regions;
pub mod tasks;
pub mod tensors;

pub use config::FlorenceConfig;
pub use model::Florence2;

use serde_json::{Value, json};

use crate::LoadError;
use crate::plan::{Declared, Plan, PlanError, TextPlan};
use crate::table::Row;

/// The manifest's name of it.
pub const FAMILY: &str = "florence";

/// The table of tensors of a manifest's configuration.
pub fn table(config: &Value) -> Result<Vec<Row>, LoadError> {
    Ok(tensors::rows(&FlorenceConfig::from_json(config)?))
}

/// How to import `Florence2ForConditionalGeneration`.
pub fn plan(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    let config = config::of_transformers(declared)?;
    Ok(Plan {
        family: FAMILY,
        tasks: ["caption", "ground"].map(str::to_owned).to_vec(),
        rows: tensors::rows(&config),
        text: Some(TextPlan { max_tokens: None, padded: false, vocabulary: config.text.vocabulary }),
        pictures: true,
        chat: false,
        config: json!(config),
    })
}
