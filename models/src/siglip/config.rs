//! transformers' `SiglipConfig` and `Siglip2Config`.

use crate::blocks::VisionConfig;
use crate::joint::{JointConfig, Scoring};
use crate::plan::fields::Fields;
use crate::plan::{Declared, PlanError, vision};
use crate::text::TextConfig;
use crate::text::encoder::Pooling;

/// `SiglipModel` and `Siglip2Model`.
pub fn of_transformers(declared: &Declared<'_>) -> Result<JointConfig, PlanError> {
    let fields = Fields::new(declared.config);
    let flexible = declared.class() == "Siglip2Model" || fields.text("model_type") == Some("siglip2");
    let vision = vision(&fields.below_or_default("vision_config"), flexible)?;
    let masked = declared.tokens.as_ref().is_some_and(|tokens| tokens.attention_mask);
    let text = text(&fields.below_or_default("text_config"), masked)?;
    let config = JointConfig { vision: Some(vision), text: Some(text), scoring: Scoring::Sigmoid };
    fields.sound(config.check())?;
    Ok(config)
}

fn vision(fields: &Fields<'_>, flexible: bool) -> Result<VisionConfig, PlanError> {
    if !fields.flag("vision_use_head", true)? {
        return Err(fields.wrong("vision_use_head", "is false, and without its head the tower has no vector for a picture"));
    }
    let tower = vision::tower(fields, VisionConfig { flexible, ..VisionConfig::siglip_base() }, "gelu_pytorch_tanh")?;
    if !flexible {
        return Ok(tower);
    }
    let patches = fields.size("num_patches", 256)?;
    let grid = patches.isqrt();
    if grid * grid != patches {
        return Err(fields.wrong("num_patches", format!("is {patches}, which is no square")));
    }
    Ok(VisionConfig { side: grid.saturating_mul(tower.patch), ..tower })
}

fn text(fields: &Fields<'_>, masked: bool) -> Result<TextConfig, PlanError> {
    let width = fields.size("hidden_size", 768)?;
    Ok(TextConfig {
        vocabulary: fields.size("vocab_size", 32000)?,
        width,
        hidden: fields.size("intermediate_size", 3072)?,
        layers: fields.size("num_hidden_layers", 12)?,
        heads: fields.size("num_attention_heads", 12)?,
        max_tokens: fields.size("max_position_embeddings", 64)?,
        activation: fields.activation("hidden_act", "gelu_pytorch_tanh")?,
        epsilon: fields.number("layer_norm_eps", 1e-6)?,
        causal: false,
        pooling: Pooling::Last,
        padded: true,
        padding_hidden: masked,
        joint: fields.size("projection_size", width)?,
        joint_bias: true,
    })
}
