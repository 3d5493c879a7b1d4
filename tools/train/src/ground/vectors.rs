//! Points of the joint space: of phrases, from the text tower, and of pictures, from the image head.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::nano::embed::{ImageHeadConfig, JointSpace, normalise};
use ocelli_models::text::{TextTower, TextTowerConfig, Tokenizer};

use crate::checkpoint::load;
use crate::embed::Texts;
use crate::features::{FeatureCache, Map};

/// Phrases or pictures that are embedded at a time.
const CHUNK: usize = 64;

/// Rows of one length, those that were not asked for zero.
pub struct Vectors {
    values: Vec<f32>,
    /// Length of a row.
    pub dim: usize,
}

impl Vectors {
    /// Rows as a tensor `[rows, dim]`.
    pub fn rows(&self, rows: impl Iterator<Item = usize>, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = rows.flat_map(|row| &self.values[row * self.dim..(row + 1) * self.dim]).copied().collect();
        let count = values.len() / self.dim;
        Tensor::from_data(TensorData::new(values, [count, self.dim]), device)
    }

    /// The mean of these rows, `[dim]`.
    pub fn mean(&self, rows: &[usize], device: &Device) -> Tensor<1> {
        let mut mean = vec![0.0f32; self.dim];
        for &row in rows {
            let values = &self.values[row * self.dim..(row + 1) * self.dim];
            mean.iter_mut().zip(values).for_each(|(mean, value)| *mean += value / rows.len() as f32);
        }
        Tensor::from_floats(mean.as_slice(), device)
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
    pub fn texts(&self, texts: &[String], tokenizer: &Tokenizer) -> Result<Vectors> {
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
        Ok(Vectors { values, dim })
    }

    /// L2-normalised vectors of these rows of the cache, at their places among all rows.
    pub fn pictures(&self, cache: &FeatureCache, rows: &[usize]) -> Result<Vectors> {
        let device = Device::flex();
        let dim = ImageHeadConfig::default().joint;
        let mut values = vec![0.0; 2 * cache.len() * dim];
        if let Self::Trained(joint) = self {
            for rows in rows.chunks(CHUNK) {
                let logits = cache.map(Map::Logits, rows, &device)?.squeeze_dim(1);
                let vectors = normalise(joint.image.forward(cache.map(Map::Head, rows, &device)?, logits));
                let vectors: Vec<f32> = vectors.into_data().iter::<f32>().collect();
                for (&row, vector) in rows.iter().zip(vectors.chunks_exact(dim)) {
                    values[row * dim..(row + 1) * dim].copy_from_slice(vector);
                }
            }
        }
        Ok(Vectors { values, dim })
    }
}
