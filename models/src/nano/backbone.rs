//! EfficientNet-Lite0: a picture to feature maps.
//!
//! The network of Tan and Le 2019 (<https://arxiv.org/abs/1905.11946>) in the form made for integer hardware: no
//! squeeze-and-excitation, ReLU6 for swish, stem and head of fixed width
//! (<https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite>).
//! There is no batch norm here: it is folded into the convolutions when weights are imported ([`super::backbone_import`]).

use burn::module::{Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use ocelli_ops::{
    Activation, After, Before, Depthwise, DepthwiseWeight, Packed, Pointwise, Window, convolution, inverted_residual, linear,
};
use ocelli_preprocess::Squash;

use crate::blocks::{Linear, Linears, Slot, Target};

/// Side of the input picture in pixels.
pub const SIDE: usize = 224;
/// Whole numbers up to this one, divided by it, are what goes in: see [`level`].
const LEVELS: u32 = 128;
/// Bits after the point of what lies inside a block and behind the head, and between blocks, when weights are packed.
///
/// With them no sum has an error, so every CPU and every GPU sees the very same maps: those of numbers up to 6, which are 6144 steps, or
/// of bytes, times the weights there are, −127…127, are below 2²⁴ (tested on the bundle), and bytes are exact of up to 2¹⁴ steps, 128 between
/// blocks, where 60 was the greatest seen. (Left to themselves, sums that differ in their last bit round to another byte now
/// and then, and sixteen blocks further maps are a few parts in a hundred apart: one caption of seven was another with AVX2 than without.) It
/// costs next to nothing: a step of these is less than a tenth of one of the bytes that pixels are rounded to next.
const INNER_BITS: u8 = 10;
/// See [`INNER_BITS`].
const OUTER_BITS: u8 = 7;
/// Number of ImageNet classes.
pub const CLASSES: usize = 1000;
/// Channels of the head, and of the pooled vector.
pub const HEAD: usize = 1280;

/// A row of the architecture's table: `repeats` blocks, of which the first has the stride and changes the width.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// Blocks.
    pub repeats: usize,
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Width inside a block over its input's.
    pub expansion: usize,
    /// Channels that come in.
    pub input: usize,
    /// Channels that go out.
    pub output: usize,
}

const fn stage(repeats: usize, kernel: usize, stride: usize, expansion: usize, input: usize, output: usize) -> Stage {
    Stage { repeats, kernel, stride, expansion, input, output }
}

/// The seven stages between stem and head: the paper's table 1, rows 2 to 8.
#[rustfmt::skip]
pub const STAGES: [Stage; 7] = [
    //    repeats kernel stride expansion input output     side after it
    stage(1,      3,     1,     1,        32,   16),    // 112
    stage(2,      3,     2,     6,        16,   24),    // 56
    stage(2,      5,     2,     6,        24,   40),    // 28   Features::stride8
    stage(3,      3,     2,     6,        40,   80),    // 14
    stage(3,      5,     1,     6,        80,   112),   // 14   Features::stride16
    stage(4,      5,     2,     6,        112,  192),   // 7
    stage(1,      3,     1,     6,        192,  320),   // 7    Features::stride32
];

const STEM: usize = STAGES[0].input;
const WIDEST: usize = STAGES[6].output;
/// Blocks up to the end of the third, the fifth and the last stage.
const TAPS: [usize; 3] = [blocks_in(3), blocks_in(5), blocks_in(7)];

const fn blocks_in(stages: usize) -> usize {
    let (mut blocks, mut i) = (0, 0);
    while i < stages {
        blocks += STAGES[i].repeats;
        i += 1;
    }
    blocks
}

