//! CIDEr-D (Vedantam et al. 2015, <https://arxiv.org/abs/1411.5726>): consensus of n-grams, weighted by how telling they are.

use std::collections::HashMap;

use super::Sample;
use super::ngrams::{Gram, LONGEST, Vocabulary, count};

/// Standard deviation of the length penalty, in words.
const SIGMA: f64 = 6.0;
/// The published scale: a perfect match of every n-gram with one reference gives 10.
const SCALE: f64 = 10.0;

/// CIDEr-D of a corpus and of each picture in it. 1.0 here is what tables often print as 100.
#[derive(Debug, Clone, PartialEq)]
pub struct CiderD {
    /// Mean over the pictures.
    pub mean: f64,
    /// By picture, in order.
    pub each: Vec<f64>,
}

/// CIDEr-D with document frequencies from the references of these samples.
pub fn cider_d(samples: &[Sample]) -> CiderD {
    let references: Vec<&[Vec<String>]> = samples.iter().map(|sample| sample.references.as_slice()).collect();
    let mut consensus = Consensus::new(&references);
    let each: Vec<f64> = samples.iter().enumerate().map(|(picture, sample)| consensus.score(&sample.candidate, picture)).collect();
    CiderD { mean: each.iter().sum::<f64>() / each.len().max(1) as f64, each }
}

/// References with their document frequencies, against which any number of candidates can be scored.
#[derive(Debug)]
pub struct Consensus<'a> {
    vocabulary: Vocabulary<'a>,
    frequencies: HashMap<Gram, f64>,
    pictures: Vec<Vec<Weights>>,
    log_pictures: f64,
}

/// n-grams of one sentence, weighted by inverse document frequency.
#[derive(Debug)]
struct Weights {
    grams: [HashMap<Gram, f64>; LONGEST],
    norms: [f64; LONGEST],
    length: f64,
}

impl<'a> Consensus<'a> {
    /// Counts the n-grams of every picture's references.
    pub fn new(references: &[&'a [Vec<String>]]) -> Self {
        let mut vocabulary = Vocabulary::default();
        let counts: Vec<Vec<_>> =
            references.iter().map(|sentences| sentences.iter().map(|words| count(&vocabulary.ids(words))).collect()).collect();
        let mut frequencies: HashMap<Gram, f64> = HashMap::new();
        for sentences in &counts {
            let mut seen: Vec<Gram> = sentences.iter().flatten().flat_map(HashMap::keys).copied().collect();
            seen.sort_unstable();
            seen.dedup();
            for gram in seen {
                *frequencies.entry(gram).or_default() += 1.0;
            }
        }
        let log_pictures = (references.len() as f64).ln();
        let weigh = |sentences: &Vec<_>| sentences.iter().map(|counts| Weights::new(counts, &frequencies, log_pictures)).collect();
        let pictures = counts.iter().map(weigh).collect();
        Self { vocabulary, frequencies, pictures, log_pictures }
    }

    /// CIDEr-D of a candidate for picture number `picture`; 0 for a picture that is not there or has no references.
    pub fn score(&mut self, candidate: &'a [String], picture: usize) -> f64 {
        let Some(references) = self.pictures.get(picture).filter(|references| !references.is_empty()) else { return 0.0 };
        let candidate = Weights::new(&count(&self.vocabulary.ids(candidate)), &self.frequencies, self.log_pictures);
        let sum: f64 = references.iter().map(|reference| candidate.similarity(reference)).sum();
        SCALE * sum / references.len() as f64
    }
}

impl Weights {
    fn new(counts: &[HashMap<Gram, u32>; LONGEST], frequencies: &HashMap<Gram, f64>, log_pictures: f64) -> Self {
        let rarity = |gram: &Gram| log_pictures - frequencies.get(gram).copied().unwrap_or(0.0).max(1.0).ln();
        let grams: [HashMap<Gram, f64>; LONGEST] =
            std::array::from_fn(|n| counts[n].iter().map(|(gram, &times)| (*gram, f64::from(times) * rarity(gram))).collect());
        let norms = std::array::from_fn(|n| grams[n].values().map(|weight| weight * weight).sum::<f64>().sqrt());
        // coco-caption takes a sentence's length from its bigrams.
        let length = f64::from(counts[1].values().sum::<u32>());
        Self { grams, norms, length }
    }

    /// Mean over n of the cosine with counts clipped at the reference's, times the length penalty.
    fn similarity(&self, reference: &Self) -> f64 {
        let difference = self.length - reference.length;
        let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        let cosine = |n: usize| {
            let clipped = |(gram, &weight): (&Gram, &f64)| reference.grams[n].get(gram).map_or(0.0, |&r| weight.min(r) * r);
            let product: f64 = self.grams[n].iter().map(clipped).sum();
            let norms = self.norms[n] * reference.norms[n];
            if norms > 0.0 { product / norms } else { product }
        };
        penalty * (0..LONGEST).map(cosine).sum::<f64>() / LONGEST as f64
    }
}
