//! The operations on burn-flex: its tensors' memory, and the kernels.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, Shape, TensorData};
use half::f16;
use ocelli_kernels::attention::{Attention, Heads, Precision};
use ocelli_kernels::convolution::{self, DepthwiseValues, Geometry, Layout, PackedDepthwise, Picture, pack_depthwise};
use ocelli_kernels::embedding::Table;
use ocelli_kernels::linear::Weight;
use ocelli_kernels::pack::{Floats, PackError, PackedFloat, PackedGroups, PackedInt8};
use ocelli_kernels::rope::{Positions, Rope, RopePairs, RopeTable};
use ocelli_kernels::{Activation, Epilogue, Prologue};

use crate::cpu::with_engine;
use crate::extension::{
    AttentionOptions, CachedOptions, ConvolutionOptions, DepthwisePrimitive, LinearOptions, PointwisePrimitive, ProloguePrimitive,
    ReorderOptions, ResidualOptions, Window,
};
use crate::packed::WeightPrimitive;

/// A tensor's floats, side by side in its own memory where they are so already.
struct Slice(FloatTensor<Flex>);

impl Slice {
    fn new(x: FloatTensor<Flex>) -> Self {
        let x = if x.dtype() == DType::F32 { x } else { Flex::float_cast(x, FloatDType::F32) };
        Self(if x.is_contiguous() { x } else { x.to_contiguous() })
    }

    fn get(&self) -> &[f32] {
        // Both conditions hold by construction.
        self.0.as_slice::<f32>().unwrap_or_default()
    }
}

/// A tensor of floats that is all of its memory, to be written: where nobody else holds it, in place.
fn whole(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let x = Slice::new(x).0;
    let all = x.layout().start_offset() == 0 && x.layout().num_elements() == x.storage::<f32>().len();
    if all { x } else { x.to_contiguous() }
}

/// The kernels' view of a weight's tensors.
fn with_weight<R>(weight: &WeightPrimitive<Flex>, options: &LinearOptions, compute: impl FnOnce(Weight<'_>) -> R) -> Result<R, PackError> {
    let (n, k) = (options.n, options.k);
    Ok(compute(match weight {
        WeightPrimitive::Int8 { values, scales, sums } => {
            Weight::Int8(PackedInt8::new(n, k, integers(values), plain(scales), integers(sums))?)
        }
        WeightPrimitive::Groups { values, scales } => {
            Weight::Groups(PackedGroups::new(n, k, options.bits, integers(values), scales.as_slice::<f16>().unwrap_or_default())?)
        }
        WeightPrimitive::Float { values } => Weight::Float(match values.as_slice::<f16>() {
            Some(values) => PackedFloat::new(n, k, Floats::F16(values))?,
            None => PackedFloat::new(n, k, Floats::F32(plain(values)))?,
        }),
    }))
}

fn plain(x: &FloatTensor<Flex>) -> &[f32] {
    x.as_slice::<f32>().unwrap_or_default()
}

fn integers<T: burn::tensor::Element + bytemuck::Pod>(x: &IntTensor<Flex>) -> &[T] {
    x.as_slice::<T>().unwrap_or_default()
}

fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
}

pub(crate) fn packed_linear(
    x: FloatTensor<Flex>,
    prologue: ProloguePrimitive<Flex>,
    weight: WeightPrimitive<Flex>,
    bias: Option<FloatTensor<Flex>>,
    residual: Option<FloatTensor<Flex>>,
    options: LinearOptions,
) -> FloatTensor<Flex> {
    let mut shape = x.shape();
    let last = shape.num_dims() - 1;
    shape[last] = options.n;
    let (x, bias, residual) = (Slice::new(x), bias.map(Slice::new), residual.map(Slice::new));
    let epilogue = Epilogue {
        bias: bias.as_ref().map(Slice::get),
        activation: options.activation,
        residual: residual.as_ref().map(Slice::get),
        fraction_bits: options.fraction_bits,
    };
    let epsilon = options.epsilon;
    let (norm_weight, norm_bias);
    let prologue = match prologue {
        ProloguePrimitive::None => Prologue::None,
        ProloguePrimitive::LayerNorm { weight, bias } => {
            (norm_weight, norm_bias) = (Slice::new(weight), Slice::new(bias));
            Prologue::LayerNorm { weight: norm_weight.get(), bias: norm_bias.get(), epsilon }
        }
        ProloguePrimitive::RmsNorm { weight } => {
            norm_weight = Slice::new(weight);
            Prologue::RmsNorm { weight: norm_weight.get(), epsilon }
        }
        ProloguePrimitive::SiluMul => Prologue::SiluMul,
    };
    let out = with_weight(&weight, &options, |weight| with_engine(|engine| engine.linear_vec(x.get(), prologue, weight, epilogue)));
    match out {
        Ok(out) => tensor(out, shape),
        // `Packed` has checked the sizes.
        Err(error) => unreachable!("{error}"),
    }
}

