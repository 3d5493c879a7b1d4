//! transformers' `OwlViTConfig` and `Owlv2Config`.

use serde::{Deserialize, Serialize};

use crate::LoadError;
use crate::blocks::{Head, VisionConfig};
use crate::clip::config::{text, vision};
use crate::plan::fields::Fields;
use crate::plan::{Declared, PlanError};
use crate::text::TextConfig;
use crate::text::encoder::Pooling;

/// Shape of a detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwlConfig {
    /// Of pictures.
    pub vision: VisionConfig,
    /// Of phrases.
    pub text: TextConfig,
    /// Whether it is OWLv2: pictures are padded to squares, a head says how likely anything is in a box, and a picture as a query stands for
    /// its likeliest box.
    pub second: bool,
}

impl OwlConfig {
    /// Whether the sizes can be true and fit each other.
    ///
    /// # Errors
    /// Says which does not.
    pub fn check(&self) -> Result<(), String> {
        self.vision.check()?;
        self.text.check()?;
        if self.vision.head != Head::Tokens || self.vision.flexible {
            return Err("the vision tower must end in tokens of a square".into());
        }
        // A box looks like a phrase if its vector, which is as wide as the text tower, is near the phrase's.
        if self.text.joint != self.text.width {
            return Err(format!("phrases become {} numbers and boxes {}; they must be as many", self.text.joint, self.text.width));
        }
        Ok(())
    }

    /// Reads the manifest's `config`.
    pub fn from_json(config: &serde_json::Value) -> Result<Self, LoadError> {
        crate::error::config(config, Self::check)
    }
}

/// `OwlViTForObjectDetection` and `Owlv2ForObjectDetection`.
pub fn of_transformers(declared: &Declared<'_>) -> Result<OwlConfig, PlanError> {
    let fields = Fields::new(declared.config);
    let second = declared.class() == "Owlv2ForObjectDetection" || fields.text("model_type") == Some("owlv2");
    let (seen, read) = (fields.below_or_default("vision_config"), fields.below_or_default("text_config"));
    let (side, patch) = if second { (960, 16) } else { (768, 32) };
    let vision = vision(&seen, 1)?;
    let vision =
        VisionConfig { side: seen.side("image_size", side)?, patch: seen.side("patch_size", patch)?, head: Head::Tokens, ..vision };
    let text = TextConfig {
        max_tokens: read.size("max_position_embeddings", 16)?,
        pooling: Pooling::LargestId,
        ..text(&read, fields.size("projection_dim", 512)?)?
    };
    let config = OwlConfig { vision, text, second };
    fields.sound(config.check())?;
    Ok(config)
}
