//! Points of the joint space: of phrases, from the text tower, and of pictures, from the image head.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::nano::embed::{ImageHeadConfig, JointSpace, normalise};
use ocelli_models::text::{TextTower, TextTowerConfig, Tokenizer};

use crate::checkpoint::load;
use crate::embed_texts::Texts;
use crate::features::{FeatureCache, Map};

/// Phrases or pictures that are embedded at a time.
const CHUNK: usize = 64;

/// A vector a phrase.
pub struct TextVectors {
    values: Vec<f32>,
    dim: usize,
}

impl TextVectors {
    /// Of these phrases: `[phrases, dim]`.
    pub fn rows(&self, phrases: impl Iterator<Item = u32>, device: &Device) -> Tensor<2> {
        let values: Vec<f32> =
            phrases.map(|phrase| phrase as usize).flat_map(|row| &self.values[row * self.dim..(row + 1) * self.dim]).copied().collect();
        let count = values.len() / self.dim;
        Tensor::from_data(TensorData::new(values, [count, self.dim]), device)
    }
}

/// The joint space as it was trained; before that, the distilled text tower alone.
pub enum Joint {
    /// Both towers.
    Trained(Box<JointSpace>),
    /// Text only: pictures have no vectors.
    Text(Box<TextTower>),
}

impl Joint {
    /// From `work/embed`, or, where that is not trained yet, from `work/text`.
    pub fn open(work: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let device = Device::flex();
        let image = ImageHeadConfig::default();
        let text = TextTowerConfig { vocabulary: tokenizer.vocabulary(), joint: image.joint, ..TextTowerConfig::default() };
        let trained = work.join("embed/weights.bpk");
        if trained.exists() {
            return Ok(Self::Trained(Box::new(load(JointSpace::init(&text, &image, &device), &trained)?)));
        }
        eprintln!("{} is not there: phrases are embedded by the distilled tower, pictures not at all", trained.display());
        let text = TextTowerConfig { joint: image.named, ..text };
        Ok(Self::Text(Box::new(load(TextTower::init(&text, &device), &work.join("text/weights.bpk"))?)))
    }

    /// L2-normalised vectors of texts.
    pub fn texts(&self, texts: &[String], tokenizer: &Tokenizer) -> Result<TextVectors> {
        let device = Device::flex();
        let tower = match self {
            Self::Trained(joint) => &joint.text,
            Self::Text(tower) => tower,
        };
        let dim = ImageHeadConfig::default().joint;
        let mut values = Vec::with_capacity(texts.len() * dim);
        for texts in texts.chunks(32 * CHUNK) {
            let vectors = normalise(Texts::new(tokenizer, texts).context("a phrase")?.embed(tower, None, &device));
            let [rows, width] = vectors.dims();
            let wide = Tensor::cat(vec![vectors, Tensor::zeros([rows, dim - width], &device)], 1);
            values.extend(wide.into_data().iter::<f32>());
        }
        Ok(TextVectors { values, dim })
    }

    /// L2-normalised vectors of these pictures from their cached features; zero where there is no image head.
    fn pictures(&self, cache: &FeatureCache, rows: &[usize]) -> Result<Vec<f32>> {
        let device = Device::flex();
        match self {
            Self::Trained(joint) => {
                let logits = cache.map(Map::Logits, rows, &device)?.squeeze_dim(1);
                let vectors = normalise(joint.image.forward(cache.map(Map::Head, rows, &device)?, logits));
                Ok(vectors.into_data().iter::<f32>().collect())
            }
            Self::Text(_) => Ok(vec![0.0; rows.len() * ImageHeadConfig::default().joint]),
        }
    }
}

/// Vectors of pictures, each computed when it is first asked for.
pub struct PictureVectors {
    joint: Joint,
    dim: usize,
    known: RefCell<HashMap<usize, Vec<f32>>>,
}

impl PictureVectors {
    /// None yet.
    pub fn new(joint: Joint) -> Self {
        Self { joint, dim: ImageHeadConfig::default().joint, known: RefCell::default() }
    }

    /// Of these rows of the cache: `[rows, dim]`.
    pub fn rows(&self, cache: &FeatureCache, rows: &[usize], device: &Device) -> Result<Tensor<2>> {
        let mut known = self.known.borrow_mut();
        let new: Vec<usize> = rows.iter().copied().filter(|row| !known.contains_key(row)).collect();
        for new in new.chunks(CHUNK) {
            let vectors = self.joint.pictures(cache, new)?;
            known.extend(new.iter().copied().zip(vectors.chunks_exact(self.dim).map(<[f32]>::to_vec)));
        }
        let values: Vec<f32> = rows.iter().filter_map(|row| known.get(row)).flatten().copied().collect();
        Ok(Tensor::from_data(TensorData::new(values, [rows.len(), self.dim]), device))
    }
}
