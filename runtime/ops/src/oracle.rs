//! The operations in burn's primitives: right on every backend, and what the fast bodies are tested against.

use burn::backend::ops::ConvOptions;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{FloatDType, Scalar, Shape, Slice, TensorData};
use ocelli_kernels::Activation;
use ocelli_kernels::pack::{GROUP, GroupBits, padded};
use ocelli_kernels::quantize::{STEP, STEPS};
use ocelli_kernels::simd::PANEL;

use crate::extension::{
    AttentionOptions, CachedOptions, ConvolutionOptions, DepthwisePrimitive, LinearOptions, PointwisePrimitive, ProloguePrimitive,
    ReorderOptions, ResidualOptions, Window,
};
use crate::packed::WeightPrimitive;

fn scalar(x: f32) -> Scalar {
    Scalar::Float(f64::from(x))
}

fn part(from: usize, to: usize) -> Slice {
    Slice::new(from as isize, Some(to as isize), 1)
}

fn reshape<B: Backend>(x: FloatTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    B::float_reshape(x, Shape::from(shape.to_vec()))
}

fn widened<B: Backend>(x: IntTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    reshape::<B>(B::int_into_float(x, FloatDType::F32), shape)
}

/// The first `n` rows of a matrix, and the first `k` columns.
fn corner<B: Backend>(x: FloatTensor<B>, n: usize, k: usize) -> FloatTensor<B> {
    B::float_slice(x, &[part(0, n), part(0, k)])
}

/// A weight's integers, `[N, K]`, and its scales, `[N, 1]` or one an element, `[N, K]`; floats have none.
fn unpacked<B: Backend>(weight: WeightPrimitive<B>, options: &LinearOptions) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let LinearOptions { n, k, bits, .. } = *options;
    let (panels, quads) = (n.div_ceil(PANEL), k.div_ceil(4));
    let from_quads = |values: FloatTensor<B>| {
        let values = B::float_permute(values, &[0, 2, 1, 3]);
        corner::<B>(reshape::<B>(values, &[panels * PANEL, quads * 4]), n, k)
    };
    match weight {
        WeightPrimitive::Int8 { values, scales, .. } => {
            let scales = corner::<B>(reshape::<B>(scales, &[padded(n), 1]), n, 1);
            (from_quads(widened::<B>(values, &[panels, quads, PANEL, 4])), Some(scales))
        }
        WeightPrimitive::Groups { values, scales } => {
            let groups = k / GROUP;
            let values = match bits {
                GroupBits::Int8 => {
                    // Stored as unsigned bytes: those of 128 and more are negative.
                    let bytes = widened::<B>(values, &[panels, quads, PANEL, 4]);
                    let negative = B::float_floor(B::float_div_scalar(bytes.clone(), scalar(128.0)));
                    from_quads(B::float_sub(bytes, B::float_mul_scalar(negative, scalar(256.0))))
                }
                GroupBits::Int4 => {
                    let bytes = widened::<B>(values, &[panels, groups, 4, PANEL, 4]);
                    let high = B::float_floor(B::float_div_scalar(bytes.clone(), scalar(16.0)));
                    let low = B::float_sub(bytes, B::float_mul_scalar(high.clone(), scalar(16.0)));
                    let both = B::float_sub_scalar(B::float_cat(vec![low, high], 2), scalar(8.0)); // [panels, groups, 8, 16, 4]
                    from_quads(reshape::<B>(both, &[panels, quads, PANEL, 4]))
                }
            };
            let scales = B::float_cast(scales, FloatDType::F32);
            let scales = B::float_permute(reshape::<B>(scales, &[panels, groups, PANEL, 1]), &[0, 2, 1, 3]);
            let scales = B::float_repeat_dim(scales, 3, GROUP); // [panels, 16, groups, 32]
            (values, Some(corner::<B>(reshape::<B>(scales, &[panels * PANEL, k]), n, k)))
        }
        WeightPrimitive::Float { values } => {
            let values = reshape::<B>(B::float_cast(values, FloatDType::F32), &[panels, k, PANEL]);
            (corner::<B>(reshape::<B>(B::float_permute(values, &[0, 2, 1]), &[panels * PANEL, k]), n, k), None)
        }
    }
}

/// Rows rounded to whole numbers −127…127, and their scales `[…, 1]`.
fn rounded<B: Backend>(x: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let greatest = greatest::<B>(&x);
    (bytes::<B>(x, greatest.clone()), B::float_mul_scalar(greatest, scalar(STEP)))
}

