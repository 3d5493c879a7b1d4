//! Texts with the teacher's embedding of each, as teacher.py writes them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use safetensors::SafeTensors;
use serde::Deserialize;

/// One text.
#[derive(Debug, Clone, Deserialize)]
pub struct Text {
    /// As a user would type it.
    pub text: String,
    /// What it is: `caption-…`, `phrase`, `name`.
    pub source: String,
}

/// All texts and their vectors.
pub struct TeacherTable {
    /// The texts.
    pub texts: Vec<Text>,
    /// `[texts, dim]`, L2-normalised.
    pub vectors: Vec<f16>,
    /// Dimension of the teacher's space.
    pub dim: usize,
}

impl TeacherTable {
    /// Reads `texts.jsonl` and `vectors.safetensors` of a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("texts.jsonl");
        let file = fs::File::open(&path).with_context(|| format!("cannot open {}; run teacher.py first", path.display()))?;
        let texts = BufReader::new(file)
            .lines()
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect::<Result<Vec<Text>>>()
            .with_context(|| format!("{} is not a list of texts", path.display()))?;
        let path = folder.join("vectors.safetensors");
        let bytes = fs::read(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        let view = file.tensor("vectors")?;
        ensure!(view.dtype() == safetensors::Dtype::F16, "{}: vectors must be f16", path.display());
        ensure!(view.shape().len() == 2 && view.shape()[0] == texts.len(), "{}: not one vector a text", path.display());
        let dim = view.shape()[1];
        let vectors = view.data().chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect();
        Ok(Self { texts, vectors, dim })
    }

    /// The vector of text `index`.
    pub fn vector(&self, index: usize) -> &[f16] {
        &self.vectors[index * self.dim..(index + 1) * self.dim]
    }

    /// The vectors of texts: `[texts, dim]`.
    pub fn vectors(&self, texts: &[usize], device: &Device) -> Tensor<2> {
        let values: Vec<f32> = texts.iter().flat_map(|&i| self.vector(i)).map(|x| x.to_f32()).collect();
        Tensor::from_data(TensorData::new(values, [texts.len(), self.dim]), device)
    }
}
