//! ROUGE-L (Lin 2004, <https://aclanthology.org/W04-1013>): the longest common subsequence.

use super::Sample;

/// Weight of recall against precision, as coco-caption has it.
const BETA: f64 = 1.2;

/// Mean over the samples of ROUGE-L, 0 to 1: best precision and best recall over the references.
pub fn rouge_l(samples: &[Sample]) -> f64 {
    samples.iter().map(one).sum::<f64>() / samples.len().max(1) as f64
}

fn one(sample: &Sample) -> f64 {
    let (mut precision, mut recall) = (0.0f64, 0.0f64);
    for reference in &sample.references {
        let common = common_subsequence(&sample.candidate, reference) as f64;
        precision = precision.max(common / sample.candidate.len().max(1) as f64);
        recall = recall.max(common / reference.len().max(1) as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

/// Length of the longest common subsequence.
fn common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0; // of the row above, one to the left
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}
