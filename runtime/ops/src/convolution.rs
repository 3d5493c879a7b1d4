//! Convolutions on packed weights. Maps are token-major: cells row by row, the channels of a cell side by side.

use std::fmt;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use ocelli_kernels::Activation;
use ocelli_kernels::convolution::{OwnedDepthwise, PackedDepthwise};
use ocelli_kernels::linear::check_bits;
use ocelli_kernels::pack::{PackError, padded};

use crate::extension::{ConvolutionOptions, DepthwisePrimitive, KernelOps, OptionalPrimitive, PointwisePrimitive, ResidualOptions};
use crate::linear::After;
use crate::packed::{Packed, PackedError, fits, floats, integers, is};

pub use crate::extension::Window;

/// A weight of one kernel a channel, int8 with a scale a channel, `[k · k][C]` with C padded to panels.
#[derive(Clone)]
pub struct DepthwiseWeight {
    pub(crate) channels: usize,
    pub(crate) kernel: usize,
    values: Tensor<1, Int>,
    scales: Tensor<1>,
}

impl fmt::Debug for DepthwiseWeight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DepthwiseWeight({}x{}x{})", self.channels, self.kernel, self.kernel)
    }
}

impl DepthwiseWeight {
    /// From parts as they are stored: values i8 and scales f32.
    pub fn new(channels: usize, kernel: usize, values: TensorData, scales: TensorData, device: &Device) -> Result<Self, PackedError> {
        is("the values", &values, DType::I8, "i8")?;
        is("the scales", &scales, DType::F32, "f32")?;
        fits("the values", channels, kernel * kernel, values.num_elements(), PackedDepthwise::values_len(channels, kernel))?;
        fits("the scales", channels, kernel * kernel, scales.num_elements(), Some(padded(channels)))?;
        Ok(Self { channels, kernel, values: integers(values, device), scales: floats(scales, device) })
    }

    /// Values `[C][k][k]` with scales `[C]`, packed here and now.
    pub fn pack(channels: usize, kernel: usize, values: &[i8], scales: &[f32], device: &Device) -> Result<Self, PackedError> {
        let owned = OwnedDepthwise::pack(channels, kernel, values, scales)?;
        let (values, scales) = (crate::packed::data(owned.values), crate::packed::data(owned.scales));
        Self::new(channels, kernel, values, scales, device)
    }

    /// Floats `[C][k][k]`, rounded here and now.
    pub fn quantize(channels: usize, kernel: usize, weights: &[f32], device: &Device) -> Result<Self, PackedError> {
        let owned: Result<OwnedDepthwise, PackError> = OwnedDepthwise::quantize(channels, kernel, weights);
        let owned = owned?;
        let (values, scales) = (crate::packed::data(owned.values), crate::packed::data(owned.scales));
        Self::new(channels, kernel, values, scales, device)
    }
}

#[cfg(test)]
impl DepthwiseWeight {
    pub(crate) fn values(&self) -> Tensor<1, Int> {
        self.values.clone()
    }

    pub(crate) fn scales(&self) -> Tensor<1> {
        self.scales.clone()
    }
}

/// A pointwise convolution of a block.
#[derive(Debug, Clone)]
pub struct Pointwise<'a> {
    /// int8.
    pub weight: &'a Packed,
    /// `[N]`
    pub bias: Tensor<1>,
    /// Of the sum.
    pub activation: Activation,
    /// As in [`After`].
    pub fraction_bits: Option<u8>,
}

/// A depthwise convolution of a block.
#[derive(Debug, Clone)]
pub struct Depthwise<'a> {
    /// int8.
    pub weight: &'a DepthwiseWeight,
    /// `[C]`
    pub bias: Tensor<1>,
    /// Of the sum.
    pub activation: Activation,
    /// As in [`After`]. Weights are whole numbers in the sum then, and their scale comes after it.
    pub fraction_bits: Option<u8>,
}

