//! Captions that belong together: those of one picture, seen or not.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_eval::dataset::Dataset;
use ocelli_models::text::Tokenizer;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::vectors::TextVectors;
use crate::data::text_captions;
use crate::features::FeatureCache;

/// Captions a group gives to a batch.
pub const CAPTIONS: usize = 5;
/// Groups of this many batches are sorted by length before batches are cut from them.
const POOL: usize = 24;
/// Captions that are longer are cut there while training: one in two hundred.
const LONGEST: usize = 26;

/// Share of pictures that a crop stands for, where the cache has crops of them.
const CROPPED: f64 = 0.4;

/// Captions without pictures, and how many of them are taken: one in so many. Flickr30k's are of the kind that the pictures have already.
const TEXTS: [(&str, usize); 2] = [("coco_captions_text.jsonl", 1), ("flickr30k_captions.jsonl", 4)];

/// The captions of one picture.
struct Group {
    /// Token ids, without start and end.
    sentences: Vec<Vec<u32>>,
    /// The picture's row in the cache, if it is a training picture.
    row: Option<usize>,
    /// Whether the picture may be mirrored: no caption says left or right.
    mirror: bool,
    /// Places of the captions' vectors.
    vectors: Vec<usize>,
}

/// All groups that are trained on.
pub struct Groups {
    groups: Vec<Group>,
    texts: TextVectors,
}

/// A step's captions.
pub struct Batch {
    /// Whether the groups have pictures.
    pub pictures: bool,
    /// Indices of the groups.
    pub groups: Vec<usize>,
    /// [`CAPTIONS`] a group, in their order.
    pub sentences: Vec<Vec<u32>>,
}

impl Groups {
    /// Reads pictures with captions and captions without pictures. Nothing of dev is read: Flickr30k's captions of Flickr8k pictures are left out.
    pub fn read(
        data: &Path,
        cache: &FeatureCache,
        tokenizer: &Tokenizer,
        mut texts: TextVectors,
        coco: bool,
        max_tokens: usize,
    ) -> Result<Self> {
        let mut groups = Vec::new();
        let mut add = |captions: &[String], row: Option<usize>| -> Result<()> {
            let sentences =
                captions.iter().map(|caption| encode(tokenizer, caption, max_tokens.min(LONGEST))).collect::<Result<Vec<_>>>()?;
            let vectors: Vec<usize> = captions.iter().filter_map(|caption| texts.place(caption)).collect();
            let says_side = |caption: &String| caption.split_whitespace().any(|word| matches!(word, "left" | "right"));
            if !sentences.is_empty() && (row.is_some() || vectors.len() == captions.len()) {
                groups.push(Group { sentences, row, mirror: !captions.iter().any(says_side), vectors });
            }
            Ok(())
        };
        let train = Dataset::open(data.join("flickr8k"))?.captions(None)?;
        for record in train.iter().filter(|record| record.split.as_deref().is_some_and(|split| split.starts_with("train"))) {
            let row = cache.row("flickr8k", &record.file).with_context(|| format!("the cache has no {}", record.file))?;
            add(&record.captions, Some(row))?;
        }
        if coco {
            for record in coco_pictures(data)?.iter().step_by(2) {
                let row = cache.row("coco", &record.file).with_context(|| format!("the cache has no {}", record.file))?;
                add(&record.captions, Some(row))?;
            }
        }
        for (name, one_in) in TEXTS {
            for captions in text_captions(&plain_or_gz(&data.join(name)))?.iter().step_by(one_in) {
                add(captions, None)?;
            }
        }
        texts.compute(tokenizer)?;
        Ok(Self { groups, texts })
    }

    /// Steps of an epoch with `text` text batches for each picture batch.
    pub fn steps(&self, batch: usize, text: f64) -> usize {
        let steps = self.count(true).div_ceil(batch);
        steps + if self.count(false) > 0 { (steps as f64 * text) as usize } else { 0 }
    }

    /// An epoch's batches in random order: every picture once, texts at random.
    pub fn epoch(&self, batch: usize, text: f64, rng: &mut SmallRng) -> Vec<Batch> {
        let steps = self.count(true).div_ceil(batch);
        let mut batches = self.cut(true, batch, rng);
        let mut texts = self.cut(false, batch, rng);
        texts.shuffle(rng);
        texts.truncate((steps as f64 * text) as usize);
        batches.extend(texts);
        batches.shuffle(rng);
        batches
    }

