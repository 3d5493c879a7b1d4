//! DaViT (Ding et al. 2022, <https://arxiv.org/abs/2204.03645>): attention in windows and attention of channels take turns, on four maps of
//! falling size. As in transformers' `modeling_florence2.py` at 5.23.
//!
//! ```text
//! mix(x) = x + ffn(norm(x)) after x ← x + attention(norm(x)), with x ← x + depthwise(x) before each
//! block  = mix over windows, then mix over channels
//! ```
//!
//! Maps are token-major: `[batch, rows · columns, channels]`.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::activation::softmax;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use ocelli_ops::{Activation, AttentionOptions, Window, attention, depthwise};

use super::config::{DaViTConfig, StageConfig};
use crate::blocks::{LayerNorm, Linear, in_pieces, piece, pieces, put};
use crate::linears;

/// Side of the depthwise convolutions' windows.
const KERNEL: usize = 3;

/// A map of cells.
#[derive(Debug, Clone)]
pub struct Map {
    /// `[batch, rows · columns, channels]`
    pub cells: Tensor<3>,
    /// How many.
    pub rows: usize,
    /// How many.
    pub columns: usize,
}

/// The tower.
#[derive(Module, Debug)]
pub struct DaViT {
    /// From the finest map to the coarsest.
    pub stages: Vec<Stage>,
}

linears!(DaViT { stages });

/// Blocks on a map, and how its cells are made.
#[derive(Module, Debug)]
pub struct Stage {
    /// `[patch² · channels before, channels]`
    pub embed: Linear,
    /// Before or after that.
    pub norm: LayerNorm,
    /// Blocks.
    pub blocks: Vec<Block>,
    patch: usize,
    stride: usize,
    padding: usize,
    pre_norm: bool,
}

linears!(Stage { embed, blocks });

/// Attention in windows, then of channels.
#[derive(Module, Debug)]
pub struct Block {
    /// Within windows.
    pub spatial: Mixer,
    /// Of channels.
    pub channel: Mixer,
}

linears!(Block { spatial, channel });

/// Attention and a feed-forward network, each after a depthwise convolution.
#[derive(Module, Debug)]
pub struct Mixer {
    /// Before the attention.
    pub conv1: Depthwise,
    /// Of the attention.
    pub norm1: LayerNorm,
    /// `[d, 3 d]`: queries, keys and values side by side.
    pub qkv: Linear,
    /// `[d, d]`
    pub output: Linear,
    /// Before the feed-forward network.
    pub conv2: Depthwise,
    /// Of the feed-forward network.
    pub norm2: LayerNorm,
    /// `[d, hidden]`
    pub up: Linear,
    /// `[hidden, d]`
    pub down: Linear,
    #[module(skip)]
    over: Over,
    #[module(skip)]
    activation: Activation,
}

linears!(Mixer { qkv, output, up, down });

/// What attends to what.
#[derive(Debug, Clone, Copy)]
enum Over {
    /// Cells to the cells of their window.
    Windows { side: usize, heads: usize },
    /// Channels to the channels of their group.
    Channels { groups: usize },
}

/// A convolution of each channel with a kernel of its own.
#[derive(Module, Debug)]
pub struct Depthwise {
    /// `[channels, 1, 3, 3]`
    pub weight: Param<Tensor<4>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
}

impl DaViT {
    /// A tower with random weights.
    pub fn init(config: &DaViTConfig, device: &Device) -> Self {
        let before = std::iter::once(3).chain(config.stages.iter().map(|stage| stage.width));
        Self { stages: config.stages.iter().zip(before).map(|(stage, before)| Stage::init(config, stage, before, device)).collect() }
    }

    /// Normalised pictures `[batch, 3, side, side]` → the last map.
    pub fn forward(&self, pictures: Tensor<4>) -> Map {
        let [_, _, rows, columns] = pictures.dims();
        let mut map = Map { cells: pictures.flatten::<3>(2, 3).swap_dims(1, 2), rows, columns };
        for stage in &self.stages {
            map = stage.forward(map);
        }
        map
    }
}

