//! SigLIP's equations.
//!
//! ```text
//! image = pool(norm(vision(pixels)))                        text = W · norm(text(ids)[last token]) + b
//! logits = exp(scale) · cos(image, text) + bias             scores = σ(logits), each label by itself
//! ```

use burn::tensor::Device;
use ocelli_bundle::Bundle;
use serde_json::Value;

use super::{FAMILY, tensors};
use crate::LoadError;
use crate::joint::{JointConfig, JointModel};
use crate::table::{self, Row};

/// The table of tensors of a manifest's configuration.
pub fn table(config: &Value) -> Result<Vec<Row>, LoadError> {
    let config = JointConfig::from_json(config)?;
    Ok(tensors::rows(&config))
}

/// Loads a bundle onto a device.
pub fn load(bundle: &Bundle, device: &Device) -> Result<JointModel, LoadError> {
    let config = JointConfig::from_json(&bundle.manifest().config)?;
    table::check(bundle, &tensors::rows(&config))?;
    JointModel::load(FAMILY, &config, bundle, device)
}