    fn count(&self, pictures: bool) -> usize {
        self.groups.iter().filter(|group| group.row.is_some() == pictures).count()
    }

    /// Batches of groups with captions of about the same length.
    fn cut(&self, pictures: bool, batch: usize, rng: &mut SmallRng) -> Vec<Batch> {
        let mut order: Vec<usize> = (0..self.groups.len()).filter(|&i| self.groups[i].row.is_some() == pictures).collect();
        order.shuffle(rng);
        let longest = |&i: &usize| self.groups[i].sentences.iter().map(Vec::len).max();
        let mut batches = Vec::new();
        for pool in order.chunks_mut(batch * POOL) {
            pool.sort_by_key(longest);
            for groups in pool.chunks(batch) {
                let sentences = groups.iter().flat_map(|&i| self.sentences(i, rng)).collect();
                batches.push(Batch { pictures, groups: groups.to_vec(), sentences });
            }
        }
        batches
    }

    /// [`CAPTIONS`] sentences of a group: all of them, or a random choice of more, or some twice.
    fn sentences(&self, group: usize, rng: &mut SmallRng) -> Vec<Vec<u32>> {
        let all = &self.groups[group].sentences;
        let mut chosen: Vec<Vec<u32>> = all.choose_multiple(rng, CAPTIONS).cloned().collect();
        for i in chosen.len()..CAPTIONS {
            chosen.push(all[i % all.len()].clone());
        }
        chosen
    }

    /// The cache's rows of the groups' pictures.
    pub fn cache_rows(&self, groups: &[usize]) -> Vec<usize> {
        groups.iter().filter_map(|&i| self.groups[i].row).collect()
    }

    /// The same, many of them mirrored or crops, as far as the cache has such.
    pub fn rows(&self, groups: &[usize], cache: &FeatureCache, rng: &mut SmallRng) -> Vec<usize> {
        let view = |&i: &usize| Some(cache.view(self.groups[i].row?, CROPPED, self.groups[i].mirror, rng));
        groups.iter().filter_map(view).collect()
    }

    /// A text vector for each group: of one of its captions, or the mean of several, which is more like a picture's. L2-normalised.
    pub fn mean_vectors(&self, groups: &[usize], rng: &mut SmallRng, device: &Device) -> Result<Tensor<2>> {
        let dim = self.texts.dim();
        let mut values = Vec::with_capacity(groups.len() * dim);
        for &group in groups {
            let all = &self.groups[group].vectors;
            ensure!(!all.is_empty(), "a text without a vector");
            let count = if rng.random() { all.len() } else { 1 };
            let mut mean = vec![0.0f32; dim];
            for &place in all.choose_multiple(rng, count) {
                mean.iter_mut().zip(self.texts.vector(place)).for_each(|(sum, x)| *sum += x.to_f32());
            }
            let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
            values.extend(mean.iter().map(|x| x / norm));
        }
        Ok(Tensor::from_data(TensorData::new(values, [groups.len(), dim]), device))
    }

    /// Vectors of all captions, seen or not: what the support is made from.
    pub fn text_vectors(&self) -> Result<Vec<&[half::f16]>> {
        let vectors: Vec<_> = self.groups.iter().flat_map(|group| &group.vectors).map(|&place| self.texts.vector(place)).collect();
        ensure!(!vectors.is_empty(), "no caption has a vector: --teacher does not fit --data");
        Ok(vectors)
    }

    /// The source of text vectors.
    pub fn texts(&self) -> &TextVectors {
        &self.texts
    }
}

/// COCO pictures that have captions.
pub fn coco_pictures(data: &Path) -> Result<Vec<ocelli_eval::dataset::Captioned>> {
    Ok(Dataset::open(data.join("coco"))?.captions(None)?)
}

/// The file, or its gzipped form where that is what there is.
fn plain_or_gz(path: &Path) -> PathBuf {
    if path.exists() { path.to_owned() } else { PathBuf::from(format!("{}.gz", path.display())) }
}

/// Token ids of a caption without its full stop: the decoder's end token says the same.
fn encode(tokenizer: &Tokenizer, caption: &str, max_tokens: usize) -> Result<Vec<u32>> {
    let text = caption.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",");
    let mut ids = tokenizer.encode(text.trim_end_matches(['.', '!', ' ', ',']))?;
    ids.truncate(max_tokens);
    Ok(ids)
}