/// activation(pictures ∗ w + bias): `[B, C, H, W]` → `[B, H′ · W′, N]`. The weight is `[N][C · k · k]`; there is no residual.
///
/// # Panics
/// Where shapes do not fit, there is a residual, or there are more than 24 fraction bits.
pub fn convolution(pictures: Tensor<4>, window: Window, weight: &Packed, after: After<3>) -> Tensor<3> {
    let After { bias, activation, residual, fraction_bits } = after;
    assert!(residual.is_none(), "a convolution adds no residual");
    check_bits(fraction_bits);
    let options = ConvolutionOptions { n: weight.n(), bits: weight.bits(), window, activation, fraction_bits };
    Tensor::from_dispatch(<Dispatch as KernelOps>::packed_convolution(
        pictures.into_dispatch(),
        weight.primitive(),
        OptionalPrimitive::of(bias),
        options,
    ))
}

/// x ∗ w + bias with a kernel for each channel: `x [B, H · W, C]`, `weight [C, 1, k, k]`, `bias [C]` → `[B, H′ · W′, C]`.
///
/// # Panics
/// Where shapes do not fit.
pub fn depthwise(x: Tensor<3>, weight: Tensor<4>, bias: Tensor<1>, window: Window) -> Tensor<3> {
    let ([_, cells, channels], [count, _, height, width]) = (x.dims(), weight.dims());
    assert!(channels == count && height == window.kernel && width == window.kernel, "{count} kernels of {height} x {width} for {window:?}");
    assert!(cells == window.height * window.width, "{cells} cells for {window:?}");
    let (weight, bias) = (weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as KernelOps>::depthwise(x.into_dispatch(), weight, bias, window))
}

/// MobileNetV2's block (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>): project(depthwise(expand(x))), plus x with a `shortcut`.
/// `x [B, H · W, Cin]` → `[B, H′ · W′, Cout]`; the window is the depthwise convolution's.
///
/// Where all three round to bits after the point, and x has few, too, every device computes the same to the last bit, as long as single precision
/// holds the sums: of the depthwise convolution those of 127 · k² times the greatest of its input, in steps of its bits, and of the others
/// 127 · Σ |w|, with w −127…127, are below 2²⁴; and x and what is narrowed have at most 2¹⁴ steps.
///
/// # Panics
/// Where shapes do not fit, a pointwise weight is not int8, or there are more than 24 fraction bits.
pub fn inverted_residual(
    x: Tensor<3>,
    window: Window,
    expand: Option<Pointwise<'_>>,
    depthwise: Depthwise<'_>,
    project: Pointwise<'_>,
    shortcut: bool,
) -> Tensor<3> {
    let options = ResidualOptions {
        window,
        input: x.dims()[2],
        inner: depthwise.weight.channels,
        output: project.weight.n(),
        expand: expand.as_ref().map_or(Activation::None, |expand| expand.activation),
        depthwise: depthwise.activation,
        project: project.activation,
        shortcut,
        fraction_bits: [expand.as_ref().and_then(|expand| expand.fraction_bits), depthwise.fraction_bits, project.fraction_bits],
    };
    assert!(depthwise.weight.kernel == window.kernel, "{:?} with windows of {} cells", depthwise.weight, window.kernel);
    options.fraction_bits.into_iter().for_each(check_bits);
    let pointwise = |part: Pointwise<'_>| PointwisePrimitive::Some { weight: part.weight.primitive(), bias: part.bias.into_dispatch() };
    Tensor::from_dispatch(<Dispatch as KernelOps>::inverted_residual(
        x.into_dispatch(),
        expand.map_or(PointwisePrimitive::None, pointwise),
        DepthwisePrimitive {
            values: depthwise.weight.values.clone().into_dispatch(),
            scales: depthwise.weight.scales.clone().into_dispatch(),
            bias: depthwise.bias.into_dispatch(),
        },
        pointwise(project),
        options,
    ))
}
