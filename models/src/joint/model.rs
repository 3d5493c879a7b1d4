//! Two towers behind the traits of `ocelli_flow`.

use std::cell::RefCell;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{Adapter, Embedder, Embedding, Encoded, Frame, Inputs, Model, ModelError};

use super::config::{JointConfig, Scoring};
use crate::blocks::{self, VisionTower};
use crate::pictures::{Pictures, read_patches, read_picture};
use crate::text::{PromptCache, PromptTokenizer, TextEncoder};
use crate::{LoadError, linears, weights};

/// Both towers, or one, with the scale and bias of similarities.
#[derive(Module, Debug)]
pub struct Towers {
    /// Of pictures.
    pub vision: Option<VisionTower>,
    /// Of texts.
    pub text: Option<TextEncoder>,
    /// `[1]`: its exponential multiplies cosines.
    pub logit_scale: Option<Param<Tensor<1>>>,
    /// `[1]`: added to that.
    pub logit_bias: Option<Param<Tensor<1>>>,
}

linears!(Towers { vision, text });

impl Towers {
    /// Towers with random weights.
    pub fn init(config: &JointConfig, device: &Device) -> Self {
        let number = |there: bool| there.then(|| Initializer::Zeros.init([1], device));
        Self {
            vision: config.vision.as_ref().map(|vision| VisionTower::init(vision, device)),
            text: config.text.as_ref().map(|text| TextEncoder::init(text, device)),
            logit_scale: number(config.is_whole()),
            logit_bias: number(config.is_whole() && config.scoring == Scoring::Sigmoid),
        }
    }
}

/// The model.
pub struct JointModel {
    name: String,
    config: JointConfig,
    towers: Towers,
    tokenizer: Option<PromptTokenizer>,
    pictures: Option<Pictures>,
    texts: RefCell<PromptCache>,
    logit_scale: f32,
    logit_bias: f32,
    labels: Vec<(Arc<str>, String)>,
    templates: Vec<String>,
    device: Device,
}

impl JointModel {
    /// Loads a bundle of `family` onto a device.
    pub fn load(family: &'static str, config: &JointConfig, bundle: &Bundle, device: &Device) -> Result<Self, LoadError> {
        let towers = weights::open(Towers::init(config, device), "", bundle, device)?;
        let number = |param: &Option<Param<Tensor<1>>>| param.as_ref().and_then(|param| param.val().into_data().iter::<f32>().next());
        let lines = |key: &str| bundle.text(key).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        Ok(Self {
            name: bundle.manifest().name.clone(),
            tokenizer: config.text.as_ref().map(|text| PromptTokenizer::of_bundle(bundle, family, text)).transpose()?,
            pictures: config.vision.as_ref().map(|vision| Pictures::of_bundle(bundle, vision)).transpose()?,
            texts: RefCell::default(),
            logit_scale: number(&towers.logit_scale).map_or(1.0, f32::exp),
            logit_bias: number(&towers.logit_bias).unwrap_or_default(),
            labels: lines("labels.txt").into_iter().map(|line| (Arc::from(line.as_str()), line)).collect(),
            templates: lines("templates.txt"),
            towers,
            config: config.clone(),
            device: device.clone(),
        })
    }

    fn vision(&self) -> Result<(&VisionTower, &Pictures), ModelError> {
        let both = self.towers.vision.as_ref().zip(self.pictures.as_ref());
        both.ok_or(ModelError::Unsupported { what: "read pictures" })
    }
}

/// What the vision tower made of a picture: `[1, joint]`, not normalised.
struct Vector(Tensor<2>);

impl Model for JointModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        self.vision()?.1.prepare(frame)
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        let (tower, _) = self.vision()?;
        let (width, height) = (inputs.width, inputs.height);
        let seen = match &self.config.vision {
            Some(config) if config.flexible => {
                let (patches, [rows, columns]) = read_patches(inputs, config)?;
                let shape = [1, rows * columns, 3 * config.patch * config.patch];
                tower.forward_patches(Tensor::from_data(TensorData::new(patches, shape), &self.device), rows, columns)
            }
            config => {
                let side = config.as_ref().map_or(0, |config| config.side);
                tower.forward(read_picture(inputs, side, &self.device)?)
            }
        };
        let vector = seen.embedding.ok_or(ModelError::Unsupported { what: "embed pictures" })?;
        Ok(Encoded::new(width, height, Vector(vector)))
    }

    fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let tokenizer = self.tokenizer.as_ref().ok_or(ModelError::Unsupported { what: "read texts" })?;
        Ok(tokenizer.encode(text)?.ids)
    }

    fn set_adapter(&mut self, adapter: Option<&Adapter>) -> Result<(), ModelError> {
        blocks::adapt(&mut self.towers, adapter, &self.device)?;
        // Texts were read without it.
        self.texts = RefCell::default();
        Ok(())
    }

    fn embedder(&self) -> Option<&dyn Embedder> {
        Some(self)
    }
}

impl Embedder for JointModel {
    fn dim(&self) -> usize {
        self.config.dim()
    }

    fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    fn logit_bias(&self) -> f32 {
        self.logit_bias
    }

    fn scoring(&self) -> ocelli_flow::Scoring {
        match self.config.scoring {
            Scoring::Softmax => ocelli_flow::Scoring::Softmax,
            Scoring::Sigmoid => ocelli_flow::Scoring::Sigmoid,
        }
    }

    fn default_labels(&self) -> &[(Arc<str>, String)] {
        &self.labels
    }

    fn default_templates(&self) -> &[String] {
        &self.templates
    }

    fn embed_image(&self, encoded: &Encoded, raw: bool) -> Result<Embedding, ModelError> {
        let Vector(vector) = encoded.features()?;
        let values = vector.clone().into_data().iter::<f32>().collect();
        Ok(if raw { Embedding { values } } else { Embedding { values }.normalised() })
    }

    fn embed_text(&self, texts: &[&str], raw: bool) -> Result<Vec<Embedding>, ModelError> {
        let (Some(tower), Some(tokenizer)) = (&self.towers.text, &self.tokenizer) else {
            return Err(ModelError::Unsupported { what: "read texts" });
        };
        let vectors = self.texts.borrow_mut().get(texts, tokenizer, tower)?;
        Ok(vectors.into_iter().map(|vector| if raw { vector } else { vector.normalised() }).collect())
    }
}
