//! Captions of pictures that were not trained on, and what they score.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use ocelli_eval::captions::{Sample, bleu, cider_d};
use ocelli_eval::dataset::{Captioned, Dataset};
use ocelli_flow::GenerateOptions;
use ocelli_models::nano::caption::{Captioner, Specials};
use ocelli_models::nano::config::CaptionSearch;
use ocelli_models::text::{Hypothesis, Tokenizer};
use serde::Serialize;
use serde_json::json;

use super::groups::coco_pictures;
use super::vectors::{PictureVectors, TextVectors};
use crate::checkpoint::Checkpoint;
use crate::features::{FeatureCache, Map};

/// Longest caption that is searched for, in tokens.
const MAX_TOKENS: usize = 30;

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

/// A sentence that may be a picture's caption.
#[derive(Debug, Clone)]
struct Candidate {
    text: String,
    input: Input,
    /// What the search found it by.
    score: f32,
    /// Cosine to the picture in the joint space.
    similarity: f32,
}

/// What is tried for [`CaptionSearch`].
const WEIGHTS: [f32; 6] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0];
const BONUSES: [f32; 5] = [-0.6, -0.3, 0.0, 0.3, 0.6];

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
        search: &CaptionSearch,
        count: usize,
    ) -> Result<Scores> {
        let records = &self.flickr8k[..count.min(self.flickr8k.len())];
        let input = if pictures.is_some() { input } else { Input::Maps };
        let found = captions(module, cache, pictures, records, input, specials, search)?;
        Ok(scores(records, &self.texts(found.iter().map(|found| &found[0]))?))
    }

    /// Beam search on all pictures, by every input there is, and choices among what `Both` and `Vector` find; one line a data set and way into
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
            let (mut first, mut candidates) = (Vec::new(), vec![Vec::new(); records.len()]);
            for &input in inputs {
                let search = CaptionSearch { max_tokens: MAX_TOKENS, ..CaptionSearch::default() };
                let found = captions(module, cache, pictures, records, input, specials, &search)?;
                let captions = self.texts(found.iter().map(|found| &found[0]))?;
                write(json!({"set": set, "input": format!("{input:?}"), "pictures": records.len(), "beams": search.beams,
                    "length_penalty": search.length_penalty, "scores": scores(records, &captions)}))?;
                first.push(captions);
                if input != Input::Maps {
                    for (all, found) in candidates.iter_mut().zip(&found) {
                        let text = self.texts(found)?.into_iter();
                        all.extend(text.zip(found).map(|(text, found)| Candidate { text, input, score: found.score, similarity: 0.0 }));
                    }
                }
            }
            let mut file = BufWriter::new(File::create(checkpoint.file(&format!("captions-{set}.jsonl")))?);
            for (i, (_, record)) in records.iter().enumerate() {
                let captions: Vec<&String> = first.iter().map(|captions| &captions[i]).collect();
                writeln!(file, "{}", json!({"file": record.file, "captions": captions, "reference": record.captions.first()}))?;
            }
            let Some(pictures) = pictures else { continue };
            self.compare(records, &mut candidates, pictures, texts)?;
            for weight in WEIGHTS {
                for bonus in BONUSES {
                    let search = CaptionSearch { similarity_weight: weight, vector_bonus: bonus, ..Default::default() };
                    let chosen: Vec<String> = candidates.iter().map(|all| choose(all, &search)).collect();
                    write(json!({"set": set, "similarity_weight": weight, "vector_bonus": bonus, "scores": scores(records, &chosen)}))?;
                }
            }
        }
        Ok(lines.flush()?)
    }

    /// Sets the candidates' similarities to their pictures; they stay 0 where there is no tower.
    fn compare(
        &self,
        records: &[(usize, Captioned)],
        candidates: &mut [Vec<Candidate>],
        pictures: &PictureVectors,
        texts: &TextVectors,
    ) -> Result<()> {
        for ((row, _), all) in records.iter().zip(candidates) {
            let strings: Vec<&str> = all.iter().map(|candidate| candidate.text.as_str()).collect();
            let picture = pictures.row(*row);
            let norm = picture.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
            let vectors = texts.embed(&strings, self.tokenizer)?;
            for (candidate, vector) in all.iter_mut().zip(vectors.chunks(texts.dim())) {
                candidate.similarity = picture.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>() / norm;
            }
        }
        Ok(())
    }

    fn texts<'h>(&self, hypotheses: impl IntoIterator<Item = &'h Hypothesis>) -> Result<Vec<String>> {
        hypotheses.into_iter().map(|hypothesis| Ok(self.tokenizer.decode(&hypothesis.tokens)?)).collect()
    }
}

/// The candidate that would be chosen at run time.
fn choose(all: &[Candidate], search: &CaptionSearch) -> String {
    let value = |candidate: &Candidate| search.value(candidate.score, candidate.similarity, candidate.input == Input::Vector);
    let best = all.iter().max_by(|a, b| value(a).total_cmp(&value(b)));
    best.map(|candidate| candidate.text.clone()).unwrap_or_default()
}

/// Captions of each picture, best first.
fn captions(
    module: &Captioner,
    cache: &FeatureCache,
    pictures: Option<&PictureVectors>,
    records: &[(usize, Captioned)],
    input: Input,
    specials: Specials,
    search: &CaptionSearch,
) -> Result<Vec<Vec<Hypothesis>>> {
    let device = Device::flex();
    let (settings, beams) = search.settings(&GenerateOptions::default(), specials, module.room())?;
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
        found.extend(module.captions(Tensor::cat(tokens, 1), specials.start, &settings, &beams)?);
    }
    Ok(found)
}

fn scores(records: &[(usize, Captioned)], captions: &[String]) -> Scores {
    let samples: Vec<Sample> = records.iter().zip(captions).map(|((_, record), caption)| Sample::new(caption, &record.captions)).collect();
    let words = samples.iter().map(|sample| sample.candidate.len()).sum::<usize>() as f64 / samples.len().max(1) as f64;
    let vocabulary = samples.iter().flat_map(|sample| &sample.candidate).collect::<std::collections::HashSet<_>>().len();
    Scores { bleu_4: bleu(&samples)[3], cider_d: cider_d(&samples).mean, words, vocabulary }
}