/// `[B, T, W]` whose rows lie in one piece, at any distance from each other: views of a wider tensor are read where they lie.
struct RowsOf {
    tensor: FloatTensor<Flex>,
    start: usize,
    batch: usize,
    row: usize,
}

impl RowsOf {
    fn new(x: FloatTensor<Flex>, halves: bool) -> Self {
        let x = if x.dtype() == DType::F32 || halves && x.dtype() == DType::F16 { x } else { Flex::float_cast(x, FloatDType::F32) };
        let in_pieces = |x: &FloatTensor<Flex>| {
            let strides = x.layout().strides();
            strides[2] == 1 && strides.iter().all(|&stride| stride >= 0)
        };
        let x = if in_pieces(&x) { x } else { x.to_contiguous() };
        let (start, strides) = (x.layout().start_offset(), x.layout().strides());
        let (batch, row) = (strides[0].unsigned_abs(), strides[1].unsigned_abs());
        Self { start, batch, row, tensor: x }
    }

    fn heads<T>(&self, values: T, dim: usize) -> Heads<T> {
        Heads { values, row_stride: self.row, head_stride: dim }
    }

    fn floats(&self, batch: usize) -> &[f32] {
        &self.tensor.storage::<f32>()[self.start + batch * self.batch..]
    }

    fn either(&self, batch: usize) -> Floats<'_> {
        let from = self.start + batch * self.batch;
        match self.tensor.dtype() {
            DType::F16 => Floats::F16(&self.tensor.storage::<f16>()[from..]),
            _ => Floats::F32(&self.tensor.storage::<f32>()[from..]),
        }
    }
}

pub(crate) fn fused_attention(
    q: FloatTensor<Flex>,
    k: FloatTensor<Flex>,
    v: FloatTensor<Flex>,
    mask: Option<FloatTensor<Flex>>,
    options: AttentionOptions,
) -> FloatTensor<Flex> {
    let AttentionOptions { heads, kv_heads, scale, causal, fast } = options;
    let (shape, keys) = (q.shape(), k.shape()[1]);
    let (batch, queries, width) = (shape[0], shape[1], shape[2]);
    let dim = width / heads;
    let (q, k, v, mask) = (RowsOf::new(q, false), RowsOf::new(k, true), RowsOf::new(v, true), mask.map(Slice::new));
    let mut out = vec![0.0; batch * queries * width];
    with_engine(|engine| {
        for (i, out) in out.chunks_exact_mut((queries * width).max(1)).enumerate() {
            let attention = Attention {
                q: q.heads(q.floats(i), dim),
                k: k.heads(k.either(i), dim),
                v: v.heads(v.either(i), dim),
                queries,
                keys,
                heads,
                kv_heads,
                dim,
                scale,
                causal,
                key_mask: mask.as_ref().map(|mask| &mask.get()[i * keys..(i + 1) * keys]),
                bias: None,
                precision: if fast { Precision::Fast } else { Precision::Full },
            };
            engine.attention(&attention, out, width);
        }
    });
    tensor(out, shape)
}

fn geometry(window: Window) -> Geometry {
    let Window { height, width, kernel, stride, same } = window;
    if same { Geometry::same(height, width, kernel, stride) } else { Geometry::padded(height, width, kernel, stride, [0; 4]) }
}