/// Greatest magnitudes of rows, `[…, 1]`.
fn greatest<B: Backend>(x: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_max_abs_dim(x.clone(), x.shape().num_dims() - 1)
}

/// As the kernels do it, or else values in the middle of two bytes would go another way: maps of few bits have many.
fn bytes<B: Backend>(x: FloatTensor<B>, greatest: FloatTensor<B>) -> FloatTensor<B> {
    // Rows below this count as zero, here by a factor of zero.
    let safe = B::float_clamp_min(greatest, scalar(1e-36));
    let steps = B::float_add_scalar(B::float_mul_scalar(safe.clone(), scalar(0.0)), scalar(STEPS));
    B::float_round(B::float_mul(x, B::float_div(steps, safe)))
}

/// [`rounded`] without an error where rows have few bits, whatever a division's: some GPUs lose three units in the last place.
///
/// The remainder 127 · |x| − byte · greatest has no error, and says whether the byte is the nearest one; of two it is the greater, as in the
/// kernels.
fn rounded_exactly<B: Backend>(x: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let (sign, x) = (B::float_sign(x.clone()), B::float_abs(x));
    let greatest = greatest::<B>(&x);
    let bytes = bytes::<B>(x.clone(), greatest.clone());
    let remainder = B::float_sub(B::float_mul_scalar(x, scalar(127.0)), B::float_mul(bytes.clone(), greatest.clone()));
    let twice = B::float_mul_scalar(remainder, scalar(2.0));
    // 1 where a number is not negative, and 0 where it is.
    let holds = |x: FloatTensor<B>| B::float_floor(B::float_mul_scalar(B::float_add_scalar(B::float_sign(x), scalar(2.0)), scalar(0.5)));
    let more = holds(B::float_sub(twice.clone(), greatest.clone()));
    let less = B::float_sub_scalar(holds(B::float_add(twice, greatest.clone())), scalar(1.0)); // −1 where the byte is one too many
    // Where all of a row is zero, so is the sign.
    let bytes = B::float_mul(sign, B::float_add(bytes, B::float_add(more, less)));
    (bytes, B::float_mul_scalar(greatest, scalar(STEP)))
}

/// Rounded to bits after the point; where no number is given, not at all.
fn fixed<B: Backend>(x: FloatTensor<B>, fraction_bits: Option<u8>) -> FloatTensor<B> {
    let Some(bits) = fraction_bits else { return x };
    let ones = f32::from(bits).exp2();
    B::float_mul_scalar(B::float_round(B::float_mul_scalar(x, scalar(ones))), scalar(1.0 / ones))
}

/// A row after its prologue; `x` is `[M, K]` or wider.
fn prepared<B: Backend>(x: FloatTensor<B>, prologue: ProloguePrimitive<B>, k: usize, epsilon: f32) -> FloatTensor<B> {
    let row = |weight: FloatTensor<B>| reshape::<B>(weight, &[1, k]);
    let inverse_root = |squares: FloatTensor<B>| B::float_recip(B::float_sqrt(B::float_add_scalar(squares, scalar(epsilon))));
    match prologue {
        ProloguePrimitive::None => x,
        ProloguePrimitive::LayerNorm { weight, bias } => {
            let centred = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
            let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
            let normed = B::float_mul(centred, inverse_root(variance));
            B::float_add(B::float_mul(normed, row(weight)), row(bias))
        }
        ProloguePrimitive::RmsNorm { weight } => {
            let squares = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 1);
            B::float_mul(B::float_mul(x, inverse_root(squares)), row(weight))
        }
        ProloguePrimitive::SiluMul => {
            let rows = x.shape()[0];
            let gates = B::float_slice(x.clone(), &[part(0, rows), part(0, k)]);
            let values = B::float_slice(x, &[part(0, rows), part(k, 2 * k)]);
            B::float_mul(activate::<B>(gates, Activation::Silu), values)
        }
    }
}

