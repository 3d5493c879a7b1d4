//! Which tokens may be drawn, and the drawing.

use ocelli_flow::Sampling;

use crate::random::SplitMix;

/// Draws tokens; the same seed draws the same ones.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: SplitMix,
}

impl Sampler {
    /// As `sampling` says.
    pub fn new(sampling: &Sampling) -> Self {
        Self { sampling: *sampling, random: SplitMix::new(sampling.seed) }
    }

    /// A token of those that `logits` and the sampling leave; `None` where there is none.
    pub fn draw(&mut self, logits: &[f32]) -> Option<u32> {
        let left = allowed(logits, &self.sampling);
        let total: f64 = left.iter().map(|(_, p)| f64::from(*p)).sum();
        let mut rest = self.random.unit() * total;
        for (token, p) in &left {
            rest -= f64::from(*p);
            if rest < 0.0 {
                return Some(*token);
            }
        }
        left.last().map(|(token, _)| *token)
    }
}

/// The tokens that may be drawn with their probabilities, the likeliest first; temperature, top-k, top-p and min-p act in this order, each on
/// what the one before it left, as transformers' warpers do.
pub fn allowed(logits: &[f32], sampling: &Sampling) -> Vec<(u32, f32)> {
    let scaled = logits.iter().enumerate().filter(|(_, logit)| logit.is_finite());
    let mut left: Vec<(u32, f32)> = scaled.map(|(token, logit)| (token as u32, logit / sampling.temperature)).collect();
    left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if let Some(k) = sampling.top_k
        && let Some(&(_, least)) = left.get(k - 1)
    {
        // Equals of the last one stay.
        left.truncate(left.partition_point(|(_, logit)| *logit >= least));
    }
    let Some(&(_, greatest)) = left.first() else { return left };
    left.iter_mut().for_each(|(_, logit)| *logit = (*logit - greatest).exp());
    if let Some(p) = sampling.top_p.filter(|p| *p < 1.0) {
        let total: f32 = left.iter().map(|(_, p)| p).sum();
        // From the least likely on: what together has at most 1 − p goes.
        let mut tail = 0.0;
        let goes = left.iter().rev().take_while(|(_, q)| {
            tail += q / total;
            tail <= 1.0 - p
        });
        let goes = goes.count();
        left.truncate((left.len() - goes).max(1));
    }
    if let Some(p) = sampling.min_p {
        // Relative to the likeliest, whose weight is 1.
        left.truncate(left.partition_point(|(_, q)| *q >= p).max(1));
    }
    let total: f32 = left.iter().map(|(_, p)| p).sum();
    left.iter_mut().for_each(|(_, p)| *p /= total);
    left
}