pub(crate) fn packed_convolution(
    pictures: FloatTensor<Flex>,
    weight: WeightPrimitive<Flex>,
    bias: Option<FloatTensor<Flex>>,
    options: ConvolutionOptions,
) -> FloatTensor<Flex> {
    let (shape, window) = (pictures.shape(), options.window);
    let (batch, channels) = (shape[0], shape[1]);
    let k = channels * window.kernel * window.kernel;
    let (pictures, bias) = (Slice::new(pictures), bias.map(Slice::new));
    let ConvolutionOptions { n, bits, activation, fraction_bits, .. } = options;
    let epilogue = Epilogue { bias: bias.as_ref().map(Slice::get), activation, residual: None, fraction_bits };
    let linear = LinearOptions { n, k, bits, epsilon: 0.0, activation, fraction_bits };
    let picture = Picture { values: pictures.get(), channels, layout: Layout::Planar };
    let mut out = vec![0.0; batch * window.cells() * options.n];
    let done = with_weight(&weight, &linear, |weight| {
        with_engine(|engine| engine.convolution(picture, geometry(window), weight, epilogue, &mut out));
    });
    match done {
        Ok(()) => tensor(out, Shape::from([batch, window.cells(), options.n])),
        // `Packed` has checked the sizes.
        Err(error) => unreachable!("{error}"),
    }
}

/// A pointwise convolution's tensors, kept while kernels look at them.
struct Layer(WeightPrimitive<Flex>, Slice);

impl Layer {
    fn new(part: PointwisePrimitive<Flex>) -> Option<Self> {
        match part {
            PointwisePrimitive::None => None,
            PointwisePrimitive::Some { weight, bias } => Some(Self(weight, Slice::new(bias))),
        }
    }

    fn view(
        &self,
        (k, n): (usize, usize),
        activation: Activation,
        fraction_bits: Option<u8>,
    ) -> Result<convolution::Pointwise<'_>, PackError> {
        match &self.0 {
            WeightPrimitive::Int8 { values, scales, sums } => {
                let weight = PackedInt8::new(n, k, integers(values), plain(scales), integers(sums))?;
                Ok(convolution::Pointwise { weight, bias: Some(self.1.get()), activation, fraction_bits })
            }
            WeightPrimitive::Groups { .. } | WeightPrimitive::Float { .. } => {
                Err(PackError::Length { part: "the scales of an int8 weight", n, k, has: 0, needs: n })
            }
        }
    }
}

pub(crate) fn inverted_residual(
    x: FloatTensor<Flex>,
    expand: PointwisePrimitive<Flex>,
    depthwise: DepthwisePrimitive<Flex>,
    project: PointwisePrimitive<Flex>,
    options: ResidualOptions,
) -> FloatTensor<Flex> {
    let ResidualOptions { window, input, inner, output, .. } = options;
    let batch = x.shape()[0];
    let x = Slice::new(x);
    let (expand, project, bias) = (Layer::new(expand), Layer::new(project), Slice::new(depthwise.bias));
    let mut out = vec![0.0; batch * window.cells() * output];
    let mut compute = || -> Result<(), PackError> {
        let values = DepthwiseValues::Int8 { values: integers(&depthwise.values), scales: plain(&depthwise.scales) };
        let weight = PackedDepthwise::new(inner, window.kernel, values)?;
        let project = project.as_ref().ok_or(PackError::Empty { n: output, k: inner })?;
        let [wide, convolved, narrow] = options.fraction_bits;
        let block = convolution::InvertedResidual {
            geometry: geometry(window),
            expand: expand.as_ref().map(|layer| layer.view((input, inner), options.expand, wide)).transpose()?,
            depthwise: convolution::Depthwise { weight, bias: Some(bias.get()), activation: options.depthwise, fraction_bits: convolved },
            project: project.view((inner, output), options.project, narrow)?,
            shortcut: options.shortcut,
        };
        with_engine(|engine| engine.inverted_residual(x.get(), &block, &mut out));
        Ok(())
    };
    match compute() {
        Ok(()) => tensor(out, Shape::from([batch, window.cells(), output])),
        Err(error) => panic_of(&error),
    }
}