fn activate<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    let gate = |x: FloatTensor<B>, z: FloatTensor<B>| B::float_mul(x, B::sigmoid(z));
    match activation {
        Activation::None => x,
        Activation::Relu => B::float_clamp_min(x, scalar(0.0)),
        Activation::Relu6 => B::float_clamp(x, scalar(0.0), scalar(6.0)),
        Activation::Gelu => B::gelu(x),
        Activation::QuickGelu => gate(x.clone(), B::float_mul_scalar(x, scalar(1.702))),
        Activation::GeluTanh => {
            let square = B::float_mul(x.clone(), x.clone());
            let inner = B::float_add_scalar(B::float_mul_scalar(square, scalar(0.044_715)), scalar(1.0));
            let z = B::float_mul_scalar(B::float_mul(x.clone(), inner), scalar(2.0 * 0.797_884_6));
            gate(x, z)
        }
        Activation::Silu => gate(x.clone(), x),
    }
}

pub(crate) fn packed_linear<B: Backend>(
    x: FloatTensor<B>,
    prologue: ProloguePrimitive<B>,
    weight: WeightPrimitive<B>,
    bias: Option<FloatTensor<B>>,
    residual: Option<FloatTensor<B>>,
    options: LinearOptions,
) -> FloatTensor<B> {
    let mut shape = x.shape();
    let last = shape.num_dims() - 1;
    let (width, rows) = (shape[last], shape.num_elements() / shape[last].max(1));
    shape[last] = options.n;
    let x = prepared::<B>(reshape::<B>(x, &[rows, width]), prologue, options.k, options.epsilon);
    let groups = matches!(weight, WeightPrimitive::Groups { .. });
    let (values, scales) = unpacked::<B>(weight, &options);
    let y = match scales {
        None => B::float_matmul(x, B::float_transpose(values)),
        Some(scales) if groups => {
            let (bytes, row_scales) = rounded::<B>(reshape::<B>(x, &[rows, options.k / GROUP, GROUP]));
            let x = reshape::<B>(B::float_mul(bytes, row_scales), &[rows, options.k]);
            B::float_matmul(x, B::float_transpose(B::float_mul(values, scales)))
        }
        Some(scales) => {
            // Sums of whole numbers: exact as long as single precision holds them.
            let (bytes, row_scales) = if options.fraction_bits.is_some() { rounded_exactly::<B>(x) } else { rounded::<B>(x) };
            let sums = B::float_matmul(bytes, B::float_transpose(values));
            // Multiplied in the kernels' order.
            B::float_mul(sums, B::float_mul(row_scales, B::float_transpose(scales)))
        }
    };
    let y = fixed::<B>(y, options.fraction_bits);
    let y = match bias {
        Some(bias) => B::float_add(y, reshape::<B>(fixed::<B>(bias, options.fraction_bits), &[1, options.n])),
        None => y,
    };
    let y = B::float_reshape(activate::<B>(y, options.activation), shape);
    match residual {
        Some(residual) => B::float_add(y, residual),
        None => y,
    }
}

/// `[B, T, heads · D]` → `[B, heads, T, D]`
fn split<B: Backend>(x: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let shape = x.shape();
    let (batch, tokens, width) = (shape[0], shape[1], shape[2]);
    B::float_permute(reshape::<B>(x, &[batch, tokens, heads, width / heads]), &[0, 2, 1, 3])
}

pub(crate) fn fused_attention<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    mask: Option<FloatTensor<B>>,
    options: AttentionOptions,
) -> FloatTensor<B> {
    let AttentionOptions { heads, kv_heads, scale, causal, .. } = options;
    let (shape, tk) = (q.shape(), k.shape()[1]);
    let (batch, tq, width) = (shape[0], shape[1], shape[2]);
    let (group, dim) = (heads / kv_heads, width / heads);
    let device = q.device();
    let q = split::<B>(q, heads);
    let q = reshape::<B>(q, &[batch, kv_heads, group * tq, dim]); // a group's heads one after another
    let (k, v) = (split::<B>(k, kv_heads), split::<B>(v, kv_heads));
    let scores = B::float_mul_scalar(B::float_matmul(q, B::float_swap_dims(k, 2, 3)), scalar(scale));
    let mut scores = reshape::<B>(scores, &[batch, heads, tq, tk]);
    if let Some(mask) = mask {
        scores = B::float_add(scores, reshape::<B>(mask, &[batch, 1, 1, tk]));
    }
    if causal {
        let hidden = |i: usize| if i % tk > tk - tq + i / tk { f32::NEG_INFINITY } else { 0.0 };
        let data = TensorData::new((0..tq * tk).map(hidden).collect::<Vec<f32>>(), [1, 1, tq, tk]);
        scores = B::float_add(scores, B::float_from_data(data, &device));
    }
    let weights = B::softmax(scores, 3);
    let y = B::float_matmul(reshape::<B>(weights, &[batch, kv_heads, group * tq, tk]), v);
    let y = B::float_permute(reshape::<B>(y, &[batch, heads, tq, dim]), &[0, 2, 1, 3]);
    B::float_reshape(y, shape)
}

