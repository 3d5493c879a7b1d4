//! The picture's place in the joint space of pictures and text.
//!
//! Two parts are added. The backbone's opinion about ImageNet's thousand classes picks a convex combination of class vectors
//! (ConSE, Norouzi et al. 2014, <https://arxiv.org/abs/1312.5650>), here with whitened vectors, so that what is near a class in the text space
//! does not take its place; and attention-pooled features say what a class cannot: scene, action, number.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::backbone::{CLASSES, HEAD};
use crate::blocks::{LayerNorm, Linear};
use crate::linears;
use crate::text::{TextTower, TextTowerConfig};

/// Both towers and the sharpness of comparisons between them.
#[derive(Debug, Module)]
pub struct JointSpace {
    /// Text → the joint space.
    pub text: TextTower,
    /// Features → the joint space.
    pub image: ImageHead,
    /// `[1]`: logarithm of what a cosine between a picture and a label is multiplied with before the softmax over labels.
    pub label_scale: Param<Tensor<1>>,
    /// `[1]`: the same between pictures and captions, where a batch is told apart.
    pub caption_scale: Param<Tensor<1>>,
}

linears!(JointSpace { text, image });

impl JointSpace {
    /// Towers with random weights.
    pub fn init(text: &TextTowerConfig, image: &ImageHeadConfig, device: &Device) -> Self {
        let scale = |value: f64| Initializer::Constant { value: value.ln() }.init([1], device);
        Self {
            text: TextTower::init(text, device),
            image: ImageHead::init(image, device),
            label_scale: scale(30.0),
            caption_scale: scale(20.0),
        }
    }
}

/// Shape of an [`ImageHead`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageHeadConfig {
    /// Dimension of the joint space.
    pub joint: usize,
    /// Leading dimensions of it that the class vectors span: the sentence teacher's space.
    pub named: usize,
    /// Width of the pooled features.
    pub width: usize,
    /// Attention maps that pool.
    pub heads: usize,
    /// The second, softer softmax over classes: its temperature.
    pub soft_temperature: f64,
    /// Its weight beside the first.
    pub soft_weight: f64,
    /// Dropout on the features while training.
    pub dropout: f64,
}

impl Default for ImageHeadConfig {
    /// nano's.
    fn default() -> Self {
        Self { joint: 512, named: 384, width: 256, heads: 8, soft_temperature: 1.5, soft_weight: 0.3, dropout: 0.2 }
    }
}

/// Features of the backbone → a point of the joint space.
#[derive(Debug, Module)]
pub struct ImageHead {
    /// `[CLASSES, named]`, a vector for each class; see [`whitened`].
    pub classes: Param<Tensor<2>>,
    /// `[HEAD, width]`
    pub reduce: Linear,
    /// Over the width.
    pub norm: LayerNorm,
    /// `[width, heads]`, how much each cell counts.
    pub attention: Linear,
    /// `[2 * width, joint]`
    pub joint: Linear,
    dropout: Dropout,
    soft_temperature: f64,
    soft_weight: f64,
}

linears!(ImageHead { reduce, attention, joint });

impl ImageHead {
    /// A head with random weights and no class vectors yet (all zero).
    pub fn init(config: &ImageHeadConfig, device: &Device) -> Self {
        Self {
            classes: Initializer::Zeros.init([CLASSES, config.named], device),
            reduce: Linear::init(HEAD, config.width, device),
            norm: LayerNorm::init(config.width, device),
            attention: Linear::init(config.width, config.heads, device),
            joint: Linear::init_with(2 * config.width, config.joint, Initializer::Normal { mean: 0.0, std: 2e-3 }, device),
            dropout: DropoutConfig::new(config.dropout).init(),
            soft_temperature: config.soft_temperature,
            soft_weight: config.soft_weight,
        }
    }

    /// `head [batch, cells, HEAD]` and `logits [batch, CLASSES]` → `[batch, joint]`, not normalised.
    pub fn forward(&self, head: Tensor<3>, logits: Tensor<2>) -> Tensor<2> {
        let pooled = self.joint.forward(self.pool(self.dropout.forward(head)));
        let named = self.consensus(logits);
        let ([batch, joint], [_, named_dim]) = (pooled.dims(), named.dims());
        let rest = Tensor::zeros([batch, joint - named_dim], &pooled.device());
        pooled + Tensor::cat(vec![named, rest], 1)
    }