pub(crate) fn depthwise(x: FloatTensor<Flex>, weight: FloatTensor<Flex>, bias: FloatTensor<Flex>, window: Window) -> FloatTensor<Flex> {
    let (batch, channels) = (x.shape()[0], x.shape()[2]);
    let (x, weight, bias) = (Slice::new(x), Slice::new(weight), Slice::new(bias));
    let mut out = vec![0.0; batch * window.cells() * channels];
    let mut compute = || -> Result<(), PackError> {
        let values = pack_depthwise(channels, window.kernel, weight.get())?;
        let weight = PackedDepthwise::new(channels, window.kernel, DepthwiseValues::F32(&values))?;
        let depthwise = convolution::Depthwise { weight, bias: Some(bias.get()), activation: Activation::None, fraction_bits: None };
        with_engine(|engine| engine.depthwise(x.get(), geometry(window), depthwise, &mut out));
        Ok(())
    };
    match compute() {
        Ok(()) => tensor(out, Shape::from([batch, window.cells(), channels])),
        Err(error) => panic_of(&error),
    }
}

/// What `inverted_residual` and `depthwise` document: weights that do not fit.
#[allow(clippy::panic)]
fn panic_of(error: &PackError) -> ! {
    panic!("a convolution's weights: {error}")
}

pub(crate) fn cached_attention(
    qkv: FloatTensor<Flex>,
    [mut k, mut v]: [FloatTensor<Flex>; 2],
    angles: [Option<FloatTensor<Flex>>; 2],
    options: CachedOptions,
) -> (FloatTensor<Flex>, FloatTensor<Flex>, FloatTensor<Flex>) {
    let CachedOptions { attention: AttentionOptions { heads, kv_heads, scale, fast, .. }, first, interleaved } = options;
    let (batch, tokens, width) = (qkv.shape()[0], qkv.shape()[1], qkv.shape()[2]);
    let (context, kv) = (k.shape()[1], k.shape()[2]);
    let (q_width, dim) = (width - 2 * kv, kv / kv_heads);
    let mut qkv = whole(qkv);
    (k, v) = (whole(k), whole(v));
    let table = match angles {
        [Some(cos), Some(sin)] => Some(RopeTable::from_tables(dim / 2, Slice::new(cos).get().to_vec(), Slice::new(sin).get().to_vec())),
        _ => None,
    };
    let pairs = if interleaved { RopePairs::Interleaved } else { RopePairs::Half };
    let turn =
        |table, heads: usize| Rope { table, pairs, positions: Positions::From(0), tokens, heads, dim, row_stride: width, head_stride: dim };
    let mut out = vec![0.0; batch * tokens * q_width];
    let all = qkv.storage_mut::<f32>();
    with_engine(|engine| {
        for (row, out) in out.chunks_exact_mut(tokens * q_width).enumerate() {
            let rows = &mut all[row * tokens * width..(row + 1) * tokens * width];
            if let Some(table) = &table {
                engine.rope(&turn(table, heads), rows);
                engine.rope(&turn(table, kv_heads), &mut rows[q_width..]);
            }
            let begin = row * context * kv;
            for (cache, from) in [(&mut k, q_width), (&mut v, q_width + kv)] {
                let new = rows.chunks_exact(width).map(|row| &row[from..from + kv]);
                let old = cache.storage_mut::<f32>()[begin + first * kv..begin + context * kv].chunks_exact_mut(kv);
                old.zip(new).for_each(|(old, new)| old.copy_from_slice(new));
            }
            let seen = begin..begin + (first + tokens) * kv;
            let attention = Attention {
                q: Heads { values: &*rows, row_stride: width, head_stride: dim },
                k: Heads { values: Floats::F32(&k.storage::<f32>()[seen.clone()]), row_stride: kv, head_stride: dim },
                v: Heads { values: Floats::F32(&v.storage::<f32>()[seen]), row_stride: kv, head_stride: dim },
                queries: tokens,
                keys: first + tokens,
                heads,
                kv_heads,
                dim,
                scale,
                causal: true,
                key_mask: None,
                bias: None,
                precision: if fast { Precision::Fast } else { Precision::Full },
            };
            engine.attention(&attention, out, q_width);
        }
    });
    (tensor(out, Shape::from([batch, tokens, q_width])), k, v)
}

/// Values of a row that change places at a time.
const REORDERED: usize = 1 << 14;

