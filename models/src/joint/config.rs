//! Shape of a model of two towers.

use serde::{Deserialize, Serialize};

use crate::LoadError;
use crate::blocks::{Head, VisionConfig};
use crate::plan::TextPlan;
use crate::text::TextConfig;

/// How similarities become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// Labels share one probability (CLIP).
    Softmax,
    /// Each label has its own (SigLIP).
    Sigmoid,
}

/// Two towers, or one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JointConfig {
    /// Of pictures.
    pub vision: Option<VisionConfig>,
    /// Of texts.
    pub text: Option<TextConfig>,
    /// How similarities become scores; with both towers.
    pub scoring: Scoring,
}

impl JointConfig {
    /// Dimension of the joint space.
    pub fn dim(&self) -> usize {
        self.text.as_ref().map_or_else(|| self.vision.as_ref().map_or(0, image_dim), |text| text.joint)
    }

    /// Whether the checkpoint has a scale of similarities (and a bias, where each label has its own probability).
    pub fn is_whole(&self) -> bool {
        self.vision.is_some() && self.text.is_some()
    }

    /// What the tokenizer must do.
    pub fn text_plan(&self) -> Option<TextPlan> {
        let plan = |text: &TextConfig| TextPlan { max_tokens: Some(text.max_tokens), padded: text.padded, vocabulary: text.vocabulary };
        self.text.as_ref().map(plan)
    }

    /// For the manifest.
    pub fn tasks(&self) -> Vec<String> {
        let tasks: &[&str] = if self.is_whole() { &["embed", "classify", "search"] } else { &["embed"] };
        tasks.iter().map(|&task| task.to_owned()).collect()
    }

    /// Whether the sizes can be true and fit each other.
    ///
    /// # Errors
    /// Says which does not.
    pub fn check(&self) -> Result<(), String> {
        self.vision.as_ref().map_or(Ok(()), VisionConfig::check)?;
        self.text.as_ref().map_or(Ok(()), TextConfig::check)?;
        match (&self.vision, &self.text) {
            (None, None) => Err("it has neither a vision tower nor a text tower".into()),
            (Some(vision), _) if vision.head == Head::Tokens => Err("the vision tower has no head for the joint space".into()),
            (Some(vision), Some(text)) if image_dim(vision) != text.joint => {
                Err(format!("pictures become {} numbers and texts {}; they must be as many", image_dim(vision), text.joint))
            }
            _ => Ok(()),
        }
    }

    /// Reads the manifest's `config`.
    pub fn from_json(config: &serde_json::Value) -> Result<Self, LoadError> {
        crate::error::config(config, Self::check)
    }
}

fn image_dim(config: &VisionConfig) -> usize {
    if let Head::Projection(joint) = config.head { joint } else { config.width }
}
