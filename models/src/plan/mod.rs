//! What an importer must do to make a bundle of somebody else's checkpoint: a family's answer to a configuration.

pub mod fields;
pub mod generation;
pub mod vision;

use serde_json::Value;

use crate::table::Row;

/// The class of open_clip's models.
pub const OPEN_CLIP: &str = "open_clip";

/// What a checkpoint says of itself.
#[derive(Debug, Clone)]
pub struct Declared<'a> {
    /// Its configuration.
    pub config: &'a Value,
    /// Whose form it has.
    pub format: Format,
    /// Of its tokenizer; `None` where the checkpoint has none.
    pub tokens: Option<TokenizerFacts>,
    /// `generation_config.json`; null where there is none.
    pub generation: &'a Value,
    /// `preprocessor_config.json` or `processor_config.json`; null where there is none.
    pub processor: &'a Value,
}

/// Whose configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `config.json` of transformers.
    Transformers,
    /// `open_clip_config.json`.
    OpenClip,
}

/// What `tokenizer_config.json` says that a model must know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenizerFacts {
    /// Whether the processor hands the model an attention mask (`model_input_names`).
    pub attention_mask: bool,
    /// `bos_token`
    pub start: Option<String>,
    /// `eos_token`
    pub end: Option<String>,
}

/// How to make the bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The registry's key.
    pub family: &'static str,
    /// For the manifest.
    pub tasks: Vec<String>,
    /// For the manifest: the family's own configuration.
    pub config: Value,
    /// Every tensor.
    pub rows: Vec<Row>,
    /// What the tokenizer must do; `None` where the model reads no text.
    pub text: Option<TextPlan>,
    /// Whether the model reads pictures, and so needs a preprocessing recipe.
    pub pictures: bool,
    /// Whether the model is talked to, and so needs the checkpoint's chat template.
    pub chat: bool,
}

/// What the tokenizer in the bundle must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPlan {
    /// Texts are cut to so many tokens, special ones included; `None`: never, the model says itself what is too long.
    pub max_tokens: Option<usize>,
    /// Whether shorter texts are padded to so many.
    pub padded: bool,
    /// Rows of the model's token table: the tokenizer may have no larger id.
    pub vocabulary: usize,
}

/// A checkpoint that no family can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A class that no family reads.
    #[error("the checkpoint is a {class}; this build imports {known}")]
    Class {
        /// `architectures`, or `model_type` where there is none.
        class: String,
        /// Those that are read.
        known: String,
    },
    /// A field that is missing or that the family does not do.
    #[error("{field} of the configuration {reason}")]
    Field {
        /// Its path: `vision_config.hidden_size`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl<'a> Declared<'a> {
    /// A configuration without anything beside it.
    pub fn new(config: &'a Value, format: Format) -> Self {
        Self { config, format, tokens: None, generation: &Value::Null, processor: &Value::Null }
    }

    /// The class of the checkpoint: `architectures` of transformers, else its `model_type`; `open_clip` for open_clip's.
    pub fn class(&self) -> String {
        if self.format == Format::OpenClip {
            return OPEN_CLIP.to_owned();
        }
        let declared = self.config["architectures"].get(0).or_else(|| self.config.get("model_type"));
        declared.and_then(Value::as_str).unwrap_or("model without a class").to_owned()
    }
}
