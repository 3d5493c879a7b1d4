//! transformers' `BlipConfig`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::LoadError;
use crate::blocks::{NormPlace, VisionConfig};
use crate::plan::fields::Fields;
use crate::plan::{Declared, PlanError, generation, vision};
use crate::text::TextTransformerConfig;
use crate::text::generate::Defaults;
use crate::text::transformer::{LogitHead, Positions};

/// What the checkpoint was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A decoder of captions.
    Caption,
    /// A text encoder with a head for matches, and a space of so many dimensions for pictures and texts.
    Match(usize),
    /// A text encoder of questions, and a decoder of answers.
    Answer,
}

/// A vision tower and BERT's layers, as encoder, decoder or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlipConfig {
    /// Of pictures.
    pub vision: VisionConfig,
    /// Of the decoder; the encoder is the same without a head.
    pub text: TextTransformerConfig,
    /// What the checkpoint was trained for.
    pub purpose: Purpose,
    /// The token before the first one that is written.
    pub start: u32,
    /// How tokens are chosen.
    pub generation: Defaults,
}

impl BlipConfig {
    /// A class of BLIP's.
    pub fn of_transformers(declared: &Declared<'_>, purpose: Purpose) -> Result<Self, PlanError> {
        let fields = Fields::new(declared.config);
        let (seen, read) = (fields.below_or_default("vision_config"), fields.below_or_default("text_config"));
        let base = VisionConfig { side: 384, epsilon: 1e-5, ..VisionConfig::vit_base(16) };
        let vision = vision::tower(&seen, base, "gelu")?;
        let text = text(&read, vision.width)?;
        if purpose != Purpose::Caption && !read.flag("is_decoder", true)? {
            return Err(read.wrong("is_decoder", "is false, and without attention over pictures the text encoder sees none"));
        }
        let purpose = match purpose {
            Purpose::Match(default) => Purpose::Match(fields.size("image_text_hidden_size", default)?),
            other => other,
        };
        // transformers' generation_config.json is of the model around the decoder, which does not write.
        let generation = generation::defaults(&Value::Null, &[&declared.config["text_config"]])?;
        let config = Self {
            start: read.token("bos_token_id", 30522)?,
            generation: Defaults { end: vec![read.token("sep_token_id", 102)?], ..generation },
            vision,
            text,
            purpose,
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
        if self.vision.width != self.text.memory {
            return Err(format!("pictures become tokens of width {}, and texts look at {}", self.vision.width, self.text.memory));
        }
        // The decoder of answers reads what the encoder of questions made, with weights for what pictures are made of.
        if self.purpose == Purpose::Answer && self.text.width != self.text.memory {
            return Err(format!("questions become tokens of width {}, and answers look at {}", self.text.width, self.text.memory));
        }
        if let Purpose::Match(dim) = self.purpose {
            crate::blocks::check_sizes(&[("image_text_hidden_size", dim)])?;
        }
        if self.start as usize >= self.text.vocabulary {
            return Err(format!("texts start with token {}, of {} there are", self.start, self.text.vocabulary));
        }
        Ok(())
    }

    /// The text encoder's shape, where there is one.
    pub fn encoder(&self) -> Option<TextTransformerConfig> {
        let config = TextTransformerConfig { head: None, ..self.text.clone() };
        (self.purpose != Purpose::Caption).then_some(config)
    }

    /// The decoder's shape, where there is one.
    pub fn decoder(&self) -> Option<&TextTransformerConfig> {
        (!matches!(self.purpose, Purpose::Match(_))).then_some(&self.text)
    }

    /// For the manifest.
    pub fn tasks(&self) -> Vec<String> {
        let tasks: &[&str] = match self.purpose {
            Purpose::Caption => &["caption"],
            Purpose::Match(_) => &["match", "embed", "classify", "search"],
            Purpose::Answer => &["ask"],
        };
        tasks.iter().map(|&task| task.to_owned()).collect()
    }

    /// Reads the manifest's `config`.
    pub fn from_json(config: &Value) -> Result<Self, LoadError> {
        crate::error::config(config, Self::check)
    }
}

/// `BlipTextModel` and `BlipTextLMHeadModel`, which look at tokens of width `memory`.
fn text(fields: &Fields<'_>, memory: usize) -> Result<TextTransformerConfig, PlanError> {
    Ok(TextTransformerConfig {
        vocabulary: fields.size("vocab_size", 30524)?,
        width: fields.size("hidden_size", 768)?,
        hidden: fields.size("intermediate_size", 3072)?,
        layers: fields.size("num_hidden_layers", 12)?,
        heads: fields.size("num_attention_heads", 8)?,
        max_tokens: fields.size("max_position_embeddings", 512)?,
        activation: fields.activation("hidden_act", "gelu")?,
        epsilon: fields.number("layer_norm_eps", 1e-12)?,
        norms: NormPlace::After,
        memory,
        positions: Positions::Learned,
        scaled: false,
        embedding_norm: true,
        last_norm: false,
        head: Some(LogitHead { shared: fields.flag("tie_word_embeddings", true)?, bias: true, transform: true }),
    })
}
