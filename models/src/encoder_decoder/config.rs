//! transformers' `VisionEncoderDecoderConfig`, with the configurations of its encoder and its decoder.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::LoadError;
use crate::blocks::{NormPlace, VisionConfig};
use crate::plan::fields::Fields;
use crate::plan::{Declared, PlanError, generation, vision};
use crate::text::TextTransformerConfig;
use crate::text::generate::Defaults;
use crate::text::transformer::{LogitHead, Positions};

/// Whose decoder it is, which says how a checkpoint names its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoder {
    /// `GPT2LMHeadModel` with attention over pictures.
    Gpt2,
    /// `TrOCRForCausalLM`: BART's decoder.
    Trocr,
}

/// An encoder of pictures and a decoder of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderDecoderConfig {
    /// Of pictures.
    pub vision: VisionConfig,
    /// Of texts.
    pub text: TextTransformerConfig,
    /// Whose decoder it is.
    pub decoder: Decoder,
    /// Whether a linear layer gives the encoder's tokens the decoder's width.
    pub projected: bool,
    /// The token before the first one.
    pub start: u32,
    /// How tokens are chosen.
    pub generation: Defaults,
}

impl EncoderDecoderConfig {
    /// `VisionEncoderDecoderModel`
    pub fn of_transformers(declared: &Declared<'_>) -> Result<Self, PlanError> {
        let fields = Fields::new(declared.config);
        let part = |name: &str| fields.below(name).ok_or_else(|| fields.wrong(name, "is missing"));
        let (encoder, decoder) = (part("encoder")?, part("decoder")?);
        let vision = vision(&encoder)?;
        // A decoder whose keys and values are as wide as the pictures' tokens needs nothing between.
        let memory = decoder.optional_size("cross_attention_hidden_size")?;
        if let Some(memory) = memory.filter(|&memory| memory != vision.width) {
            let reason = format!("is {memory}, and the encoder's tokens are {} wide", vision.width);
            return Err(decoder.wrong("cross_attention_hidden_size", reason));
        }
        let (kind, text) = match decoder.text("model_type") {
            Some("gpt2") => (Decoder::Gpt2, gpt2(&decoder)?),
            Some("trocr") => (Decoder::Trocr, trocr(&decoder, memory)?),
            other => return Err(decoder.wrong("model_type", format!("is {other:?}; there are \"gpt2\" and \"trocr\""))),
        };
        let own = [declared.config, &declared.config["decoder"]];
        let token = |name: &str| generation::token(declared.generation, &own, name);
        let config = Self {
            projected: memory.is_none() && vision.width != text.width,
            vision,
            text,
            decoder: kind,
            start: token("decoder_start_token_id").or_else(|_| token("bos_token_id"))?,
            generation: generation::defaults(declared.generation, &own)?,
        };
        fields.sound(config.check())?;
        Ok(config)
    }

    /// Whether the sizes can be true and fit each other.
    ///
    /// # Errors
    /// Says which does not.
    pub fn check(&self) -> Result<(), String> {
        self.vision.check()?;
        self.text.check()?;
        let tokens = if self.projected { self.text.width } else { self.vision.width };
        if tokens != self.text.memory {
            return Err(format!("pictures become tokens of width {tokens}, and the decoder reads {}", self.text.memory));
        }
        if self.start as usize >= self.text.vocabulary {
            return Err(format!("texts start with token {}, of {} there are", self.start, self.text.vocabulary));
        }
        Ok(())
    }

    /// Reads the manifest's `config`.
    pub fn from_json(config: &Value) -> Result<Self, LoadError> {
        crate::error::config(config, Self::check)
    }
}

/// `ViTModel` and `DeiTModel`.
fn vision(fields: &Fields<'_>) -> Result<VisionConfig, PlanError> {
    let distillation_token = match fields.text("model_type") {
        Some("vit") => false,
        Some("deit") => true,
        other => return Err(fields.wrong("model_type", format!("is {other:?}; there are \"vit\" and \"deit\""))),
    };
    let plain_qkv = !fields.flag("qkv_bias", true)?;
    vision::tower(fields, VisionConfig { plain_qkv, distillation_token, ..VisionConfig::vit_base(16) }, "gelu")
}

/// `GPT2LMHeadModel`
fn gpt2(fields: &Fields<'_>) -> Result<TextTransformerConfig, PlanError> {
    if !fields.flag("scale_attn_weights", true)? || fields.flag("scale_attn_by_inverse_layer_idx", false)? {
        return Err(fields.wrong("scale_attn_weights", "or scale_attn_by_inverse_layer_idx is not the default, which is all that is read"));
    }
    let width = fields.size("n_embd", 768)?;
    Ok(TextTransformerConfig {
        vocabulary: fields.size("vocab_size", 50257)?,
        width,
        hidden: fields.size("n_inner", width.saturating_mul(4))?,
        layers: fields.size("n_layer", 12)?,
        heads: fields.size("n_head", 12)?,
        max_tokens: fields.size("n_positions", 1024)?,
        activation: fields.activation("activation_function", "gelu_new")?,
        epsilon: fields.number("layer_norm_epsilon", 1e-5)?,
        norms: NormPlace::Before,
        memory: width,
        positions: Positions::Learned,
        scaled: false,
        embedding_norm: false,
        last_norm: true,
        head: Some(LogitHead { shared: fields.flag("tie_word_embeddings", true)?, bias: false, transform: false }),
    })
}

/// `TrOCRForCausalLM`
fn trocr(fields: &Fields<'_>, memory: Option<usize>) -> Result<TextTransformerConfig, PlanError> {
    let width = fields.size("d_model", 1024)?;
    let learned = fields.flag("use_learned_position_embeddings", true)?;
    Ok(TextTransformerConfig {
        vocabulary: fields.size("vocab_size", 50265)?,
        width,
        hidden: fields.size("decoder_ffn_dim", 4096)?,
        layers: fields.size("decoder_layers", 12)?,
        heads: fields.size("decoder_attention_heads", 16)?,
        max_tokens: fields.size("max_position_embeddings", 512)?,
        activation: fields.activation("activation_function", "gelu")?,
        epsilon: 1e-5,
        norms: NormPlace::After,
        memory: memory.unwrap_or(width),
        // Sines begin after the padding token's number.
        positions: if learned { Positions::Learned } else { Positions::Sines(fields.token("pad_token_id", 1)? as usize + 1) },
        scaled: fields.flag("scale_embedding", false)?,
        embedding_norm: fields.flag("layernorm_embedding", true)?,
        last_norm: false,
        head: Some(LogitHead { shared: fields.flag("tie_word_embeddings", true)?, bias: false, transform: false }),
    })
}
