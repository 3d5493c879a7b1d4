//! Those who look at frames.
//!
//! A model encodes a frame once ([`Model::encode`]); every head it has reads that one [`Encoded`].
//! Text is prepared once, too: [`Embedder::embed_text`] and [`Grounder::phrases`] before the stream starts.

use std::any::Any;
use std::sync::Arc;

use crate::{Adapter, Answerer, Captioner, Detection, Embedding, Frame, Inputs, Matcher, ModelError};

/// A model that reads pictures. What it can do beyond encoding is what the methods after `prompt_ids` return.
pub trait Model: Send {
    /// Short name, as in the results' `"model"`.
    fn name(&self) -> &str;

    /// Makes a picture ready: one resize.
    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError>;

    /// [`Model::preprocess`], with the picture cut into at most `tiles` parts beside its whole; 1: none.
    fn preprocess_in_tiles(&self, _frame: &Frame, _tiles: usize) -> Result<Inputs, ModelError> {
        Err(ModelError::Unsupported { what: "cut pictures into tiles" })
    }

    /// Runs the image tower on a picture made ready: one pass, shared by every head.
    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError>;

    /// Both.
    fn encode(&self, frame: &Frame) -> Result<Encoded, ModelError> {
        self.encode_inputs(self.preprocess(frame)?)
    }

    /// Both, with the picture cut into at most `tiles` parts beside its whole; 1: none.
    fn encode_in_tiles(&self, frame: &Frame, tiles: usize) -> Result<Encoded, ModelError> {
        self.encode_inputs(self.preprocess_in_tiles(frame, tiles)?)
    }

    /// The token ids of a text as the model's text tower reads them, special tokens and padding included.
    fn prompt_ids(&self, _text: &str) -> Result<Vec<u32>, ModelError> {
        Err(ModelError::Unsupported { what: "read texts" })
    }

    /// Puts an adapter on in place of the one there is, or takes it off. What was encoded before keeps what it was encoded with: encode
    /// pictures again where the adapter changes how they are seen.
    ///
    /// # Errors
    /// Where the adapter is none of this model; everything stays as it was.
    fn set_adapter(&mut self, _adapter: Option<&Adapter>) -> Result<(), ModelError> {
        Err(ModelError::Unsupported { what: "take adapters" })
    }

    /// The joint embedding of pictures and text, if it has one.
    fn embedder(&self) -> Option<&dyn Embedder> {
        None
    }

    /// Phrase grounding, if it has it.
    fn grounder(&self) -> Option<&dyn Grounder> {
        None
    }

    /// Captioning, if it has it.
    fn captioner(&self) -> Option<&dyn Captioner> {
        None
    }

    /// Answers to questions, if it has them.
    fn answerer(&self) -> Option<&dyn Answerer> {
        None
    }

    /// A head that reads picture and text together, if it has one.
    fn matcher(&self) -> Option<&dyn Matcher> {
        None
    }
}

/// What the image tower made of a frame. Only the model that made it can read the features.
pub struct Encoded {
    /// Width of the source picture in pixels.
    pub width: u32,
    /// Height of the source picture in pixels.
    pub height: u32,
    features: Box<dyn Any + Send>,
}

impl Encoded {
    /// Wraps a model's own features of a picture of `width` x `height` pixels.
    pub fn new<F: Any + Send>(width: u32, height: u32, features: F) -> Self {
        Self { width, height, features: Box::new(features) }
    }

    /// The features, if they are of the type the model expects.
    pub fn features<F: Any + Send>(&self) -> Result<&F, ModelError> {
        self.features.downcast_ref().ok_or(ModelError::ForeignFeatures)
    }
}

/// How the logits of labels become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// The labels share one probability (CLIP).
    Softmax,
    /// Each label has its own: none or several may fit (SigLIP).
    Sigmoid,
}

/// Puts pictures and text into one space.
pub trait Embedder {
    /// Dimension of the space.
    fn dim(&self) -> usize;

    /// What a cosine similarity is multiplied with before it becomes a score.
    fn logit_scale(&self) -> f32;

    /// What is added to that.
    fn logit_bias(&self) -> f32 {
        0.0
    }

    /// How logits become scores.
    fn scoring(&self) -> Scoring {
        Scoring::Softmax
    }

    /// Labels to classify with where none are given, as (label, text to embed).
    fn default_labels(&self) -> &[(Arc<str>, String)] {
        &[]
    }

    /// Prompt templates with `{}` in place of the label, used where none are given; empty: the label as it is.
    fn default_templates(&self) -> &[String] {
        &[]
    }

    /// The picture's embedding; L2-normalised unless `raw`.
    fn embed_image(&self, encoded: &Encoded, raw: bool) -> Result<Embedding, ModelError>;

    /// One embedding a text, in order; L2-normalised unless `raw`.
    fn embed_text(&self, texts: &[&str], raw: bool) -> Result<Vec<Embedding>, ModelError>;
}

/// Phrases made ready for [`Grounder::ground`].
pub struct PhraseSet {
    /// The phrases as they were given.
    pub phrases: Vec<Arc<str>>,
    /// Their features; only the model that made them can read them.
    pub features: Box<dyn Any + Send>,
}

/// Which detections to return.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundOptions {
    /// Smallest score to return; `None`: the model's default.
    pub threshold: Option<f32>,
    /// At most so many detections a phrase.
    pub top: Option<usize>,
    /// Detections of one phrase that overlap a better one by more than this IoU are left out; 1 keeps all; `None`: the model's default.
    pub nms: Option<f32>,
}

/// Finds phrases in pictures.
pub trait Grounder {
    /// Encodes phrases once for any number of pictures.
    fn phrases(&self, phrases: &[&str]) -> Result<PhraseSet, ModelError>;

    /// Looks for what a picture shows instead of what a phrase names; `name` stands for the phrase in detections.
    fn image_query(&self, _encoded: &Encoded, _name: &str) -> Result<PhraseSet, ModelError> {
        Err(ModelError::Unsupported { what: "look for what a picture shows" })
    }

    /// Where the phrases are: phrase by phrase, best first. None of a phrase that is not in the picture.
    fn ground(&self, encoded: &Encoded, phrases: &PhraseSet, options: &GroundOptions) -> Result<Vec<Detection>, ModelError>;
}

impl Default for GroundOptions {
    /// The model's own defaults.
    fn default() -> Self {
        Self { threshold: None, top: None, nms: None }
    }
}