/// Pairs of a head turned by angles: `x [B, T, H D]`, `cos` and `sin [T, D / 2]`.
fn rotary<B: Backend>(x: FloatTensor<B>, cos: FloatTensor<B>, sin: FloatTensor<B>, heads: usize, interleaved: bool) -> FloatTensor<B> {
    let shape = x.shape();
    let (batch, tokens) = (shape[0], shape[1]);
    let pairs = shape[2] / heads / 2;
    // The two of a pair side by side on an axis of their own.
    let (split, axis) = if interleaved { ([batch, tokens, heads, pairs, 2], 4) } else { ([batch, tokens, heads, 2, pairs], 3) };
    let x = reshape::<B>(x, &split);
    let side = |x: FloatTensor<B>, i: usize| {
        let mut slices: Vec<Slice> = split.iter().map(|&len| part(0, len)).collect();
        slices[axis] = part(i, i + 1);
        B::float_slice(x, &slices)
    };
    let angle = |x: FloatTensor<B>| reshape::<B>(x, &if interleaved { [1, tokens, 1, pairs, 1] } else { [1, tokens, 1, 1, pairs] });
    let (a, b, cos, sin) = (side(x.clone(), 0), side(x, 1), angle(cos), angle(sin));
    let first = B::float_sub(B::float_mul(a.clone(), cos.clone()), B::float_mul(b.clone(), sin.clone()));
    let second = B::float_add(B::float_mul(b, cos), B::float_mul(a, sin));
    B::float_reshape(B::float_cat(vec![first, second], axis), shape)
}

pub(crate) fn packed_embedding<B: Backend>(ids: IntTensor<B>, table: WeightPrimitive<B>, options: LinearOptions) -> FloatTensor<B> {
    let (values, scales) = unpacked::<B>(table, &options);
    let rows = match scales {
        Some(scales) => B::float_mul(values, scales),
        None => values,
    };
    B::float_select(rows, 0, ids)
}

fn conv2d<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, window: Window, groups: usize) -> FloatTensor<B> {
    let options = ConvOptions {
        stride: [window.stride; 2],
        padding: [window.padding(window.height), window.padding(window.width)],
        dilation: [1, 1],
        groups,
    };
    B::conv2d(x, weight, None, options)
}

/// The windows of pictures as rows: `[B, C, H, W]` → `[B, H′ · W′, C · k · k]`, by a convolution with kernels that each pick one value.
fn windows<B: Backend>(pictures: FloatTensor<B>, window: Window) -> FloatTensor<B> {
    let (shape, device) = (pictures.shape(), pictures.device());
    let (batch, channels, taps) = (shape[0], shape[1], window.kernel * window.kernel);
    let k = channels * taps;
    let pick: Vec<f32> = (0..k * k).map(|i| f32::from(u8::from(i / k == i % k))).collect();
    let pick = B::float_from_data(TensorData::new(pick, [k, channels, window.kernel, window.kernel]), &device);
    let rows = conv2d::<B>(pictures, pick, window, 1);
    B::float_swap_dims(reshape::<B>(rows, &[batch, k, window.cells()]), 1, 2)
}

pub(crate) fn packed_convolution<B: Backend>(
    pictures: FloatTensor<B>,
    weight: WeightPrimitive<B>,
    bias: Option<FloatTensor<B>>,
    options: ConvolutionOptions,
) -> FloatTensor<B> {
    let k = pictures.shape()[1] * options.window.kernel * options.window.kernel;
    let ConvolutionOptions { n, bits, activation, fraction_bits, .. } = options;
    let linear = LinearOptions { n, k, bits, epsilon: 0.0, activation, fraction_bits };
    packed_linear::<B>(windows::<B>(pictures, options.window), ProloguePrimitive::None, weight, bias, None, linear)
}

pub(crate) fn depthwise<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, bias: FloatTensor<B>, window: Window) -> FloatTensor<B> {
    let (batch, channels) = (x.shape()[0], x.shape()[2]);
    let planes = reshape::<B>(B::float_swap_dims(x, 1, 2), &[batch, channels, window.height, window.width]);
    let y = reshape::<B>(conv2d::<B>(planes, weight, window, channels), &[batch, channels, window.cells()]);
    B::float_add(B::float_swap_dims(y, 1, 2), reshape::<B>(bias, &[1, 1, channels]))
}

