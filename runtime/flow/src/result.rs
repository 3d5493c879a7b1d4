//! What a model says of a frame.

use std::sync::Arc;

/// A point in the joint space of pictures and text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `[dim]`; L2-normalised unless it was asked for raw.
    pub values: Vec<f32>,
}

impl Embedding {
    /// The same direction at length 1.
    pub fn normalised(mut self) -> Self {
        let length = self.values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            self.values.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
        self
    }

    /// Inner product: the cosine similarity where both are normalised.
    pub fn dot(&self, other: &Self) -> f32 {
        self.values.iter().zip(&other.values).map(|(a, b)| a * b).sum()
    }
}

/// A box in pixels of the source picture, `x0 <= x1`, `y0 <= y1`, clipped to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundingBox {
    /// Left edge.
    pub x0: f32,
    /// Top edge.
    pub y0: f32,
    /// Right edge.
    pub x1: f32,
    /// Bottom edge.
    pub y1: f32,
}

impl BoundingBox {
    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        (self.x1 - self.x0).max(0.0) * (self.y1 - self.y0).max(0.0)
    }

    /// Intersection over union, 0 to 1.
    pub fn iou(&self, other: &Self) -> f32 {
        let intersection =
            Self { x0: self.x0.max(other.x0), y0: self.y0.max(other.y0), x1: self.x1.min(other.x1), y1: self.y1.min(other.y1) };
        let shared = intersection.area();
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }

    /// Whether the point lies inside or on the edge.
    pub fn contains(&self, x: f32, y: f32) -> bool {
        (self.x0..=self.x1).contains(&x) && (self.y0..=self.y1).contains(&y)
    }

    /// The centre, `(x, y)`.
    pub fn centre(&self) -> (f32, f32) {
        ((self.x0 + self.x1) / 2.0, (self.y0 + self.y1) / 2.0)
    }
}

/// Something a phrase names, found in the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The phrase as it was asked for.
    pub phrase: Arc<str>,
    /// 0 to 1; nano's are calibrated: of the detections with score .5, about half are right.
    pub score: f32,
    /// Where.
    pub bbox: BoundingBox,
    /// How likely it is that anything at all is there, 0 to 1, where the model says so (OWLv2).
    pub objectness: Option<f32>,
}

/// One sentence about the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    /// The text.
    pub text: String,
    /// The generated token ids, without prompt, start and end tokens.
    pub tokens: Vec<u32>,
    /// Sum of the log-probabilities of the generated tokens, the end token included.
    pub logprob: f32,
    /// What beams are compared by; without beams `logprob`.
    pub score: f32,
    /// Places that the text names, where the task was to name them.
    pub regions: Vec<Detection>,
}

/// A label and how well it fits.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelScore {
    /// The label as it was asked for.
    pub label: Arc<str>,
    /// Similarity times the model's logit scale.
    pub logit: f32,
    /// 0 to 1.
    pub score: f32,
}

/// Labels with their scores, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// Best first.
    pub scores: Vec<LabelScore>,
}
