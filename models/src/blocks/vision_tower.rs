//! Pictures to tokens, or to a point of the joint space: the vision towers of CLIP, SigLIP, OWL-ViT, ViT, DeiT and BLIP.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_ops::Window;

use super::{AttentionPool, Head, LayerNorm, Linear, ViTLayer, VisionConfig};
use crate::linears;

/// A vision transformer (Dosovitskiy et al. 2021, <https://arxiv.org/abs/2010.11929>).
#[derive(Module, Debug)]
pub struct VisionTower {
    /// `[3 · patch², d]`: a patch's channels, its rows, its columns; of a flexible tower its rows, its columns, their channels.
    pub patches: Linear,
    /// `[class tokens, d]`
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
    /// Which of the positions each patch has, where that is not its own.
    #[module(skip)]
    places: Option<Tensor<1, Int>>,
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
    /// A tower with random weights.
    pub fn init(config: &VisionConfig, device: &Device) -> Self {
        let d = config.width;
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let norm = || LayerNorm::init_with(d, config.epsilon, device);
        let patch = 3 * config.patch.pow(2);
        Self {
            patches: Linear::init_as(patch, d, config.patch_bias, device),
            class_token: (config.class_tokens() > 0).then(|| small.init([config.class_tokens(), d], device)),
            positions: small.init([config.tokens(), d], device),
            pre_norm: config.pre_norm.then(norm),
            layers: (0..config.layers).map(|_| layer(config, device)).collect(),
            post_norm: norm(),
            projection: if let Head::Projection(joint) = config.head { Some(Linear::init_as(d, joint, false, device)) } else { None },
            pool: (config.head == Head::AttentionPool).then(|| AttentionPool::init(config, device)),
            side: config.side,
            patch: config.patch,
            places: None,
        }
    }

    /// Normalised pictures `[batch, 3, side, side]` → what is seen.
    pub fn forward(&self, pictures: Tensor<4>) -> Seen {
        let [batch, ..] = pictures.dims();
        let window = Window { height: self.side, width: self.side, kernel: self.patch, stride: self.patch, same: false };
        let mut x = self.patches.windows(pictures, window); // [batch, patches, d]
        let [_, _, d] = x.dims();
        if let Some(class_token) = &self.class_token {
            let [count, _] = class_token.dims();
            let class_token = class_token.val().unsqueeze::<3>().expand([batch, count, d]);
            x = Tensor::cat(vec![class_token, x], 1);
        }
        let positions = self.positions.val();
        let positions = match &self.places {
            Some(places) => positions.select(0, places.clone()),
            None => positions,
        };
        self.see(x + positions.unsqueeze::<3>())
    }

    /// Normalised patches of one picture `[1, rows · columns, patch² · 3]`, row by row → what is seen. Positions are resized to the picture's.
    pub fn forward_patches(&self, patches: Tensor<3>, rows: usize, columns: usize) -> Seen {
        let positions = self.resized_positions(rows, columns);
        self.see(self.patches.forward(patches) + positions)
    }

    /// The same for pictures of `side` pixels whose patches have these of the positions.
    pub(crate) fn with_places(self, places: &[usize], side: usize) -> Self {
        let ids: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        let places = Tensor::from_data(ids.as_slice(), &self.positions.val().device());
        Self { places: Some(places), side, ..self }
    }

    /// From embedded tokens `[batch, tokens, d]` on.
    fn see(&self, mut x: Tensor<3>) -> Seen {
        let [batch, _, d] = x.dims();
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

    /// The square of positions resized to `rows` x `columns`, `[1, rows · columns, d]`: bilinear, with antialiasing.
    fn resized_positions(&self, rows: usize, columns: usize) -> Tensor<3> {
        let (positions, grid) = (self.positions.val(), self.side / self.patch);
        let [_, d] = positions.dims();
        let device = positions.device();
        let taps = |size: usize| Tensor::<2>::from_data(TensorData::new(bilinear(grid, size), [size, grid]), &device);
        let stretched = taps(rows).matmul(positions.reshape([grid, grid * d])); // [rows, grid · d]
        let columns_first = taps(columns).unsqueeze::<3>().expand([rows, columns, grid]);
        columns_first.matmul(stretched.reshape([rows, grid, d])).reshape([1, rows * columns, d])
    }
}

fn layer(config: &VisionConfig, device: &Device) -> ViTLayer {
    let mut layer = ViTLayer::init(config.width, config.hidden, config.heads, config.activation, config.epsilon, device);
    if config.plain_qkv {
        layer.qkv.bias = None;
    }
    layer
}

/// Weights `[to, from]` of a bilinear resize along one axis, antialiased where it shrinks (PyTorch's `interpolate(antialias=True)`).
fn bilinear(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f32 / to as f32;
    let support = scale.max(1.0);
    let mut weights = vec![0.0; from * to];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let centre = scale * (i as f32 + 0.5);
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        for (x, weight) in row.iter_mut().enumerate().take(end).skip(first) {
            *weight = (1.0 - ((x as f32 - centre + 0.5) / support).abs()).max(0.0);
        }
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
    }
    weights
}