fn pointwise<B: Backend>(
    x: FloatTensor<B>,
    part: PointwisePrimitive<B>,
    (k, n): (usize, usize),
    (activation, fraction_bits): (Activation, Option<u8>),
    residual: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    match part {
        PointwisePrimitive::None => x,
        PointwisePrimitive::Some { weight, bias } => {
            let options = LinearOptions { n, k, bits: GroupBits::Int8, epsilon: 0.0, activation, fraction_bits };
            packed_linear::<B>(x, ProloguePrimitive::None, weight, Some(bias), residual, options)
        }
    }
}

pub(crate) fn inverted_residual<B: Backend>(
    x: FloatTensor<B>,
    expand: PointwisePrimitive<B>,
    depthwise: DepthwisePrimitive<B>,
    project: PointwisePrimitive<B>,
    options: ResidualOptions,
) -> FloatTensor<B> {
    let ResidualOptions { window, input, inner, output, .. } = options;
    let (batch, kernel, [wide, convolved, narrow]) = (x.shape()[0], window.kernel, options.fraction_bits);
    let residual = options.shortcut.then(|| x.clone());
    let x = pointwise::<B>(x, expand, (input, inner), (options.expand, wide), None);
    let x = reshape::<B>(B::float_swap_dims(x, 1, 2), &[batch, inner, window.height, window.width]);
    let values = corner::<B>(widened::<B>(depthwise.values, &[kernel * kernel, padded(inner)]), kernel * kernel, inner);
    let values = reshape::<B>(B::float_transpose(values), &[inner, 1, kernel, kernel]);
    let y = conv2d::<B>(x, values, window, inner);
    let y = B::float_swap_dims(reshape::<B>(y, &[batch, inner, window.cells()]), 1, 2);
    let scales = corner::<B>(reshape::<B>(depthwise.scales, &[1, padded(inner)]), 1, inner);
    let y = fixed::<B>(B::float_mul(y, reshape::<B>(scales, &[1, 1, inner])), convolved);
    let y = B::float_add(y, reshape::<B>(fixed::<B>(depthwise.bias, convolved), &[1, 1, inner]));
    pointwise::<B>(activate::<B>(y, options.depthwise), project, (inner, output), (options.project, narrow), residual)
}

pub(crate) fn cached_attention<B: Backend>(
    qkv: FloatTensor<B>,
    [k, v]: [FloatTensor<B>; 2],
    angles: [Option<FloatTensor<B>>; 2],
    options: CachedOptions,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let CachedOptions { attention, first, interleaved } = options;
    let (rows, tokens, width, kv) = (qkv.shape()[0], qkv.shape()[1], qkv.shape()[2], k.shape()[2]);
    let columns = |from: usize, to: usize| B::float_slice(qkv.clone(), &[part(0, rows), part(0, tokens), part(from, to)]);
    let turned = |x: FloatTensor<B>, heads: usize| match &angles {
        [Some(cos), Some(sin)] => rotary::<B>(x, cos.clone(), sin.clone(), heads, interleaved),
        _ => x,
    };
    let q = turned(columns(0, width - 2 * kv), attention.heads);
    let new_k = turned(columns(width - 2 * kv, width - kv), attention.kv_heads);
    let place = [part(0, rows), part(first, first + tokens), part(0, kv)];
    let k = B::float_slice_assign(k, &place, new_k);
    let v = B::float_slice_assign(v, &place, columns(width - kv, width));
    let seen = |cache: &FloatTensor<B>| B::float_slice(cache.clone(), &[part(0, rows), part(0, first + tokens), part(0, kv)]);
    let y = fused_attention::<B>(q, seen(&k), seen(&v), None, AttentionOptions { causal: true, ..attention });
    (y, k, v)
}

pub(crate) fn reorder_rows<B: Backend>(x: FloatTensor<B>, options: &ReorderOptions) -> FloatTensor<B> {
    let (context, width) = (x.shape()[1], x.shape()[2]);
    let row = |&row: &usize| B::float_slice(x.clone(), &[part(row, row + 1), part(0, context), part(0, width)]);
    B::float_cat(options.rows.iter().map(row).collect(), 0)
}
