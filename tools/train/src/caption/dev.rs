//! Captions of pictures that were not trained on, and what they score.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use ocelli_eval::captions::{Sample, bleu, cider_d};
use ocelli_eval::dataset::{Captioned, Dataset};
use ocelli_models::nano::caption::Captioner;
use ocelli_models::text::{BeamOptions, Hypothesis, Specials, Tokenizer};
use serde::Serialize;
use serde_json::json;

use super::groups::coco_pictures;
use super::vectors::{PictureVectors, TextVectors};
use crate::checkpoint::Checkpoint;
use crate::features::{FeatureCache, Map};

/// What the captioner is given of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Its feature maps.
    Maps,
    /// Its vector.
    Vector,
    /// Both.
    Both,
}

/// What captions score.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Scores {
    /// BLEU-4, 0 to 1.
    pub bleu_4: f64,
    /// CIDEr-D.
    pub cider_d: f64,
    /// Mean number of words.
    pub words: f64,
    /// Different words in all captions.
    pub vocabulary: usize,
}

/// Pictures with captions that are not trained on.
pub struct Judge<'a> {
    flickr8k: Vec<(usize, Captioned)>,
    coco: Vec<(usize, Captioned)>,
    tokenizer: &'a Tokenizer,
}

/// Pictures that are captioned at a time.
const CHUNK: usize = 25;

impl<'a> Judge<'a> {
    /// Flickr8k's dev pictures, and the captioned COCO pictures that are not trained on: every other if `coco`, else all.
    pub fn read(data: &Path, cache: &FeatureCache, tokenizer: &'a Tokenizer, coco: bool) -> Result<Self> {
        let find = |set: &str, record: Captioned| {
            let row = cache.row(set, &record.file).with_context(|| format!("the cache has no {}", record.file))?;
            Ok((row, record))
        };
        let dev = Dataset::open(data.join("flickr8k"))?.captions(Some("dev"))?;
        let held_out = coco_pictures(data)?.into_iter().skip(usize::from(coco)).step_by(1 + usize::from(coco));
        // A cache of Flickr8k alone is enough to train with.
        let held_out = held_out.filter(|record| cache.row("coco", &record.file).is_some());
        Ok(Self {
            flickr8k: dev.into_iter().map(|record| find("flickr8k", record)).collect::<Result<_>>()?,
            coco: held_out.map(|record| find("coco", record)).collect::<Result<_>>()?,
            tokenizer,
        })
    }

    /// Scores on the first `count` dev pictures of Flickr8k; `Both` falls back to maps where there are no vectors.
    #[allow(clippy::too_many_arguments)]
    pub fn flickr8k(
        &self,
        module: &Captioner,
        cache: &FeatureCache,
        pictures: Option<&PictureVectors>,
        input: Input,
        specials: Specials,
        options: &BeamOptions,
        count: usize,
    ) -> Result<Scores> {
        let records = &self.flickr8k[..count.min(self.flickr8k.len())];
        let input = if pictures.is_some() { input } else { Input::Maps };
        let texts = self.texts(&captions(module, cache, pictures, records, input, specials, options)?)?;
        Ok(scores(records, &texts))
    }

