//! Idefics3 (Laurençon et al. 2024, <https://arxiv.org/abs/2408.12637>) and SmolVLM (Marafioti et al. 2025, <https://arxiv.org/abs/2504.05299>):
//! a SigLIP tower whose tokens stand among those of a language model; and that language model alone.
//!
//! `config`: shapes; `tensors`: the table; `forward`: the picture's half (the text's is [`crate::llama`]); `prompt`: a picture in words;
//! `model`: behind the traits of `ocelli_flow`.

pub mod config;
pub mod forward;
pub mod model;
pub mod prompt;
pub mod tensors;

use serde_json::{Value, json};

pub use config::Config;
pub use model::SmolVlm;

use crate::LoadError;
use crate::plan::{Declared, Plan, PlanError, TextPlan};
use crate::table::Row;

/// The manifest's name of it.
pub const FAMILY: &str = "smolvlm";

/// How to import `Idefics3ForConditionalGeneration` and `SmolVLMForConditionalGeneration`.
pub fn plan(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    Ok(planned(&config::with_pictures(declared)?))
}

/// How to import `LlamaForCausalLM`.
pub fn plan_text(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    Ok(planned(&config::text_only(declared)?))
}

/// The table of tensors of a manifest's configuration.
pub fn table(config: &Value) -> Result<Vec<Row>, LoadError> {
    Ok(tensors::rows(&Config::from_json(config)?))
}

fn planned(config: &Config) -> Plan {
    Plan {
        family: FAMILY,
        tasks: config.tasks(),
        config: json!(config),
        rows: tensors::rows(config),
        text: Some(TextPlan { max_tokens: None, padded: false, vocabulary: config.text.vocabulary }),
        pictures: config.vision.is_some(),
        chat: true,
    }
}