pub(crate) fn reorder_rows(x: FloatTensor<Flex>, options: &ReorderOptions) -> FloatTensor<Flex> {
    let ReorderOptions { rows, used } = options;
    let (count, context, width) = (x.shape()[0], x.shape()[1], x.shape()[2]);
    let mut x = whole(x);
    let (row, used) = (context * width, used * width);
    if rows.len() != count {
        // The rest of a row is not read before it is written.
        let mut out = vec![0.0; rows.len() * row];
        let all = x.storage::<f32>();
        for (out, &from) in out.chunks_exact_mut(row.max(1)).zip(rows) {
            out[..used].copy_from_slice(&all[from * row..from * row + used]);
        }
        return tensor(out, Shape::from([rows.len(), context, width]));
    }
    // Rows that are overwritten before they are read for the last time are set aside, a piece of all rows at a time.
    let needed = |&from: &usize| rows[from] != from && rows.iter().enumerate().any(|(to, &asked)| asked == from && to > from);
    let mut aside: Vec<(usize, Vec<f32>)> = (0..count).filter(needed).map(|from| (from, Vec::new())).collect();
    let all = x.storage_mut::<f32>();
    for begin in (0..used).step_by(REORDERED) {
        let end = used.min(begin + REORDERED);
        let piece = |of: usize| of * row + begin..of * row + end;
        for (from, values) in &mut aside {
            values.clear();
            values.extend_from_slice(&all[piece(*from)]);
        }
        for (to, &from) in rows.iter().enumerate().filter(|(to, from)| to != *from) {
            match aside.iter().find(|(of, _)| *of == from && from < to) {
                Some((_, values)) => all[piece(to)].copy_from_slice(values),
                None => all.copy_within(piece(from), to * row + begin),
            }
        }
    }
    x
}