    /// Beam search on all pictures, by every input there is, and the choice between two by the text tower; one line a data set and input into
    /// `dev.jsonl`, the captions into `captions-SET.jsonl`.
    pub fn report(
        &self,
        module: &Captioner,
        cache: &FeatureCache,
        pictures: Option<&PictureVectors>,
        texts: &TextVectors,
        specials: Specials,
        checkpoint: &Checkpoint,
    ) -> Result<()> {
        let mut lines = BufWriter::new(File::create(checkpoint.file("dev.jsonl"))?);
        for (set, records) in [("flickr8k", &self.flickr8k), ("coco", &self.coco)] {
            if records.is_empty() {
                continue;
            }
            let mut write = |value: serde_json::Value| -> Result<()> {
                println!("{value}");
                Ok(writeln!(lines, "{value}")?)
            };
            let inputs = if pictures.is_some() { &[Input::Maps, Input::Vector, Input::Both][..] } else { &[Input::Maps][..] };
            let mut found = Vec::new();
            for &input in inputs {
                let options = BeamOptions::default();
                let hypotheses = captions(module, cache, pictures, records, input, specials, &options)?;
                let captions = self.texts(&hypotheses)?;
                write(json!({"set": set, "input": format!("{input:?}"), "pictures": records.len(), "beams": options.width,
                    "length_penalty": options.length_penalty, "scores": scores(records, &captions)}))?;
                found.push(captions);
            }
            let mut file = BufWriter::new(File::create(checkpoint.file(&format!("captions-{set}.jsonl")))?);
            for (i, (_, record)) in records.iter().enumerate() {
                let captions: Vec<&String> = found.iter().map(|captions| &captions[i]).collect();
                writeln!(file, "{}", json!({"file": record.file, "captions": captions, "reference": record.captions.first()}))?;
            }
            let Some(pictures) = pictures else { continue };
            for (name, choice) in [("Maps or Vector", vec![0, 1]), ("Both or Vector", vec![2, 1]), ("any", vec![0, 1, 2])] {
                let candidates: Vec<&Vec<String>> = choice.iter().map(|&i| &found[i]).collect();
                if let Some(captions) = self.choose(records, &candidates, pictures, texts)? {
                    write(json!({"set": set, "input": name, "pictures": records.len(), "scores": scores(records, &captions)}))?;
                }
            }
        }
        Ok(lines.flush()?)
    }

    /// The candidate whose text vector is nearest the picture's; `None` where there is no tower.
    fn choose(
        &self,
        records: &[(usize, Captioned)],
        candidates: &[&Vec<String>],
        pictures: &PictureVectors,
        texts: &TextVectors,
    ) -> Result<Option<Vec<String>>> {
        let mut best: Vec<(f32, String)> = vec![(f32::NEG_INFINITY, String::new()); records.len()];
        for captions in candidates {
            let strings: Vec<&str> = captions.iter().map(String::as_str).collect();
            let vectors = texts.embed(&strings, self.tokenizer)?;
            if vectors.is_empty() {
                return Ok(None);
            }
            for (((row, _), vector), (caption, best)) in records.iter().zip(vectors.chunks(texts.dim())).zip(captions.iter().zip(&mut best))
            {
                let similarity: f32 = pictures.row(*row).iter().zip(vector).map(|(a, b)| a * b).sum();
                if similarity > best.0 {
                    *best = (similarity, caption.clone());
                }
            }
        }
        Ok(Some(best.into_iter().map(|(_, caption)| caption).collect()))
    }

    fn texts(&self, hypotheses: &[Hypothesis]) -> Result<Vec<String>> {
        hypotheses.iter().map(|hypothesis| Ok(self.tokenizer.decode(&hypothesis.tokens)?)).collect()
    }
}

/// One caption a picture.
fn captions(
    module: &Captioner,
    cache: &FeatureCache,
    pictures: Option<&PictureVectors>,
    records: &[(usize, Captioned)],
    input: Input,
    specials: Specials,
    options: &BeamOptions,
) -> Result<Vec<Hypothesis>> {
    let device = Device::flex();
    let mut found = Vec::with_capacity(records.len());
    for chunk in records.chunks(CHUNK) {
        let rows: Vec<usize> = chunk.iter().map(|(row, _)| *row).collect();
        let mut tokens = Vec::new();
        if input != Input::Vector {
            tokens.push(module.picture_tokens(cache.map(Map::Head, &rows, &device)?, cache.map(Map::Stride16, &rows, &device)?));
        }
        if let Some(pictures) = pictures.filter(|_| input != Input::Maps) {
            tokens.push(module.vector_tokens(pictures.rows(&rows, &device)));
        }
        found.extend(module.caption(Tensor::cat(tokens, 1), specials, options)?);
    }
    Ok(found)
}

fn scores(records: &[(usize, Captioned)], captions: &[String]) -> Scores {
    let samples: Vec<Sample> = records.iter().zip(captions).map(|((_, record), caption)| Sample::new(caption, &record.captions)).collect();
    let words = samples.iter().map(|sample| sample.candidate.len()).sum::<usize>() as f64 / samples.len().max(1) as f64;
    let vocabulary = samples.iter().flat_map(|sample| &sample.candidate).collect::<std::collections::HashSet<_>>().len();
    Scores { bleu_4: bleu(&samples)[3], cider_d: cider_d(&samples).mean, words, vocabulary }
}
