//! SigLIP (Zhai et al. 2023, <https://arxiv.org/abs/2303.15343>) and SigLIP 2 (Tschannen et al. 2025, <https://arxiv.org/abs/2502.14786>), at a
//! fixed resolution and with NaFlex.
//!
//! `config`: shapes; `tensors`: the table; `forward`: the equations.

pub mod config;
pub mod forward;
pub mod tensors;

use serde_json::json;

use crate::plan::{Declared, Plan, PlanError};

/// The manifest's name of it.
pub const FAMILY: &str = "siglip";

/// How to import `SiglipModel` and `Siglip2Model`.
pub fn plan(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    let config = config::of_transformers(declared)?;
    Ok(Plan {
        family: FAMILY,
        tasks: config.tasks(),
        config: json!(config),
        rows: tensors::rows(&config),
        text: config.text_plan(),
        pictures: true,
        chat: false,
    })
}