/// Multiplications of a picture: convolutions and classifier.
pub const MULTIPLICATIONS: usize = {
    let (mut side, mut count, mut i) = (SIDE / 2, (SIDE / 2).pow(2) * 27 * STEM, 0);
    while i < STAGES.len() {
        let Stage { repeats, kernel, stride, expansion, input, output } = STAGES[i];
        let mut block = 0;
        while block < repeats {
            let (input, stride) = if block == 0 { (input, stride) } else { (output, 1) };
            let inner = input * expansion;
            if expansion > 1 {
                count += side * side * input * inner;
            }
            side = side.div_ceil(stride);
            count += side * side * inner * (kernel * kernel + output);
            block += 1;
        }
        i += 1;
    }
    count + side * side * WIDEST * HEAD + HEAD * CLASSES
};

/// What the backbone says of a picture. Maps are token-major: cells row by row, the channels of a cell side by side.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[batch, 28 * 28, 40]`
    pub stride8: Tensor<3>,
    /// `[batch, 14 * 14, 112]`
    pub stride16: Tensor<3>,
    /// `[batch, 7 * 7, 320]`
    pub stride32: Tensor<3>,
    /// After the head's convolution and ReLU6: `[batch, 7 * 7, 1280]`
    pub head: Tensor<3>,
    /// The mean of `head` over the cells: `[batch, 1280]`
    pub pooled: Tensor<2>,
    /// ImageNet's classes before softmax: `[batch, 1000]`
    pub logits: Tensor<2>,
}

/// EfficientNet-Lite0 with batch norm folded in.
#[derive(Module, Debug)]
pub struct Backbone {
    /// `3 → 32`, 3×3, stride 2
    pub stem: Conv2d,
    /// The 16 blocks of [`STAGES`].
    pub blocks: Vec<InvertedResidual>,
    /// `320 → 1280`, 1×1
    pub head: Conv2d,
    /// `[1280, 1000]`
    pub classifier: Linear,
    #[module(skip)]
    packed_stem: Option<Packed>,
    #[module(skip)]
    packed_head: Option<Packed>,
}

impl Linears for Backbone {
    fn linears(&mut self, path: &str, visit: &mut dyn FnMut(Slot<'_>)) {
        // A window of the stem has 27 values: floats are as quick as bytes, and nothing is gathered.
        slot(&format!("{path}.stem.weight"), &self.stem, Target::ExactRows(&mut self.packed_stem, LEVELS), visit);
        self.blocks.linears(&format!("{path}.blocks"), visit);
        slot(&format!("{path}.head.weight"), &self.head, Target::Int8Rows(&mut self.packed_head), visit);
        self.classifier.linears(&format!("{path}.classifier"), visit);
    }
}

fn slot(name: &str, conv: &Conv2d, target: Target<'_>, visit: &mut dyn FnMut(Slot<'_>)) {
    visit(Slot { name, shape: &conv.weight.lazy_shape(), target });
}

impl Backbone {
    /// A backbone with random weights.
    pub fn init(device: &Device) -> Self {
        let blocks = STAGES.iter().flat_map(|stage| (0..stage.repeats).map(|i| InvertedResidual::init(stage, i == 0, device)));
        Self {
            stem: conv(3, STEM, 3, 2, 1, device),
            blocks: blocks.collect(),
            head: conv(WIDEST, HEAD, 1, 1, 1, device),
            classifier: Linear::init(HEAD, CLASSES, device),
            packed_stem: None,
            packed_head: None,
        }
    }

    /// Normalised pictures `[batch, 3, 224, 224]` → their features.
    pub fn forward(&self, pictures: Tensor<4>) -> Features {
        if let (Some(stem), Some(head)) = (&self.packed_stem, &self.packed_head) {
            return self.forward_packed(pictures, stem, head);
        }
        let [stride8, stride16, stride32] = TAPS;
        let x = relu6(self.stem.forward(pictures)); // [batch, 32, 112, 112]
        let x8 = through(&self.blocks[..stride8], x); // [batch, 40, 28, 28]
        let x16 = through(&self.blocks[stride8..stride16], x8.clone()); // [batch, 112, 14, 14]
        let x32 = through(&self.blocks[stride16..stride32], x16.clone()); // [batch, 320, 7, 7]
        let head = relu6(self.head.forward(x32.clone())); // [batch, 1280, 7, 7]
        let pooled = head.clone().flatten::<3>(2, 3).mean_dim(2).squeeze_dim::<2>(2); // [batch, 1280]
        Features {
            stride8: tokens(x8),
            stride16: tokens(x16),
            stride32: tokens(x32),
            head: tokens(head),
            logits: self.classifier.forward(pooled.clone()),
            pooled,
        }
    }

