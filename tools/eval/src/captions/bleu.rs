//! BLEU (Papineni et al. 2002, <https://aclanthology.org/P02-1040>) over a corpus.

use std::collections::HashMap;

use super::Sample;
use super::ngrams::{Gram, LONGEST, Vocabulary, count};

/// BLEU-1 to BLEU-4, 0 to 1.
///
/// Counts are summed over the corpus before the ratio is taken; the reference length is the closest one
/// (the shorter of two equally close). No smoothing beyond what keeps zero counts finite, as coco-caption does it.
pub fn bleu(samples: &[Sample]) -> [f64; LONGEST] {
    let (mut guesses, mut correct) = ([0u64; LONGEST], [0u64; LONGEST]);
    let (mut length, mut reference_length) = (0usize, 0usize);
    for sample in samples {
        let mut vocabulary = Vocabulary::default();
        let candidate = count(&vocabulary.ids(&sample.candidate));
        let references: Vec<_> = sample.references.iter().map(|words| count(&vocabulary.ids(words))).collect();
        length += sample.candidate.len();
        reference_length += closest(sample);
        for n in 0..LONGEST {
            guesses[n] += sample.candidate.len().saturating_sub(n) as u64;
            let mut most: HashMap<Gram, u32> = HashMap::new();
            for (gram, &times) in references.iter().flat_map(|reference| &reference[n]) {
                let entry = most.entry(*gram).or_default();
                *entry = times.max(*entry);
            }
            correct[n] += candidate[n].iter().map(|(gram, &times)| u64::from(times.min(most.get(gram).copied().unwrap_or(0)))).sum::<u64>();
        }
    }
    let (tiny, small) = (1e-15, 1e-9);
    let ratio = (length as f64 + tiny) / (reference_length as f64 + small);
    let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    std::array::from_fn(|n| {
        product *= (correct[n] as f64 + tiny) / (guesses[n] as f64 + small);
        product.powf(1.0 / (n + 1) as f64) * brevity
    })
}

/// Length of the reference whose length is closest to the candidate's.
fn closest(sample: &Sample) -> usize {
    let lengths = sample.references.iter().map(Vec::len);
    lengths.min_by_key(|&length| (length.abs_diff(sample.candidate.len()), length)).unwrap_or(0)
}
