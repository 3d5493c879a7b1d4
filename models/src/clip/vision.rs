//! Pictures to tokens, or to a point of the joint space.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ocelli_ops::{Activation, AttentionOptions, Window, attention};

use super::config::VisionConfig;
use crate::blocks::vit::ViTLayer;
use crate::blocks::{LayerNorm, Linear};
use crate::linears;

/// A vision transformer.
#[derive(Module, Debug)]
pub struct VisionTower {
    /// `[3 · patch², d]`: a patch's channels, its rows, its columns.
    pub patches: Linear,
    /// `[1, d]`
    pub class_token: Option<Param<Tensor<2>>>,
    /// `[tokens, d]`
    pub positions: Param<Tensor<2>>,
    /// Before the first layer.
    pub pre_norm: Option<LayerNorm>,
    /// Layers.
    pub layers: Vec<ViTLayer>,
    /// After the last layer.
    pub post_norm: LayerNorm,
    /// `[d, joint]`, of the class token.
    pub projection: Option<Linear>,
    /// Pools the tokens.
    pub pool: Option<AttentionPool>,
    side: usize,
    patch: usize,
}

linears!(VisionTower { patches, layers, projection, pool });

/// What a tower says of pictures.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Tokens after the last layer: `[batch, tokens, d]`; normed where the head is made of tokens.
    pub tokens: Tensor<3>,
    /// `[batch, joint]`, where the tower has a head for it.
    pub embedding: Option<Tensor<2>>,
}

impl VisionTower {
    /// A tower of these parts; class token, norm and heads are there as `config` says.
    pub fn new(
        config: &VisionConfig,
        patches: Linear,
        embeddings: (Option<Tensor<2>>, Tensor<2>),
        norms: (Option<LayerNorm>, LayerNorm),
        layers: Vec<ViTLayer>,
        heads: (Option<Linear>, Option<AttentionPool>),
    ) -> Self {
        Self {
            patches,
            class_token: embeddings.0.map(Param::from_tensor),
            positions: Param::from_tensor(embeddings.1),
            pre_norm: norms.0,
            layers,
            post_norm: norms.1,
            projection: heads.0,
            pool: heads.1,
            side: config.side,
            patch: config.patch,
        }
    }

    /// Normalised pictures `[batch, 3, side, side]` → what is seen.
    pub fn forward(&self, pictures: Tensor<4>) -> Seen {
        let [batch, ..] = pictures.dims();
        let window = Window { height: self.side, width: self.side, kernel: self.patch, stride: self.patch, same: false };
        let mut x = self.patches.windows(pictures, window); // [batch, patches, d]
        let [_, _, d] = x.dims();
        if let Some(class_token) = &self.class_token {
            let class_token = class_token.val().unsqueeze::<3>().expand([batch, 1, d]);
            x = Tensor::cat(vec![class_token, x], 1);
        }
        x = x + self.positions.val().unsqueeze::<3>();
        if let Some(norm) = &self.pre_norm {
            x = norm.forward(x);
        }
        for layer in &self.layers {
            x = layer.forward(x);
        }
        if let Some(projection) = &self.projection {
            let class_token = x.clone().narrow(1, 0, 1).reshape([batch, d]);
            let embedding = projection.normed(&self.post_norm, class_token);
            return Seen { tokens: x, embedding: Some(embedding) };
        }
        let tokens = self.post_norm.forward(x);
        let embedding = self.pool.as_ref().map(|pool| pool.forward(tokens.clone()));
        Seen { tokens, embedding }
    }
}

/// A learned query that attends to tokens, and a feed-forward network (SigLIP's `MultiheadAttentionPoolingHead`).
#[derive(Module, Debug)]
pub struct AttentionPool {
    /// `[1, d]`
    pub probe: Param<Tensor<2>>,
    /// `[d, d]`
    pub q: Linear,
    /// `[d, 2 d]`: keys and values side by side.
    pub kv: Linear,
    /// `[d, d]`
    pub output: Linear,
    /// Before the feed-forward network.
    pub norm: LayerNorm,
    /// `[d, hidden]`
    pub up: Linear,
    /// `[hidden, d]`
    pub down: Linear,
    heads: usize,
    #[module(skip)]
    activation: Activation,
}

linears!(AttentionPool { q, kv, output, up, down });

impl AttentionPool {
    /// A pool of these parts.
    pub fn new(probe: Tensor<2>, linears: [Linear; 5], norm: LayerNorm, heads: usize, activation: Activation) -> Self {
        let [q, kv, output, up, down] = linears;
        Self { probe: Param::from_tensor(probe), q, kv, output, norm, up, down, heads, activation }
    }

    /// `[batch, tokens, d]` → `[batch, d]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let [batch, _, d] = x.dims();
        let q = self.q.forward(self.probe.val().unsqueeze::<3>().expand([batch, 1, d]));
        let kv = self.kv.forward(x);
        let scale = ((d / self.heads) as f32).sqrt().recip();
        let options = AttentionOptions { heads: self.heads, kv_heads: self.heads, scale, causal: false, fast: false };
        let pooled = attention(q, kv.clone().narrow(2, 0, d), kv.narrow(2, d, d), None, options);
        let x = self.output.forward(pooled);
        let hidden = self.up.normed_then(&self.norm, x.clone(), self.activation);
        self.down.plus(hidden, x).reshape([batch, d])
    }
}
