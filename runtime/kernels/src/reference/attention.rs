//! Attention in plain loops.

use crate::attention::Attention;

/// softmax(scale · Q Kᵀ + mask + bias) V, `[Tq][H · D]`; rows that see no key, or only keys masked with −∞, are zero.
pub fn attention(a: &Attention<'_>) -> Vec<f64> {
    let group = a.heads / a.kv_heads;
    let mut out = vec![0.0; a.queries * a.heads * a.dim];
    for query in 0..a.queries {
        for head in 0..a.heads {
            let kv_head = head / group;
            let seen = if a.causal { (a.keys + query + 1).saturating_sub(a.queries).min(a.keys) } else { a.keys };
            let mut scores = Vec::with_capacity(seen);
            for key in 0..seen {
                let mut score = 0.0;
                for d in 0..a.dim {
                    let q = f64::from(a.q.values[query * a.q.row_stride + head * a.q.head_stride + d]);
                    score += q * a.k.values.at(key * a.k.row_stride + kv_head * a.k.head_stride + d);
                }
                score *= f64::from(a.scale);
                score += a.key_mask.map_or(0.0, |mask| f64::from(mask[key]));
                score += a.bias.map_or(0.0, |bias| f64::from(bias.values[query * bias.row_stride + head * bias.head_stride + key]));
                scores.push(score);
            }
            let weights = softmax(&scores);
            for d in 0..a.dim {
                let value = |key: usize| a.v.values.at(key * a.v.row_stride + kv_head * a.v.head_stride + d);
                out[(query * a.heads + head) * a.dim + d] = weights.iter().enumerate().map(|(key, weight)| weight * value(key)).sum();
            }
        }
    }
    out
}

/// e^(x − greatest) / Σ e^(x − greatest); zeros where all are −∞.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    if x.iter().all(|&x| x == f64::NEG_INFINITY) {
        return vec![0.0; x.len()];
    }
    let greatest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = x.iter().map(|x| (x - greatest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}