impl Stage {
    fn init(config: &DaViTConfig, stage: &StageConfig, before: usize, device: &Device) -> Self {
        let d = stage.width;
        Self {
            embed: Linear::init(stage.patch.pow(2) * before, d, device),
            norm: LayerNorm::init(if stage.pre_norm { before } else { d }, device),
            blocks: (0..stage.depth).map(|_| Block::init(config, stage, device)).collect(),
            patch: stage.patch,
            stride: stage.stride,
            padding: stage.padding,
            pre_norm: stage.pre_norm,
        }
    }

    /// The map before → this stage's.
    pub fn forward(&self, map: Map) -> Map {
        let mut map = self.embed(map);
        for block in &self.blocks {
            map = block.channel.forward(block.spatial.forward(map));
        }
        map
    }

    /// Windows of the map before become cells.
    pub fn embed(&self, Map { mut cells, rows, columns }: Map) -> Map {
        if self.pre_norm {
            cells = self.norm.forward(cells);
        }
        let around = (self.padding, self.padding);
        let padded = planes(cells, rows, columns).pad([around, around], PadMode::Constant(0.0));
        let [_, _, height, width] = padded.dims();
        let window = Window { height, width, kernel: self.patch, stride: self.stride, same: false };
        let mut cells = self.embed.windows(padded, window);
        if !self.pre_norm {
            cells = self.norm.forward(cells);
        }
        let count = |size: usize| (size - self.patch) / self.stride + 1;
        Map { cells, rows: count(height), columns: count(width) }
    }
}

impl Block {
    fn init(config: &DaViTConfig, stage: &StageConfig, device: &Device) -> Self {
        let mixer = |over| Mixer::init(config, stage, over, device);
        Self {
            spatial: mixer(Over::Windows { side: config.window, heads: stage.heads }),
            channel: mixer(Over::Channels { groups: stage.groups }),
        }
    }
}

impl Mixer {
    fn init(config: &DaViTConfig, stage: &StageConfig, over: Over, device: &Device) -> Self {
        let d = stage.width;
        Self {
            conv1: Depthwise::init(d, device),
            norm1: LayerNorm::init(d, device),
            qkv: Linear::init_as(d, 3 * d, config.qkv_bias, device),
            output: Linear::init(d, d, device),
            conv2: Depthwise::init(d, device),
            norm2: LayerNorm::init(d, device),
            up: Linear::init(d, stage.hidden, device),
            down: Linear::init(stage.hidden, d, device),
            over,
            activation: config.activation,
        }
    }

    /// The map → the same size.
    pub fn forward(&self, map: Map) -> Map {
        let Map { cells: x, rows, columns } = self.conv1.forward(map);
        let x = match self.over {
            Over::Windows { side, heads } => self.in_windows(x, [rows, columns], side, heads),
            Over::Channels { groups } => self.of_channels(x, groups),
        };
        let Map { cells: x, .. } = self.conv2.forward(Map { cells: x, rows, columns });
        let cells = in_pieces(x, self.up.shape()[1], |x| {
            let hidden = self.up.normed_then(&self.norm2, x.clone(), self.activation);
            self.down.plus(hidden, x)
        });
        Map { cells, rows, columns }
    }

    /// softmax(q kᵀ / √d_head) v of the cells of each window, plus `x`: a row of windows at a time. Where windows do not fit the map, zeros are
    /// put below it and to its right, which are seen like any cell.
    fn in_windows(&self, mut x: Tensor<3>, [rows, columns]: [usize; 2], side: usize, heads: usize) -> Tensor<3> {
        for first in (0..rows).step_by(side) {
            let count = side.min(rows - first);
            let range = first * columns..(first + count) * columns;
            let band = self.in_windows_of(piece(&x, &range), [count, columns], side, heads);
            x = put(x, range, band);
        }
        x
    }

