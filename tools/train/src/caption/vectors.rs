//! Points of the joint space.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use ocelli_models::nano::embed::{ImageHead, ImageHeadConfig, JointSpace};
use ocelli_models::text::tower::pad_batch;
use ocelli_models::text::{TextTower, TextTowerConfig, Tokenizer};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use safetensors::{Dtype, SafeTensors};

use crate::checkpoint::load;
use crate::features::{FeatureCache, Map};
use crate::texts::TeacherTable;

/// Vectors of texts, from the teacher's table or from the trained tower.
pub struct TextVectors {
    /// Places of the texts that are known, by their normal form.
    places: HashMap<String, usize>,
    /// `[texts, dim]`, L2-normalised.
    values: Vec<f16>,
    dim: usize,
    tower: Option<(TextTower, TextTowerConfig)>,
}

/// Texts the tower embeds at a time.
const CHUNK: usize = 256;

impl TextVectors {
    /// The teacher's.
    pub fn of_teacher(folder: &Path) -> Result<Self> {
        let table = TeacherTable::open(folder)?;
        let places = table.texts.iter().enumerate().map(|(place, entry)| (normal_form(&entry.text), place)).collect();
        Ok(Self { places, values: table.vectors, dim: table.dim, tower: None })
    }

    /// The trained tower's: it embeds every text that is asked for.
    pub fn of_tower(tower: TextTower, config: TextTowerConfig) -> Self {
        Self { places: HashMap::new(), values: Vec::new(), dim: config.joint, tower: Some((tower, config)) }
    }

    /// Dimension of the joint space.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Where the vector of a text is, or will be after [`compute`](Self::compute); `None` if the table has none.
    pub fn place(&mut self, text: &str) -> Option<usize> {
        let text = normal_form(text);
        if self.tower.is_none() {
            return self.places.get(&text).copied();
        }
        let next = self.places.len();
        Some(*self.places.entry(text).or_insert(next))
    }

    /// The vector at a place.
    pub fn vector(&self, place: usize) -> &[f16] {
        &self.values[place * self.dim..(place + 1) * self.dim]
    }

    /// Embeds all texts that have got a place, if it is the tower's task.
    pub fn compute(&mut self, tokenizer: &Tokenizer) -> Result<()> {
        if self.tower.is_none() {
            return Ok(());
        }
        let mut texts: Vec<(&String, usize)> = self.places.iter().map(|(text, &place)| (text, place)).collect();
        texts.sort_by_key(|(text, place)| (text.len(), *place)); // little padding
        let mut values = vec![f16::ZERO; texts.len() * self.dim];
        let progress = crate::progress::bar(texts.len() as u64, 0, "text vectors");
        for chunk in texts.chunks(CHUNK) {
            let strings: Vec<&str> = chunk.iter().map(|(text, _)| text.as_str()).collect();
            for (vector, (_, place)) in self.embed(&strings, tokenizer)?.chunks(self.dim).zip(chunk) {
                values[place * self.dim..(place + 1) * self.dim].iter_mut().zip(vector).for_each(|(to, &x)| *to = f16::from_f32(x));
            }
            progress.inc(chunk.len() as u64);
        }
        progress.finish_and_clear();
        self.values = values;
        Ok(())
    }

    /// Vectors of texts one after the other; empty where there is no tower.
    pub fn embed(&self, texts: &[&str], tokenizer: &Tokenizer) -> Result<Vec<f32>> {
        let Some((tower, config)) = &self.tower else { return Ok(Vec::new()) };
        let device = tower.devices().into_iter().next().unwrap_or_default();
        let mut values = Vec::with_capacity(texts.len() * self.dim);
        for chunk in texts.chunks(CHUNK) {
            let ids = chunk.iter().map(|text| Ok(tokenizer.encode(text)?)).collect::<Result<Vec<_>>>()?;
            let (ids, lengths) = pad_batch(&ids, tokenizer.pad, config.max_tokens, &device);
            let vectors = tower.forward(ids, &lengths);
            let norm = vectors.clone().powi_scalar(2).sum_dim(1).add_scalar(1e-12).sqrt();
            values.extend((vectors / norm).into_data().iter::<f32>());
        }
        Ok(values)
    }
}

/// One space between words, none before the last full stop: how the teacher's table has its texts.
fn normal_form(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.ends_with(['.', '!', '?']) && text[..text.len() - 1].ends_with(' ') {
        text.remove(text.len() - 2);
    }
    text
}

