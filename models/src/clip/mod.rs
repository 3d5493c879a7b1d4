//! CLIP (Radford et al. 2021, <https://arxiv.org/abs/2103.00020>): OpenAI's, LAION's and TinyCLIP's checkpoints, in transformers' form and in
//! open_clip's.
//!
//! `config`: shapes; `tensors`: the table; `forward`: the equations.

pub mod config;
pub mod forward;
pub mod tensors;

use serde_json::json;

use crate::joint::JointConfig;
use crate::plan::{Declared, Plan, PlanError};

/// The manifest's name of it.
pub const FAMILY: &str = "clip";

/// How to import `CLIPModel`.
pub fn plan(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    Ok(planned(config::both(declared)?, declared))
}

/// How to import `CLIPVisionModelWithProjection`.
pub fn plan_vision(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    Ok(planned(config::pictures(declared)?, declared))
}

/// How to import `CLIPTextModelWithProjection`.
pub fn plan_text(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    Ok(planned(config::texts(declared)?, declared))
}

/// How to import a model of open_clip.
pub fn plan_open_clip(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    Ok(planned(config::open_clip(declared)?, declared))
}

fn planned(config: JointConfig, declared: &Declared<'_>) -> Plan {
    Plan {
        family: FAMILY,
        tasks: config.tasks(),
        config: json!(config),
        rows: tensors::rows(&config, declared.format),
        text: config.text_plan(),
        pictures: config.vision.is_some(),
        chat: false,
    }
}