    /// The same of at most `side` rows.
    fn in_windows_of(&self, x: Tensor<3>, [rows, columns]: [usize; 2], side: usize, heads: usize) -> Tensor<3> {
        let [batch, _, d] = x.dims();
        let across = columns.div_ceil(side);
        let (missing_rows, missing_columns) = (side - rows, across * side - columns);
        let mut cells = self.norm1.forward(x.clone()).reshape([batch, rows, columns, d]);
        if missing_rows + missing_columns > 0 {
            cells = cells.pad([(0, 0), (0, missing_rows), (0, missing_columns), (0, 0)], PadMode::Constant(0.0));
        }
        let windows = cells.reshape([batch, side, across, side, d]).permute([0, 2, 1, 3, 4]);
        let qkv = self.qkv.forward(windows.reshape([batch * across, side * side, d]));
        let part = |i: usize| qkv.clone().narrow(2, i * d, d);
        let scale = ((d / heads) as f32).sqrt().recip();
        let options = AttentionOptions { heads, kv_heads: heads, scale, causal: false, fast: self.qkv.is_quantized() };
        let seen = attention(part(0), part(1), part(2), None, options);
        let seen = seen.reshape([batch, across, side, side, d]).permute([0, 2, 1, 3, 4]);
        let mut seen = seen.reshape([batch, side, across * side, d]);
        if missing_rows + missing_columns > 0 {
            seen = seen.narrow(1, 0, rows).narrow(2, 0, columns);
        }
        self.output.plus(seen.reshape([batch, rows * columns, d]), x)
    }

    /// softmax(qᵀ k / √cells) vᵀ of the channels of each group, plus `x`: first the scores, of a piece of the cells after the other.
    fn of_channels(&self, mut x: Tensor<3>, groups: usize) -> Tensor<3> {
        let [batch, cells, d] = x.dims();
        let ranges: Vec<_> = pieces(cells, batch * 3 * d).collect();
        let mut scores = Tensor::<4>::zeros([batch, groups, d / groups, d / groups], &x.device());
        let mut values = Vec::with_capacity(ranges.len());
        for range in &ranges {
            let qkv = self.qkv.normed(&self.norm1, piece(&x, range));
            // Made anew by the reshape: of a view all three would be kept.
            let part = |i: usize| qkv.clone().narrow(2, i * d, d).reshape([batch, range.len(), groups, d / groups]);
            scores = scores + part(0).permute([0, 2, 3, 1]).matmul(part(1).swap_dims(1, 2));
            values.push(part(2));
        }
        let weights = softmax(scores.mul_scalar((cells as f32).sqrt().recip()), 3).swap_dims(2, 3);
        for (range, values) in ranges.into_iter().zip(values) {
            let seen = values.swap_dims(1, 2).matmul(weights.clone()); // [batch, groups, cells, d / groups]
            let seen = seen.swap_dims(1, 2).reshape([batch, range.len(), d]);
            let new = self.output.plus(seen, piece(&x, &range));
            x = put(x, range, new);
        }
        x
    }
}

impl Depthwise {
    fn init(channels: usize, device: &Device) -> Self {
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self { weight: small.init([channels, 1, KERNEL, KERNEL], device), bias: Initializer::Zeros.init([channels], device) }
    }

    /// x + x ∗ w + bias, zeros around the map: one convolution with kernels that have 1 more in their middle.
    pub fn forward(&self, Map { cells, rows, columns }: Map) -> Map {
        let weight = self.weight.val();
        let mut middle = [0.0; KERNEL * KERNEL];
        middle[KERNEL * KERNEL / 2] = 1.0;
        let middle = Tensor::<1>::from_floats(middle, &weight.device()).reshape([1, 1, KERNEL, KERNEL]);
        let window = Window { height: rows, width: columns, kernel: KERNEL, stride: 1, same: true };
        Map { cells: depthwise(cells, weight + middle, self.bias.val(), window), rows, columns }
    }
}

/// `[batch, rows · columns, channels]` → `[batch, channels, rows, columns]`
fn planes(cells: Tensor<3>, rows: usize, columns: usize) -> Tensor<4> {
    let [batch, _, d] = cells.dims();
    cells.swap_dims(1, 2).reshape([batch, d, rows, columns])
}
