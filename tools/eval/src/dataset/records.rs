//! The lines of the files. Fields that measuring does not need are skipped.

use ocelli_flow::BoundingBox;
use serde::Deserialize;

/// A picture with captions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Captioned {
    /// Path inside the folder.
    pub file: String,
    /// What people wrote.
    #[serde(default)]
    pub captions: Vec<String>,
    /// Part of the data: `train`, `dev`, …
    pub split: Option<String>,
}

/// A picture with entities.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entities {
    /// Path inside the folder.
    pub file: String,
    /// Width that the boxes refer to, in pixels.
    pub w: f32,
    /// Height that the boxes refer to, in pixels.
    pub h: f32,
    /// What the captions mention.
    pub entities: Vec<Entity>,
    /// Part of the data.
    pub split: Option<String>,
}

/// Something that captions of a picture mention.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entity {
    /// How the captions call it.
    pub phrases: Vec<String>,
    /// `[x, y, w, h]`
    #[serde(default)]
    pub boxes: Vec<[f32; 4]>,
    /// The head noun.
    #[serde(default)]
    pub head: String,
    /// Whether it is the place itself.
    #[serde(default)]
    pub scene: bool,
}

/// A picture with labelled boxes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Boxed {
    /// Path inside the folder.
    pub file: String,
    /// Width that the boxes refer to, in pixels.
    pub w: f32,
    /// Height that the boxes refer to, in pixels.
    pub h: f32,
    /// `[x, y, w, h, label]`
    pub boxes: Vec<(f32, f32, f32, f32, String)>,
    /// What people wrote, where the folder has no file of captions.
    #[serde(default)]
    pub captions: Vec<String>,
    /// Part of the data.
    pub split: Option<String>,
}

/// A picture of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Labelled {
    /// Path inside the folder.
    pub file: String,
    /// What it shows.
    pub label: String,
}

/// Corners from `[x, y, w, h]`.
pub(super) fn corners(x: f32, y: f32, w: f32, h: f32) -> BoundingBox {
    BoundingBox { x0: x, y0: y, x1: x + w, y1: y + h }
}