pub(crate) fn packed_embedding(ids: IntTensor<Flex>, table: WeightPrimitive<Flex>, options: LinearOptions) -> FloatTensor<Flex> {
    let ids: Vec<u32> = ids.into_data().iter::<i64>().map(|id| id as u32).collect();
    let mut out = vec![0.0; ids.len() * options.k];
    let rows = with_weight(&table, &options, |weight| with_engine(|engine| engine.embedding(&ids, Table::Packed(weight), None, &mut out)));
    match rows {
        Ok(Ok(())) => tensor(out, Shape::from([ids.len(), options.k])),
        // `embedding` asks for ids within the table, and `Packed` has checked the sizes.
        Ok(Err(error)) => unreachable!("{error}"),
        Err(error) => unreachable!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle;
    use crate::packed::{Packed, Parts};
    use burn::tensor::{Device, Distribution, Tensor};

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn primitive<const D: usize>(x: Tensor<D>) -> FloatTensor<Flex> {
        FloatTensor::<Flex>::from_data(x.into_data())
    }

    fn values(x: FloatTensor<Flex>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    fn weight(packed: &Packed) -> WeightPrimitive<Flex> {
        match packed.parts.clone() {
            Parts::Int8 { values, scales, sums } => WeightPrimitive::Int8 {
                values: FloatTensor::<Flex>::from_data(values.into_data()),
                scales: primitive(scales),
                sums: FloatTensor::<Flex>::from_data(sums.into_data()),
            },
            Parts::Groups { values, scales, .. } => {
                WeightPrimitive::Groups { values: FloatTensor::<Flex>::from_data(values.into_data()), scales: primitive(scales) }
            }
            Parts::Float { values } => WeightPrimitive::Float { values: primitive(values) },
        }
    }

    fn close(fast: &[f32], right: &[f32], tolerance: f32, what: &str) {
        assert_eq!(fast.len(), right.len(), "{what}");
        for (i, (a, b)) in fast.iter().zip(right).enumerate() {
            assert!((a - b).abs() <= tolerance, "{what} at {i}: {a}, not {b}");
        }
    }

    #[test]
    fn linear_layers_are_the_oracles() {
        use ocelli_kernels::pack::{GroupBits, OwnedGroups, OwnedInt8};
        let device = Device::flex();
        let (n, k) = (37, 96);
        let floats: Vec<f32> = random([n, k]).into_data().iter::<f32>().collect();
        let halves: Vec<f16> = floats.iter().map(|&x| f16::from_f32(x)).collect();
        let weights = [
            Packed::from_int8(OwnedInt8::quantize(n, k, &floats).unwrap(), &device).unwrap(),
            Packed::from_groups(OwnedGroups::quantize(n, k, GroupBits::Int8, &floats).unwrap(), &device).unwrap(),
            Packed::from_groups(OwnedGroups::quantize(n, k, GroupBits::Int4, &floats).unwrap(), &device).unwrap(),
            Packed::from_floats(n, k, &floats, &device).unwrap(),
            Packed::from_floats(n, k, &halves, &device).unwrap(),
        ];
        let (gains, shifts) = (primitive(random([k])), primitive(random([k])));
        for packed in &weights {
            for activation in Activation::ALL {
                for norm in 0..4 {
                    let prologue = || match norm {
                        0 => ProloguePrimitive::None,
                        1 => ProloguePrimitive::LayerNorm { weight: gains.clone(), bias: shifts.clone() },
                        2 => ProloguePrimitive::RmsNorm { weight: gains.clone() },
                        _ => ProloguePrimitive::SiluMul,
                    };
                    let x = primitive(random([2, 5, if norm == 3 { 2 * k } else { k }]));
                    let (bias, residual) = (primitive(random([n])), primitive(random([2, 5, n])));
                    let options = LinearOptions { n, k, bits: packed.bits(), epsilon: 1e-5, activation, fraction_bits: None };
                    let fast = packed_linear(x.clone(), prologue(), weight(packed), Some(bias.clone()), Some(residual.clone()), options);
                    let right = oracle::packed_linear::<Flex>(x, prologue(), weight(packed), Some(bias), Some(residual), options);
                    // One activation of a row may fall to the other side of a byte's middle: a step of 1/127 of the row's greatest, some 6 σ
                    // at most, times a weight of 4 σ at most. Without rounding: single precision.
                    let tolerance = if packed.kind().starts_with('f') { 2e-4 } else { 6.0 / 127.0 * 4.0 };
                    close(&values(fast), &values(right), tolerance, &format!("{packed:?} {activation:?} prologue {norm}"));
                }
            }
        }
    }

    #[test]
    fn attention_is_the_oracles() {
        for (queries, keys, causal) in [(7, 7, true), (1, 9, true), (5, 11, false), (40, 70, false)] {
            for (heads, kv_heads) in [(4, 4), (6, 2)] {
                let dim = 24;
                let (q, k, v) = (random([2, queries, heads * dim]), random([2, keys, kv_heads * dim]), random([2, keys, kv_heads * dim]));
                let hidden = random([2, keys]).greater_elem(1.0);
                let mask = Tensor::<2>::zeros([2, keys], &Device::flex()).mask_fill(hidden, f32::NEG_INFINITY);
                // The first key is always seen, so no row is without any: there the two differ.
                let mask = mask.slice_assign([0..2, 0..1], Tensor::zeros([2, 1], &Device::flex()));
                let options = AttentionOptions { heads, kv_heads, scale: 0.2, causal, fast: false };
                let run = |q: FloatTensor<Flex>| (q, primitive(k.clone()), primitive(v.clone()), Some(primitive(mask.clone())));
                let (a, b, c, d) = run(primitive(q.clone()));
                let fast = fused_attention(a, b, c, d, options);
                let (a, b, c, d) = run(primitive(q));
                let right = oracle::fused_attention::<Flex>(a, b, c, d, options);
                close(&values(fast), &values(right), 2e-5, &format!("{queries} {keys} {causal} {heads} {kv_heads}"));
            }
        }
    }

    #[test]
    fn rows_of_a_packed_table_are_the_oracles() {
        use ocelli_kernels::pack::{GroupBits, OwnedGroups, OwnedInt8};
        let device = Device::flex();
        let (n, k) = (50, 64);
        let floats: Vec<f32> = random([n, k]).into_data().iter::<f32>().collect();
        let tables = [
            Packed::from_int8(OwnedInt8::quantize(n, k, &floats).unwrap(), &device).unwrap(),
            Packed::from_groups(OwnedGroups::quantize(n, k, GroupBits::Int4, &floats).unwrap(), &device).unwrap(),
            Packed::from_floats(n, k, &floats, &device).unwrap(),
        ];
        for table in &tables {
            let options = LinearOptions { n, k, bits: table.bits(), epsilon: 0.0, activation: Activation::None, fraction_bits: None };
            let ids = || FloatTensor::<Flex>::from_data(TensorData::from([0_i64, 49, 7, 7, 16]));
            let fast = packed_embedding(ids(), weight(table), options);
            let right = oracle::packed_embedding::<Flex>(ids(), weight(table), options);
            close(&values(fast), &values(right), 1e-6, &format!("{table:?}"));
        }
    }

    #[test]
    fn convolutions_are_the_oracles() {
        use ocelli_kernels::pack::OwnedInt8;
        let device = Device::flex();
        for (side, kernel, stride, same) in [(9, 3, 2, true), (8, 4, 4, false), (7, 5, 1, true)] {
            let window = Window { height: side, width: side + 1, kernel, stride, same };
            let (n, k) = (21, 3 * kernel * kernel);
            let floats: Vec<f32> = random([n, k]).into_data().iter::<f32>().collect();
            for packed in [
                Packed::from_floats(n, k, &floats, &device).unwrap(),
                Packed::from_int8(OwnedInt8::quantize(n, k, &floats).unwrap(), &device).unwrap(),
            ] {
                let pictures = random([2, 3, side, side + 1]);
                let options = ConvolutionOptions { n, bits: packed.bits(), window, activation: Activation::Relu6, fraction_bits: None };
                let bias = primitive(random([n]));
                let fast = packed_convolution(primitive(pictures.clone()), weight(&packed), Some(bias.clone()), options);
                let right = oracle::packed_convolution::<Flex>(primitive(pictures), weight(&packed), Some(bias), options);
                // As for linear layers: one step of one activation.
                let tolerance = if packed.kind() == "f32" { 1e-4 } else { 6.0 / 127.0 * 4.0 };
                close(&values(fast), &values(right), tolerance, &format!("{window:?} {packed:?}"));
            }
        }
    }

    #[test]
    fn inverted_residual_blocks_are_the_oracles() {
        use crate::convolution::DepthwiseWeight;
        use ocelli_kernels::pack::OwnedInt8;
        let device = Device::flex();
        for (stride, kernel, widened) in [(1, 3, true), (2, 5, true), (1, 5, false)] {
            let (input, inner, output) = (20, if widened { 50 } else { 20 }, if stride == 1 { 20 } else { 33 });
            let window = Window { height: 9, width: 11, kernel, stride, same: true };
            let matrix = |n: usize, k: usize| {
                let floats: Vec<f32> = random([n, k]).div_scalar((k as f32).sqrt()).into_data().iter::<f32>().collect();
                Packed::from_int8(OwnedInt8::quantize(n, k, &floats).unwrap(), &device).unwrap()
            };
            let (first, last) = (matrix(inner, input), matrix(output, inner));
            let taps: Vec<f32> = random([inner, kernel * kernel]).div_scalar(kernel as f32).into_data().iter::<f32>().collect();
            let taps = DepthwiseWeight::quantize(inner, kernel, &taps, &device).unwrap();
            let options = |fraction_bits| ResidualOptions {
                window,
                input,
                inner,
                output,
                expand: Activation::Relu6,
                depthwise: Activation::Relu6,
                project: Activation::None,
                shortcut: stride == 1,
                fraction_bits,
            };
            let (x, biases) = (random([2, 99, input]), [random([inner]), random([inner]), random([output])]);
            // What is nowhere negative is what lies between layers where none widens.
            let x = ((if widened { x } else { x.abs() }) * 128.0).round() / 128.0;
            let part =
                |packed: &Packed, bias: &Tensor<1>| PointwisePrimitive::Some { weight: weight(packed), bias: primitive(bias.clone()) };
            let parts = || {
                let expand = if widened { part(&first, &biases[0]) } else { PointwisePrimitive::None };
                let depthwise = DepthwisePrimitive {
                    values: FloatTensor::<Flex>::from_data(taps.values().into_data()),
                    scales: primitive(taps.scales()),
                    bias: primitive(biases[1].clone()),
                };
                (primitive(x.clone()), expand, depthwise, part(&last, &biases[2]))
            };
            let both = |options: ResidualOptions| {
                let (a, b, c, d) = parts();
                let fast = values(inverted_residual(a, b, c, d, options));
                let (a, b, c, d) = parts();
                (fast, values(oracle::inverted_residual::<Flex>(a, b, c, d, options)))
            };
            // A byte of the input on the other side of its middle moves a channel by 6 / 127 · 0.5, and what follows sums over some of them.
            let (fast, right) = both(options([None; 3]));
            close(&fast, &right, 0.08, &format!("{:?}", options([None; 3])));
            let (fast, right) = both(options([Some(9), Some(9), Some(7)]));
            assert_eq!(fast, right, "{window:?}");
        }
    }

    #[test]
    fn depthwise_convolutions_are_the_oracles() {
        for (channels, kernel, stride) in [(20, 3, 1), (33, 5, 2), (7, 3, 2)] {
            let window = Window { height: 9, width: 11, kernel, stride, same: true };
            let x = random([2, 99, channels]);
            let (weight, bias) = (random([channels, 1, kernel, kernel]), random([channels]));
            let run = || (primitive(x.clone()), primitive(weight.clone()), primitive(bias.clone()));
            let (a, b, c) = run();
            let fast = values(depthwise(a, b, c, window));
            let (a, b, c) = run();
            let right = values(oracle::depthwise::<Flex>(a, b, c, window));
            close(&fast, &right, 1e-5, &format!("{channels} {window:?}"));
        }
    }

    #[test]
    fn attention_over_a_cache_is_the_oracles() {
        let (heads, kv_heads, dim, context) = (6, 2, 16, 20);
        let (width, kv) = ((heads + 2 * kv_heads) * dim, kv_heads * dim);
        for (batch, first, tokens, interleaved, turned) in
            [(1, 0, 5, false, true), (3, 7, 1, false, true), (1, 3, 9, true, true), (2, 4, 3, false, false)]
        {
            let attention = AttentionOptions { heads, kv_heads, scale: 0.25, causal: true, fast: false };
            let options = CachedOptions { attention, first, interleaved };
            let (qkv, angles) = (random([batch, tokens, width]), random([tokens, dim / 2]));
            let caches = [random([batch, context, kv]), random([batch, context, kv])];
            let run = || {
                let caches = [primitive(caches[0].clone()), primitive(caches[1].clone())];
                let angles = [angles.clone().cos(), angles.clone().sin()].map(|angles| turned.then(|| primitive(angles)));
                (primitive(qkv.clone()), caches, angles)
            };
            let (a, b, c) = run();
            let fast = cached_attention(a, b, c, options);
            let (a, b, c) = run();
            let right = oracle::cached_attention::<Flex>(a, b, c, options);
            for (what, fast, right) in [("heads", fast.0, right.0), ("keys", fast.1, right.1), ("values", fast.2, right.2)] {
                close(&values(fast), &values(right), 2e-5, &format!("{what} {batch} {first} {tokens} {interleaved} {turned}"));
            }
        }
    }

    #[test]
    fn rows_change_places_as_the_oracles() {
        // The second takes several pieces.
        for x in [random([4, 5, 3]), random([4, 3, REORDERED / 2 + 5])] {
            let [_, context, width] = x.dims();
            for rows in [vec![1, 0, 3, 2], vec![3, 3, 3, 3], vec![2, 0, 1, 1], vec![1, 2, 3, 0], vec![0, 0, 1, 1], vec![3, 1], vec![0; 6]] {
                let options = ReorderOptions { rows: rows.clone(), used: 2 };
                let fast = values(reorder_rows(primitive(x.clone()), &options));
                let right = values(oracle::reorder_rows::<Flex>(primitive(x.clone()), &options));
                for (row, (fast, right)) in fast.chunks(context * width).zip(right.chunks(context * width)).enumerate() {
                    assert_eq!(fast[..2 * width], right[..2 * width], "row {row} of {rows:?}, {width} wide");
                }
            }
        }
    }
}