/// Both towers as they were trained.
pub fn joint_space(weights: &Path, tokenizer: &Tokenizer) -> Result<(JointSpace, TextTowerConfig)> {
    let image = ImageHeadConfig::default();
    let text = TextTowerConfig { vocabulary: tokenizer.vocabulary(), joint: image.joint, ..TextTowerConfig::default() };
    Ok((load(JointSpace::init(&text, &image, &Device::flex()), weights)?, text))
}

/// Vectors of pictures, a row a picture of the cache.
pub struct PictureVectors {
    values: Vec<f32>,
    dim: usize,
}

impl PictureVectors {
    /// What the trained image head says of every picture in the cache.
    pub fn of_head(head: &ImageHead, cache: &FeatureCache) -> Result<Self> {
        let device = Device::flex();
        let rows: Vec<usize> = (0..cache.len()).collect();
        let (mut values, mut dim) = (Vec::new(), 0);
        let progress = crate::progress::bar(rows.len() as u64, 0, "picture vectors");
        for chunk in rows.chunks(CHUNK) {
            let logits = cache.map(Map::Logits, chunk, &device)?.squeeze_dim(1);
            let vectors = head.forward(cache.map(Map::Head, chunk, &device)?, logits);
            dim = vectors.dims()[1];
            values.extend(vectors.into_data().iter::<f32>());
            progress.inc(chunk.len() as u64);
        }
        progress.finish_and_clear();
        Ok(Self { values, dim })
    }

    /// Reads a safetensors file with `vectors [rows, dim]`; `rows` may count mirrored pictures too, which are not read.
    pub fn open(path: &Path, rows: usize) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        let view = file.tensor("vectors")?;
        ensure!(
            view.shape().len() == 2 && view.shape()[0] >= rows,
            "{}: {:?} is not a vector for each of {rows} pictures",
            path.display(),
            view.shape()
        );
        let values = match view.dtype() {
            Dtype::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => anyhow::bail!("{}: vectors are {other:?}, not f16 or f32", path.display()),
        };
        Ok(Self { values, dim: view.shape()[1] })
    }

    /// The vectors of these rows: `[rows, dim]`, L2-normalised.
    pub fn rows(&self, rows: &[usize], device: &Device) -> Tensor<2> {
        let mut values = Vec::with_capacity(rows.len() * self.dim);
        for &row in rows {
            let vector = self.row(row);
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
            values.extend(vector.iter().map(|x| x / norm));
        }
        Tensor::from_data(TensorData::new(values, [rows.len(), self.dim]), device)
    }

    /// A picture's vector as the file has it.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }
}

/// Vectors that take part in making the support.
const SAMPLE: usize = 16384;
const ROUNDS: usize = 6;

/// `count` centres of text vectors by k-means on the sphere (Dhillon and Modha 2001): `[count, dim]`, L2-normalised.
pub fn support(vectors: &[&[f16]], count: usize, seed: u64) -> TensorData {
    let dim = vectors.first().map_or(0, |vector| vector.len());
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..vectors.len()).collect();
    order.shuffle(&mut rng);
    order.truncate(SAMPLE.max(count));
    let device = Device::flex();
    let flat: Vec<f32> = order.iter().flat_map(|&i| vectors[i].iter().map(|x| x.to_f32())).collect();
    let points = Tensor::<2>::from_data(TensorData::new(flat.clone(), [order.len(), dim]), &device);
    let mut centres: Vec<f32> = flat.iter().copied().cycle().take(count * dim).collect();
    for _ in 0..ROUNDS {
        let similarity = points.clone().matmul(Tensor::<2>::from_data(TensorData::new(centres.clone(), [count, dim]), &device).transpose());
        let nearest: Vec<i64> = similarity.argmax(1).into_data().iter::<i64>().collect();
        let mut sums = vec![0.0f32; count * dim];
        for (point, &centre) in flat.chunks(dim).zip(&nearest) {
            sums[centre as usize * dim..][..dim].iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
        }
        for (centre, sum) in centres.chunks_mut(dim).zip(sums.chunks(dim)) {
            let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
            if norm > 1e-6 {
                centre.iter_mut().zip(sum).for_each(|(to, x)| *to = x / norm);
            }
        }
    }
    TensorData::new(centres, [count, dim])
}
