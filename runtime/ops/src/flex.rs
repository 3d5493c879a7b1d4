//! The operations on burn-flex: its tensors' memory, and the kernels.

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, FloatDType, Shape, TensorData};
use half::f16;
use ocelli_kernels::linear::Weight;
use ocelli_kernels::pack::{Floats, PackError, PackedFloat, PackedGroups, PackedInt8};
use ocelli_kernels::{Epilogue, Prologue};

use crate::cpu::with_engine;
use crate::extension::{AttentionOptions, LinearOptions, ProloguePrimitive};
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
    let epilogue =
        Epilogue { bias: bias.as_ref().map(Slice::get), activation: options.activation, residual: residual.as_ref().map(Slice::get) };
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

pub(crate) fn fused_attention(
    q: FloatTensor<Flex>,
    k: FloatTensor<Flex>,
    v: FloatTensor<Flex>,
    mask: Option<FloatTensor<Flex>>,
    options: AttentionOptions,
) -> FloatTensor<Flex> {
    crate::oracle::fused_attention::<Flex>(q, k, v, mask, options)
}
