//! Configurations of `Idefics3ForConditionalGeneration`, `SmolVLMForConditionalGeneration` and `LlamaForCausalLM`.

use ocelli_preprocess::{Recipe, Resize};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::LoadError;
use crate::blocks::{Head, VisionConfig};
use crate::llama::DecoderConfig;
use crate::plan::fields::Fields;
use crate::plan::{Declared, PlanError, generation, vision};
use crate::text::generate::Defaults;

/// The manifest's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// What reads pictures; `None`: nothing does.
    pub vision: Option<Vision>,
    /// What reads and writes tokens.
    pub text: DecoderConfig,
    /// How tokens are chosen where nobody says.
    pub generation: Defaults,
    /// The tokenizer's token before a text.
    pub start_token: Option<String>,
    /// The tokenizer's token after a text.
    pub end_token: Option<String>,
}

/// Pictures to vectors among those of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vision {
    /// The tower; its side is that of the square that its positions stand for.
    pub tower: VisionConfig,
    /// Side of a tile in pixels.
    pub tile: usize,
    /// Pixel shuffle: so many patches a side become one token.
    pub shuffle: usize,
    /// The id that stands for a picture's vectors.
    pub image_token: u32,
}

impl Vision {
    /// Patches along a side of a tile.
    pub fn grid(&self) -> usize {
        self.tile / self.tower.patch
    }

    /// Vectors of a tile.
    pub fn tokens(&self) -> usize {
        (self.grid() / self.shuffle).pow(2)
    }

    fn check(&self) -> Result<(), String> {
        self.tower.check()?;
        crate::blocks::check_sizes(&[("tile", self.tile), ("shuffle", self.shuffle)])?;
        if self.grid() == 0 || self.grid() > 512 || !self.grid().is_multiple_of(self.shuffle) {
            return Err(format!("tiles of {} pixels are {} patches a side, which {} do not divide", self.tile, self.grid(), self.shuffle));
        }
        Ok(())
    }
}

impl Config {
    /// Reads the manifest's `config`.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn from_json(config: &Value) -> Result<Self, LoadError> {
        crate::error::config(config, Self::check)
    }

    /// SmolVLM-256M's.
    pub fn smolvlm_256m() -> Self {
        let tower = VisionConfig { side: 512, head: Head::Tokens, ..VisionConfig::siglip_base() };
        Self {
            vision: Some(Vision { tower, tile: 512, shuffle: 4, image_token: 49_190 }),
            text: DecoderConfig { context: 8192, tied: false, ..DecoderConfig::smollm2_135m() },
            generation: Defaults::default(),
            start_token: None,
            end_token: None,
        }
    }

    fn check(&self) -> Result<(), String> {
        self.text.check()?;
        self.vision.as_ref().map_or(Ok(()), Vision::check)
    }

    /// What it can do, for the manifest.
    pub fn tasks(&self) -> Vec<String> {
        let tasks: &[&str] = if self.vision.is_some() { &["caption", "ask"] } else { &["ask"] };
        tasks.iter().map(|&task| task.to_owned()).collect()
    }
}

/// `LlamaForCausalLM`
pub fn text_only(declared: &Declared<'_>) -> Result<Config, PlanError> {
    let fields = Fields::new(declared.config);
    let text = DecoderConfig::of_transformers(&fields, fields.flag("tie_word_embeddings", false)?)?;
    with_tokens(declared, None, text, &[declared.config])
}

/// `Idefics3ForConditionalGeneration` and `SmolVLMForConditionalGeneration`
pub fn with_pictures(declared: &Declared<'_>) -> Result<Config, PlanError> {
    let fields = Fields::new(declared.config);
    let (seen, read) = (fields.below_or_default("vision_config"), fields.below_or_default("text_config"));
    if let Some(kind) = read.text("model_type").filter(|kind| !["llama", "vllama3"].contains(kind)) {
        return Err(read.wrong("model_type", format!("is {kind:?}; only \"llama\" is read")));
    }
    // The flag of the whole decides: the text's own is of a model that stands alone.
    let text = DecoderConfig::of_transformers(&read, fields.flag("tie_word_embeddings", false)?)?;
    let base = VisionConfig { patch: 32, width: 1152, heads: 16, head: Head::Tokens, ..VisionConfig::siglip_base() };
    let tower = vision::tower(&seen, base, "gelu_pytorch_tanh")?;
    // The processor says how large tiles are.
    let tile = match Recipe::from_processor(declared.processor) {
        Ok(Recipe { resize: Some(Resize::Tiles { side, .. }), .. }) => side as usize,
        _ => tower.side,
    };
    let vision = Vision { tower, tile, shuffle: fields.size("scale_factor", 2)?, image_token: fields.token("image_token_id", 128_257)? };
    fields.sound(vision.check())?;
    with_tokens(declared, Some(vision), text, &[declared.config, &declared.config["text_config"]])
}

fn with_tokens(declared: &Declared<'_>, vision: Option<Vision>, text: DecoderConfig, own: &[&Value]) -> Result<Config, PlanError> {
    let generation = generation::defaults(declared.generation, own)?;
    let tokens = declared.tokens.clone().unwrap_or_default();
    Ok(Config { vision, text, generation, start_token: tokens.start, end_token: tokens.end })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::Format;

    #[test]
    fn the_flag_of_the_whole_ties_the_output_layer() {
        let tied = |whole: bool, text: bool| {
            let config = json!({
                "tie_word_embeddings": whole,
                "text_config": {"hidden_size": 64, "num_attention_heads": 4, "tie_word_embeddings": text},
                "vision_config": {"image_size": 32, "patch_size": 4, "hidden_size": 32, "num_attention_heads": 2},
            });
            with_pictures(&Declared::new(&config, Format::Transformers)).unwrap().text.tied
        };
        assert!(tied(true, false) && !tied(false, true));
    }
}
