//! What a bundle says of nano's parts.

use ocelli_flow::{GenerateOptions, ModelError};
use serde::{Deserialize, Serialize};

use super::caption::{CaptionerConfig, Specials};
use super::embed::ImageHeadConfig;
use super::ground::{Calibration, GroundConfig};
use crate::LoadError;
use crate::text::TextTowerConfig;
use crate::text::generate::{BeamSettings, Defaults, EarlyStopping, Settings};

/// The manifest's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NanoConfig {
    /// The text tower.
    pub text: TextTowerConfig,
    /// The image head.
    pub image: ImageHeadConfig,
    /// The grounding head.
    pub ground: GroundConfig,
    /// What its logits are worth.
    pub calibration: Calibration,
    /// The caption decoder.
    pub caption: CaptionerConfig,
    /// How captions are searched for where the user does not say.
    pub search: CaptionSearch,
}

/// Defaults of the search for a caption.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CaptionSearch {
    /// Beam width.
    pub beams: usize,
    /// Longest caption in tokens.
    pub max_tokens: usize,
    /// Scores are divided by the length to this power.
    pub length_penalty: f32,
    /// Sentences are found from the whole memory and from the joint vector alone. Kept is the one with the largest sum of its search score and
    /// this times its cosine to the picture in the joint space.
    pub similarity_weight: f32,
    /// Added for sentences from the joint vector alone.
    pub vector_bonus: f32,
}

impl Default for CaptionSearch {
    fn default() -> Self {
        Self { beams: 3, max_tokens: 24, length_penalty: 0.7, similarity_weight: 4.0, vector_bonus: -0.3 }
    }
}

impl CaptionSearch {
    /// The search, with what a user asks for.
    ///
    /// # Errors
    /// Names the option that is out of range.
    pub fn settings(&self, asked: &GenerateOptions, specials: Specials, room: usize) -> Result<(Settings, BeamSettings), ModelError> {
        let defaults = Defaults {
            end: vec![specials.end],
            max_new_tokens: Some(self.max_tokens),
            suppressed: vec![specials.pad, specials.start],
            suppressed_first: vec![specials.end],
            ..Defaults::default()
        };
        let asked = GenerateOptions { beams: Some(asked.beams.unwrap_or(self.beams)), ..asked.clone() };
        let width = asked.beams.unwrap_or(self.beams);
        let length_penalty = asked.length_penalty.unwrap_or(self.length_penalty);
        let search = BeamSettings { width, length_penalty, early_stopping: EarlyStopping::Sure };
        Ok((defaults.settings(&asked, 1, room)?, search))
    }

    /// What a sentence is chosen by: its search score, how near the picture it is, and whether it is from the joint vector alone.
    pub fn value(&self, score: f32, similarity: f32, from_vector: bool) -> f32 {
        score + self.similarity_weight * similarity + if from_vector { self.vector_bonus } else { 0.0 }
    }
}

/// Largest width, table or count that is believed: a config asks for memory before a tensor proves it.
const LARGEST: usize = 1 << 16;

impl NanoConfig {
    /// Reads the manifest's `config` and checks that the parts fit each other.
    pub fn from_json(config: &serde_json::Value) -> Result<Self, LoadError> {
        let wrong = |reason: String| LoadError::Config { reason };
        let config: Self = serde_json::from_value(config.clone()).map_err(|error| wrong(error.to_string()))?;
        let (text, image, caption, ground) = (&config.text, &config.image, &config.caption, &config.ground);
        let sizes = [
            ("text.vocabulary", text.vocabulary),
            ("text.factor", text.factor),
            ("text.width", text.width),
            ("text.hidden", text.hidden),
            ("text.layers", text.layers),
            ("text.max_tokens", text.max_tokens),
            ("text.joint", text.joint),
            ("image.width", image.width),
            ("image.named", image.named),
            ("ground.width", ground.width),
            ("ground.box_width", ground.box_width),
            ("caption.vocabulary", caption.vocabulary),
            ("caption.width", caption.width),
            ("caption.hidden", caption.hidden),
            ("caption.layers", caption.layers),
            ("caption.max_tokens", caption.max_tokens),
            ("caption.support", caption.support),
            ("caption.vector_tokens", caption.vector_tokens),
            ("caption.nearest", caption.nearest),
            ("search.beams", config.search.beams),
        ];
        for (name, size) in sizes {
            if !(1..=LARGEST).contains(&size) {
                return Err(wrong(format!("{name} is {size}, not within 1 to {LARGEST}")));
            }
        }
        let divisible = |name: &str, width: usize, heads: usize| match heads {
            1.. if width.is_multiple_of(heads) => Ok(()),
            _ => Err(wrong(format!("{name}: {heads} heads do not divide a width of {width}"))),
        };
        divisible("text", text.width, text.heads)?;
        divisible("image", image.width, image.heads)?;
        divisible("ground", ground.width, ground.heads)?;
        divisible("caption", caption.width, caption.heads)?;
        if text.joint != image.joint || caption.joint != image.joint || ground.joint != image.joint || image.named > image.joint {
            return Err(wrong(format!(
                "joint spaces differ: text {}, image {} ({} named), ground {}, caption {}",
                text.joint, image.joint, image.named, ground.joint, caption.joint
            )));
        }
        if text.vocabulary != caption.vocabulary {
            return Err(wrong(format!("vocabularies differ: text {}, caption {}", text.vocabulary, caption.vocabulary)));
        }
        if caption.max_tokens < 3 {
            return Err(wrong(format!("caption.max_tokens is {}, too few for a caption", caption.max_tokens)));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> NanoConfig {
        let image = ImageHeadConfig::default();
        NanoConfig {
            text: TextTowerConfig { joint: image.joint, ..Default::default() },
            caption: CaptionerConfig { joint: image.joint, ..Default::default() },
            ground: GroundConfig::default(),
            calibration: Calibration { a: 1.0, b: 0.0, threshold: 0.5 },
            image,
            search: CaptionSearch::default(),
        }
    }

    #[test]
    fn round_trip() {
        let config = whole();
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(NanoConfig::from_json(&json).unwrap(), config);
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let mut config = whole();
        config.caption.joint = 7;
        let error = NanoConfig::from_json(&serde_json::to_value(&config).unwrap()).unwrap_err().to_string();
        assert!(error.contains("joint spaces differ"), "{error}");
        let mut config = whole();
        config.text.width = 1 << 40;
        let error = NanoConfig::from_json(&serde_json::to_value(&config).unwrap()).unwrap_err().to_string();
        assert!(error.contains("text.width"), "{error}");
        assert!(NanoConfig::from_json(&serde_json::json!({})).is_err());
    }
}
