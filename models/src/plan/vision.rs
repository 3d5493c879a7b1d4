//! The fields that transformers' configurations of vision transformers share.

use super::PlanError;
use super::fields::Fields;
use crate::blocks::VisionConfig;

/// A tower as a `vision_config` says; what is missing is as in `base`, with an activation called `activation`.
///
/// # Errors
/// Names a field that is wrong, or asks for pictures that are not of three colours.
pub fn tower(fields: &Fields<'_>, base: VisionConfig, activation: &str) -> Result<VisionConfig, PlanError> {
    if fields.size("num_channels", 3)? != 3 {
        return Err(fields.wrong("num_channels", "is not 3, and only colour pictures are read"));
    }
    Ok(VisionConfig {
        side: fields.side("image_size", base.side)?,
        patch: fields.side("patch_size", base.patch)?,
        width: fields.size("hidden_size", base.width)?,
        layers: fields.size("num_hidden_layers", base.layers)?,
        heads: fields.size("num_attention_heads", base.heads)?,
        hidden: fields.size("intermediate_size", base.hidden)?,
        activation: fields.activation("hidden_act", activation)?,
        epsilon: fields.number("layer_norm_eps", base.epsilon)?,
        ..base
    })
}
