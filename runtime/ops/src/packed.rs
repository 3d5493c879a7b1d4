//! Weights in the kernels' order, as tensors.

use std::fmt;

use burn::backend::{Backend, ExtensionType, tensor::FloatTensor, tensor::IntTensor};
use burn::tensor::{DType, Device, Element, Int, Tensor, TensorData};
use ocelli_kernels::pack::{
    GROUP, GroupBits, OwnedGroups, OwnedInt8, PackError, PackedFloat, PackedGroups, PackedInt8, pack_float, padded,
};

/// A weight `[N][K]` (N output channels) in the order that [`ocelli_kernels::pack`] describes.
///
/// On the CPU the tensors are the stored bytes themselves: a mapped file is not copied. Elsewhere they are widened once, on the way to
/// the device.
#[derive(Clone)]
pub struct Packed {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) parts: Parts,
}

#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one a weight; a box more would be read at every call")]
pub(crate) enum Parts {
    Int8 { values: Tensor<1, Int>, scales: Tensor<1>, sums: Tensor<1, Int> },
    Groups { bits: GroupBits, values: Tensor<1, Int>, scales: Tensor<1> },
    Float { values: Tensor<1> },
}

/// What a [`Packed`] is to a backend.
#[derive(ExtensionType)]
pub enum WeightPrimitive<B: Backend> {
    /// A scale an output channel.
    Int8 {
        /// `[N/16][K/4][16][4]`
        values: IntTensor<B>,
        /// One an output channel.
        scales: FloatTensor<B>,
        /// Of an output channel's values.
        sums: IntTensor<B>,
    },
    /// A scale a group of 32.
    Groups {
        /// Packed bytes.
        values: IntTensor<B>,
        /// `[N/16][K/32][16]`
        scales: FloatTensor<B>,
    },
    /// Floats.
    Float {
        /// `[N/16][K][16]`
        values: FloatTensor<B>,
    },
}

/// Parts of a weight that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackedError {
    /// Sizes.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A part of a type that the format does not have.
    #[error("{part} are {has:?}; {needs} are needed")]
    Type {
        /// Which part.
        part: &'static str,
        /// Its type.
        has: DType,
        /// The one it should have.
        needs: &'static str,
    },
}

impl fmt::Debug for Packed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Packed({} {}x{})", self.kind(), self.n, self.k)
    }
}

impl Packed {
    /// int8 with a scale an output channel, from parts as they are stored: values i8, scales f32 and sums i32.
    pub fn int8(
        n: usize,
        k: usize,
        values: TensorData,
        scales: TensorData,
        sums: TensorData,
        device: &Device,
    ) -> Result<Self, PackedError> {
        is("the values", &values, DType::I8, "i8")?;
        is("the scales", &scales, DType::F32, "f32")?;
        is("the sums", &sums, DType::I32, "i32")?;
        fits("the values", n, k, values.num_elements(), PackedInt8::values_len(n, k))?;
        fits("the scales", n, k, scales.num_elements(), Some(padded(n)))?;
        fits("the sums", n, k, sums.num_elements(), Some(padded(n)))?;
        let parts = Parts::Int8 { values: integers(values, device), scales: floats(scales, device), sums: integers(sums, device) };
        Ok(Self { n, k, parts })
    }

    /// Groups of 32 from parts as they are stored: values u8 and scales f16.
    pub fn groups(
        n: usize,
        k: usize,
        bits: GroupBits,
        values: TensorData,
        scales: TensorData,
        device: &Device,
    ) -> Result<Self, PackedError> {
        is("the values", &values, DType::U8, "u8")?;
        is("the scales", &scales, DType::F16, "f16")?;
        if !k.is_multiple_of(GROUP) {
            return Err(PackError::Group { k }.into());
        }
        fits("the values", n, k, values.num_elements(), PackedGroups::values_len(n, k, bits))?;
        fits("the scales", n, k, scales.num_elements(), Some(padded(n) * (k / GROUP)))?;
        Ok(Self { n, k, parts: Parts::Groups { bits, values: integers(values, device), scales: floats(scales, device) } })
    }