    /// [`Backbone::forward`] with packed weights: maps are token-major throughout.
    fn forward_packed(&self, pictures: Tensor<4>, stem: &Packed, head: &Packed) -> Features {
        let [stride8, stride16, stride32] = TAPS;
        let window = Window { height: SIDE, width: SIDE, kernel: 3, stride: 2, same: true };
        let after = |conv: &Conv2d| After {
            bias: conv.bias.as_ref().map(Param::val),
            activation: Activation::Relu6,
            residual: None,
            fraction_bits: Some(INNER_BITS),
        };
        let mut x = convolution(pictures, window, stem, after(&self.stem)); // [batch, 112², 32]
        let mut side = SIDE / 2;
        let mut through = |blocks: &[InvertedResidual], mut x: Tensor<3>| {
            for block in blocks {
                (x, side) = block.forward_packed(x, side);
            }
            x
        };
        x = through(&self.blocks[..stride8], x);
        let x8 = x.clone();
        x = through(&self.blocks[stride8..stride16], x);
        let x16 = x.clone();
        let x32 = through(&self.blocks[stride16..stride32], x);
        let head = linear(x32.clone(), Before::Nothing, head, after(&self.head)); // [batch, 49, 1280]
        let pooled = head.clone().mean_dim(1).squeeze_dim::<2>(1);
        let logits = self.classifier.forward(pooled.clone());
        Features { stride8: x8, stride16: x16, stride32: x32, head, pooled, logits }
    }

    /// What the stem, each block and the head give in turn, for comparing with another implementation stage by stage.
    pub fn stage_outputs(&self, pictures: Tensor<4>) -> Vec<Tensor<4>> {
        let mut x = relu6(self.stem.forward(pictures));
        let mut outputs = vec![x.clone()];
        for block in &self.blocks {
            x = block.forward(x);
            outputs.push(x.clone());
        }
        outputs.push(relu6(self.head.forward(x)));
        outputs
    }
}

/// `project(depthwise(expand(x)))`, with a shortcut where the shape stays: MobileNetV2's block
/// (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>, section 3.4).
#[derive(Module, Debug)]
pub struct InvertedResidual {
    /// 1×1; `None` where the expansion is 1.
    pub expand: Option<Conv2d>,
    /// One kernel a channel.
    pub depthwise: Conv2d,
    /// 1×1, linear.
    pub project: Conv2d,
    shortcut: bool,
    #[module(skip)]
    packed: PackedBlock,
}

/// A block's weights for running.
#[derive(Debug, Clone, Default)]
struct PackedBlock {
    expand: Option<Packed>,
    depthwise: Option<DepthwiseWeight>,
    project: Option<Packed>,
}

