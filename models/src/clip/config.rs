//! CLIP's configurations: transformers' `CLIPConfig`, `CLIPVisionConfig` and `CLIPTextConfig`, and open_clip's.

use ocelli_ops::Activation;

use crate::blocks::{Head, VisionConfig};
use crate::joint::{JointConfig, Scoring};
use crate::plan::fields::Fields;
use crate::plan::{Declared, PlanError, vision};
use crate::text::TextConfig;
use crate::text::encoder::Pooling;

/// `eos_token_id` of configurations before transformers 4.31, which was wrong: with it, the largest id ends the text.
const LEGACY_END: u32 = 2;

/// `CLIPModel`
pub fn both(declared: &Declared<'_>) -> Result<JointConfig, PlanError> {
    let fields = Fields::new(declared.config);
    let joint = fields.size("projection_dim", 512)?;
    checked(&fields, Some(vision(&tower(&fields, "vision_config"), joint)?), Some(text(&tower(&fields, "text_config"), joint)?))
}

/// `CLIPVisionModelWithProjection`, whose configuration is the vision tower's, or has it in `vision_config`.
pub fn pictures(declared: &Declared<'_>) -> Result<JointConfig, PlanError> {
    let fields = Fields::new(declared.config);
    let fields = fields.below("vision_config").unwrap_or(fields);
    let joint = fields.size("projection_dim", 512)?;
    checked(&fields, Some(vision(&fields, joint)?), None)
}

/// `CLIPTextModelWithProjection`, likewise.
pub fn texts(declared: &Declared<'_>) -> Result<JointConfig, PlanError> {
    let fields = Fields::new(declared.config);
    let fields = fields.below("text_config").unwrap_or(fields);
    let joint = fields.size("projection_dim", 512)?;
    checked(&fields, None, Some(text(&fields, joint)?))
}

fn checked(fields: &Fields<'_>, vision: Option<VisionConfig>, text: Option<TextConfig>) -> Result<JointConfig, PlanError> {
    let config = JointConfig { vision, text, scoring: Scoring::Softmax };
    fields.sound(config.check())?;
    Ok(config)
}

/// A tower's object; older checkpoints keep it in `…_dict`, which then counts.
fn tower<'a>(fields: &Fields<'a>, name: &str) -> Fields<'a> {
    fields.below(&format!("{name}_dict")).unwrap_or_else(|| fields.below_or_default(name))
}

/// A vision tower of CLIP's kind, of OWL-ViT's, too.
pub(crate) fn vision(fields: &Fields<'_>, joint: usize) -> Result<VisionConfig, PlanError> {
    vision::tower(fields, VisionConfig { head: Head::Projection(joint), ..VisionConfig::clip_base(32) }, "quick_gelu")
}

/// A text tower of CLIP's kind, of OWL-ViT's, too.
pub(crate) fn text(fields: &Fields<'_>, joint: usize) -> Result<TextConfig, PlanError> {
    let end = fields.token("eos_token_id", 49407)?;
    Ok(TextConfig {
        vocabulary: fields.size("vocab_size", 49408)?,
        width: fields.size("hidden_size", 512)?,
        hidden: fields.size("intermediate_size", 2048)?,
        layers: fields.size("num_hidden_layers", 12)?,
        heads: fields.size("num_attention_heads", 8)?,
        max_tokens: fields.size("max_position_embeddings", 77)?,
        activation: fields.activation("hidden_act", "quick_gelu")?,
        epsilon: fields.number("layer_norm_eps", 1e-5)?,
        causal: true,
        pooling: if end == LEGACY_END { Pooling::LargestId } else { Pooling::First(end) },
        padded: false,
        padding_hidden: false,
        joint,
        joint_bias: false,
    })
}

/// open_clip's `model_cfg` with a vision transformer and its own text transformer
/// (<https://github.com/mlfoundations/open_clip>, `CLIPVisionCfg` and `CLIPTextCfg`).
pub fn open_clip(declared: &Declared<'_>) -> Result<JointConfig, PlanError> {
    let fields = Fields::new(declared.config);
    let fields = fields.below("model_cfg").unwrap_or(fields);
    let joint = fields.optional_size("embed_dim")?.ok_or_else(|| fields.wrong("embed_dim", "is missing"))?;
    let activation = if fields.flag("quick_gelu", false)? { Activation::QuickGelu } else { Activation::Gelu };
    let (seen, read) = (fields.below_or_default("vision_cfg"), fields.below_or_default("text_cfg"));
    for (part, names) in [
        (&seen, ["timm_model_name", "attentional_pool", "no_ln_pre", "final_ln_after_pool"]),
        (&read, ["hf_model_name", "embed_cls", "no_causal_mask", "hf_tokenizer_name"]),
    ] {
        if let Some(name) = names.iter().find(|name| part.is_set(name)) {
            return Err(part.wrong(name, "is set; of open_clip's models those of its own two transformers are read"));
        }
    }
    for (part, name, plain) in [(&seen, "pool_type", "tok"), (&read, "pool_type", "argmax")] {
        if part.text(name).is_some_and(|kind| kind != plain) {
            return Err(part.wrong(name, format!("is not {plain:?}, which is all that is read")));
        }
    }
    let width = seen.size("width", 768)?;
    let head_width = seen.size("head_width", 64)?.max(1);
    let vision = VisionConfig {
        side: seen.side("image_size", 224)?,
        patch: seen.side("patch_size", 16)?,
        width,
        layers: seen.size("layers", 12)?,
        heads: width / head_width,
        hidden: (width as f64 * seen.number("mlp_ratio", 4.0)?) as usize,
        activation,
        head: Head::Projection(joint),
        ..VisionConfig::clip_base(16)
    };
    let width = read.size("width", 512)?;
    let text = TextConfig {
        vocabulary: read.size("vocab_size", 49408)?,
        width,
        hidden: (width as f64 * read.number("mlp_ratio", 4.0)?) as usize,
        layers: read.size("layers", 12)?,
        heads: read.size("heads", 8)?,
        max_tokens: read.size("context_length", 77)?,
        activation,
        epsilon: 1e-5,
        causal: true,
        pooling: Pooling::LargestId,
        padded: false,
        padding_hidden: false,
        joint,
        joint_bias: false,
    };
    checked(&fields, Some(vision), Some(text))
}