    /// Floats, f32 or f16.
    pub fn float(n: usize, k: usize, values: TensorData, device: &Device) -> Result<Self, PackedError> {
        if values.dtype() != DType::F16 {
            is("the values", &values, DType::F32, "f32 or f16")?;
        }
        fits("the values", n, k, values.num_elements(), PackedFloat::values_len(n, k))?;
        Ok(Self { n, k, parts: Parts::Float { values: floats(values, device) } })
    }

    /// int8 packed here and now.
    pub fn from_int8(weight: OwnedInt8, device: &Device) -> Result<Self, PackedError> {
        let (n, k) = (weight.view().n(), weight.view().k());
        let (values, scales, sums) = (data(weight.values), data(weight.scales), data(weight.sums));
        Self::int8(n, k, values, scales, sums, device)
    }

    /// Groups packed here and now.
    pub fn from_groups(weight: OwnedGroups, device: &Device) -> Result<Self, PackedError> {
        let (n, k, bits) = (weight.view().n(), weight.view().k(), weight.view().bits());
        Self::groups(n, k, bits, data(weight.values), data(weight.scales), device)
    }

    /// Floats `[N][K]` packed here and now.
    pub fn from_floats<E: Element + Default>(n: usize, k: usize, weights: &[E], device: &Device) -> Result<Self, PackedError> {
        Self::float(n, k, data(pack_float(n, k, weights)?), device)
    }

    /// Output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input channels.
    pub fn k(&self) -> usize {
        self.k
    }

    /// `int8`, `int8g`, `int4`, `f32` or `f16`.
    pub fn kind(&self) -> &'static str {
        match &self.parts {
            Parts::Int8 { .. } => "int8",
            Parts::Groups { bits: GroupBits::Int8, .. } => "int8g",
            Parts::Groups { bits: GroupBits::Int4, .. } => "int4",
            Parts::Float { values } if values.dtype() == DType::F16 => "f16",
            Parts::Float { .. } => "f32",
        }
    }

    pub(crate) fn bits(&self) -> GroupBits {
        match &self.parts {
            Parts::Groups { bits, .. } => *bits,
            Parts::Int8 { .. } | Parts::Float { .. } => GroupBits::Int8,
        }
    }

    pub(crate) fn primitive(&self) -> WeightPrimitive<burn::backend::Dispatch> {
        match self.parts.clone() {
            Parts::Int8 { values, scales, sums } => {
                WeightPrimitive::Int8 { values: values.into_dispatch(), scales: scales.into_dispatch(), sums: sums.into_dispatch() }
            }
            Parts::Groups { values, scales, .. } => {
                WeightPrimitive::Groups { values: values.into_dispatch(), scales: scales.into_dispatch() }
            }
            Parts::Float { values } => WeightPrimitive::Float { values: values.into_dispatch() },
        }
    }
}

pub(crate) fn is(part: &'static str, data: &TensorData, dtype: DType, needs: &'static str) -> Result<(), PackedError> {
    if data.dtype() == dtype { Ok(()) } else { Err(PackedError::Type { part, has: data.dtype(), needs }) }
}

pub(crate) fn fits(part: &'static str, n: usize, k: usize, has: usize, needs: Option<usize>) -> Result<(), PackedError> {
    if needs == Some(has) && n > 0 && k > 0 {
        return Ok(());
    }
    Err(PackError::Length { part, n, k, has, needs: needs.unwrap_or(usize::MAX) }.into())
}

fn is_flex(device: &Device) -> bool {
    *device == Device::flex()
}

pub(crate) fn integers(data: TensorData, device: &Device) -> Tensor<1, Int> {
    let dtype = if is_flex(device) { data.dtype() } else { DType::I32 };
    Tensor::from_data(flat(data), (device, dtype))
}

pub(crate) fn data<E: Element>(values: Vec<E>) -> TensorData {
    let len = values.len();
    TensorData::new(values, [len])
}

fn flat(data: TensorData) -> TensorData {
    let len = data.num_elements();
    let (bytes, _, dtype) = data.into_parts();
    TensorData::from_bytes(bytes, [len], dtype)
}

pub(crate) fn floats(data: TensorData, device: &Device) -> Tensor<1> {
    let dtype = if is_flex(device) { data.dtype() } else { DType::F32 };
    Tensor::from_data(flat(data), (device, dtype))
}