impl Linears for InvertedResidual {
    fn linears(&mut self, path: &str, visit: &mut dyn FnMut(Slot<'_>)) {
        if let Some(expand) = &self.expand {
            slot(&format!("{path}.expand.weight"), expand, Target::Int8Rows(&mut self.packed.expand), visit);
        }
        slot(&format!("{path}.depthwise.weight"), &self.depthwise, Target::Depthwise(&mut self.packed.depthwise), visit);
        slot(&format!("{path}.project.weight"), &self.project, Target::Int8Rows(&mut self.packed.project), visit);
    }
}

impl InvertedResidual {
    /// A block of `stage`; the `first` has the stage's stride and takes the width of the stage before.
    pub fn init(stage: &Stage, first: bool, device: &Device) -> Self {
        let (input, stride) = if first { (stage.input, stage.stride) } else { (stage.output, 1) };
        let inner = input * stage.expansion;
        Self {
            expand: (stage.expansion > 1).then(|| conv(input, inner, 1, 1, 1, device)),
            depthwise: conv(inner, inner, stage.kernel, stride, inner, device),
            project: conv(inner, stage.output, 1, 1, 1, device),
            shortcut: stride == 1 && input == stage.output,
            packed: PackedBlock::default(),
        }
    }

    /// `[batch, input, side, side]` → `[batch, output, side / stride, side / stride]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inner = match &self.expand {
            Some(expand) => relu6(expand.forward(x.clone())),
            None => x.clone(),
        };
        let inner = relu6(self.depthwise.forward(inner));
        let y = self.project.forward(inner);
        if self.shortcut { x + y } else { y }
    }
}

impl InvertedResidual {
    /// [`InvertedResidual::forward`] on `[batch, side², input]`, and the side of what comes out. Weights that are not packed compute as floats.
    fn forward_packed(&self, x: Tensor<3>, side: usize) -> (Tensor<3>, usize) {
        let (kernel, stride) = (self.depthwise.weight.lazy_shape()[2], self.depthwise.stride[0]);
        let window = Window { height: side, width: side, kernel, stride, same: true };
        let bias = |conv: &Conv2d| match &conv.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([conv.weight.lazy_shape()[0]], &x.device()),
        };
        let packed = &self.packed;
        let expand = match (&self.expand, &packed.expand) {
            (Some(conv), Some(weight)) => {
                Some(Pointwise { weight, bias: bias(conv), activation: Activation::Relu6, fraction_bits: Some(INNER_BITS) })
            }
            _ => None,
        };
        if let (Some(depthwise), Some(project), true) = (&packed.depthwise, &packed.project, expand.is_some() == self.expand.is_some()) {
            let depthwise = Depthwise {
                weight: depthwise,
                bias: bias(&self.depthwise),
                activation: Activation::Relu6,
                fraction_bits: Some(INNER_BITS),
            };
            let project =
                Pointwise { weight: project, bias: bias(&self.project), activation: Activation::None, fraction_bits: Some(OUTER_BITS) };
            return (inverted_residual(x, window, expand, depthwise, project, self.shortcut), side.div_ceil(stride));
        }
        let [batch, _, channels] = x.dims();
        let map = x.swap_dims(1, 2).reshape([batch, channels, side, side]);
        (tokens(self.forward(map)), side.div_ceil(stride))
    }
}

/// A convolution that pads as TensorFlow's `SAME` does: at stride 2 one row and column more at the bottom right.
fn conv(input: usize, output: usize, kernel: usize, stride: usize, groups: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([input, output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_groups(groups)
        .with_padding(PaddingConfig2d::Same)
        .init(device)
}

fn through(blocks: &[InvertedResidual], x: Tensor<4>) -> Tensor<4> {
    blocks.iter().fold(x, |x, block| block.forward(x))
}

/// What goes in for a grey level of 0 to 255, in any channel: (grey − 127) / 128, which has no error.
pub fn level(grey: u8) -> f32 {
    (f32::from(grey) - 127.0) / LEVELS as f32
}

/// Makes pictures into what goes in.
pub fn squash() -> Squash {
    Squash::with_levels(SIDE as u32, |_, grey| level(grey))
}

/// min(max(x, 0), 6)
pub fn relu6<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clamp(0.0, 6.0)
}

/// `[batch, channels, side, side]` → `[batch, side * side, channels]`
fn tokens(map: Tensor<4>) -> Tensor<3> {
    map.flatten::<3>(2, 3).swap_dims(1, 2)
}