    /// The classes' vectors, weighted by the backbone's opinion: `[batch, CLASSES]` → `[batch, named]`.
    fn consensus(&self, logits: Tensor<2>) -> Tensor<2> {
        let soft = softmax(logits.clone().div_scalar(self.soft_temperature), 1).mul_scalar(self.soft_weight);
        (softmax(logits, 1) + soft).matmul(self.classes.val())
    }

    /// Mean over the cells, beside means that attention maps weigh: `[batch, cells, HEAD]` → `[batch, 2 * width]`.
    fn pool(&self, head: Tensor<3>) -> Tensor<2> {
        let x = gelu(self.norm.forward(self.reduce.forward(head))); // [batch, cells, width]
        let [batch, cells, width] = x.dims();
        let weights = softmax(self.attention.forward(x.clone()), 1); // [batch, cells, heads]
        let [_, _, heads] = weights.dims();
        let split = x.clone().reshape([batch, cells, heads, width / heads]);
        let attended = (split * weights.unsqueeze_dim::<4>(3)).sum_dim(1).reshape([batch, width]);
        Tensor::cat(vec![x.mean_dim(1).reshape([batch, width]), attended], 1)
    }
}

/// Rows scaled to length 1.
pub fn normalise(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).add_scalar(1e-12).sqrt();
    x / norm
}

/// Class vectors whose inner products with the class names' own vectors are as near to one-hot as a space of so few dimensions allows:
/// `N (NᵀN + λ I)⁻¹`, scaled to rows of mean length 1. `names` are `[classes][dim]`, row by row.
pub fn whitened(names: &[f32], dim: usize, lambda: f64) -> Vec<f32> {
    let mut gram = vec![0.0f64; dim * dim];
    for row in names.chunks_exact(dim) {
        for (i, &a) in row.iter().enumerate() {
            for (g, &b) in gram[i * dim..(i + 1) * dim].iter_mut().zip(row) {
                *g += f64::from(a) * f64::from(b);
            }
        }
    }
    for i in 0..dim {
        gram[i * dim + i] += lambda;
    }
    let lower = cholesky(gram, dim);
    let mut out: Vec<f64> = Vec::with_capacity(names.len());
    for row in names.chunks_exact(dim) {
        out.extend(solve(&lower, dim, row));
    }
    let rows = (names.len() / dim).max(1) as f64;
    let mean: f64 = out.chunks_exact(dim).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).sum::<f64>() / rows;
    out.iter().map(|x| (x / mean) as f32).collect()
}

/// The lower factor of a positive definite matrix: `L Lᵀ = m`.
fn cholesky(mut m: Vec<f64>, n: usize) -> Vec<f64> {
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| m[i * n + k] * m[j * n + k]).sum();
            let rest = m[i * n + j] - dot;
            m[i * n + j] = if i == j { rest.sqrt() } else { rest / m[j * n + j] };
        }
    }
    m
}

/// Solves `L Lᵀ x = b`.
fn solve(lower: &[f64], n: usize, b: &[f32]) -> Vec<f64> {
    let mut x: Vec<f64> = b.iter().map(|&v| f64::from(v)).collect();
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| lower[i * n + k] * x[k]).sum();
        x[i] = (x[i] - dot) / lower[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| lower[k * n + i] * x[k]).sum();
        x[i] = (x[i] - dot) / lower[i * n + i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitening_separates_neighbours() {
        // Two names almost alike, and one apart, in three dimensions.
        let names = [1.0, 0.0, 0.0, 0.98, 0.199, 0.0, 0.0, 0.0, 1.0];
        let vectors = whitened(&names, 3, 1e-6);
        let dot = |i: usize, j: usize| -> f32 { (0..3).map(|k| vectors[i * 3 + k] * names[j * 3 + k]).sum() };
        for i in 0..3 {
            for j in 0..3 {
                if i == j {
                    assert!(dot(i, i) > 0.01);
                } else {
                    assert!(dot(i, j).abs() < 1e-3, "{i} {j} {}", dot(i, j));
                }
            }
        }
    }

    #[test]
    fn rows_have_length_one() {
        let x = normalise(Tensor::from_floats([[3.0, 4.0], [0.0, 0.5]], &Device::flex()));
        let values: Vec<f32> = x.into_data().iter::<f32>().collect();
        for (got, want) in values.iter().zip([0.6, 0.8, 0.0, 1.0]) {
            assert!((got - want).abs() < 1e-6);
        }
    }
}
