//! CLIP's equations.
//!
//! ```text
//! image = W_i · norm(vision(pixels)[class token])          text = W_t · norm(text(ids)[end of text])
//! logits = exp(scale) · cos(image, text)                    scores = softmax(logits) over the labels
//! ```

use burn::tensor::Device;
use ocelli_bundle::Bundle;
use serde_json::Value;

use super::{FAMILY, tensors};
use crate::LoadError;
use crate::joint::{JointConfig, JointModel};
use crate::plan::Format;
use crate::table::{self, Row};

/// The table of tensors of a manifest's configuration.
pub fn table(config: &Value) -> Result<Vec<Row>, LoadError> {
    let config = JointConfig::from_json(config)?;
    Ok(tensors::rows(&config, Format::Transformers))
}

/// Loads a bundle onto a device.
pub fn load(bundle: &Bundle, device: &Device) -> Result<JointModel, LoadError> {
    let config = JointConfig::from_json(&bundle.manifest().config)?;
    table::check(bundle, &tensors::rows(&config, Format::Transformers))?;
    JointModel::load(FAMILY, &config, bundle, device)
}
