//! The operations models need, as an extension of burn's backends.
//!
//! Every method has a body in burn's primitives, `oracle`, that computes on every backend and says what is right. On the CPU
//! it is replaced by the kernels of `ocelli-kernels`.

use burn::backend::{Backend, ExtensionType, Flex, backend_extension, tensor::FloatTensor, tensor::IntTensor};
use ocelli_kernels::Activation;
use ocelli_kernels::pack::GroupBits;

use crate::packed::WeightPrimitive;
use crate::{flex, oracle};

/// What happens to activations before a product, with its tensors.
#[derive(ExtensionType)]
pub enum ProloguePrimitive<B: Backend> {
    /// Nothing.
    None,
    /// Layer normalisation over the last axis.
    LayerNorm {
        /// `[K]`
        weight: FloatTensor<B>,
        /// `[K]`
        bias: FloatTensor<B>,
    },
    /// Division by the root of the mean of squares.
    RmsNorm {
        /// `[K]`
        weight: FloatTensor<B>,
    },
    /// silu(first half) · second half of the last axis.
    SiluMul,
}

/// A tensor that may be missing.
#[derive(ExtensionType)]
pub enum OptionalPrimitive<B: Backend> {
    /// Missing.
    None,
    /// There.
    Some(FloatTensor<B>),
}

impl<B: Backend> OptionalPrimitive<B> {
    /// The tensor.
    pub fn get(self) -> Option<FloatTensor<B>> {
        match self {
            Self::None => None,
            Self::Some(tensor) => Some(tensor),
        }
    }
}

impl OptionalPrimitive<burn::backend::Dispatch> {
    pub(crate) fn of<const D: usize>(tensor: Option<burn::tensor::Tensor<D>>) -> Self {
        tensor.map_or(Self::None, |tensor| Self::Some(tensor.into_dispatch()))
    }
}

/// Everything about a linear layer that is no tensor.
#[derive(Debug, Clone, Copy)]
pub struct LinearOptions {
    /// Output channels.
    pub n: usize,
    /// Input channels.
    pub k: usize,
    /// Of a weight in groups.
    pub bits: GroupBits,
    /// Of the prologue's norm.
    pub epsilon: f32,
    /// After the bias.
    pub activation: Activation,
    /// Bits after the point that product and bias are rounded to, each by itself.
    pub fraction_bits: Option<u8>,
}

/// Everything about attention that is no tensor.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOptions {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, of which `heads` is a multiple (grouped-query attention, Ainslie et al. 2023).
    pub kv_heads: usize,
    /// What inner products are multiplied with.
    pub scale: f32,
    /// Query i of Tq sees keys up to Tk − Tq + i.
    pub causal: bool,
    /// Products of half the precision where the CPU has them (bf16: a relative error of 2⁻⁸ a factor), as beside weights of integers.
    pub fast: bool,
}

/// Everything about attention over a cache that is no tensor.
#[derive(Debug, Clone, Copy)]
pub struct CachedOptions {
    /// As of attention; causal.
    pub attention: AttentionOptions,
    /// Tokens that the cache holds already.
    pub first: usize,
    /// Pairs of a head are neighbours, as in GPT-J; else its halves are, as in Llama.
    pub interleaved: bool,
}

/// How rows change places.
#[derive(Debug, Clone)]
pub struct ReorderOptions {
    /// Where each row comes from.
    pub rows: Vec<usize>,
    /// Tokens of a row that count.
    pub used: usize,
}

/// The square windows of a convolution, padded as TensorFlow's `SAME` does or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Side of a window.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Whether there are ⌈size / stride⌉ windows each way; the greater half of an odd padding is below and to the right.
    pub same: bool,
}

impl Window {
    /// Zeros before and after a side of `size`.
    pub fn padding(&self, size: usize) -> (usize, usize) {
        if !self.same {
            return (0, 0);
        }
        let all = ((size.div_ceil(self.stride).max(1) - 1) * self.stride + self.kernel).saturating_sub(size);
        (all / 2, all - all / 2)
    }

    /// Windows along a side of `size`.
    pub(crate) fn count(&self, size: usize) -> usize {
        let (before, after) = self.padding(size);
        (size + before + after - self.kernel) / self.stride + 1
    }

    /// Windows in all.
    pub(crate) fn cells(&self) -> usize {
        self.count(self.height) * self.count(self.width)
    }
}

/// Everything about a convolution that is no tensor.
#[derive(Debug, Clone, Copy)]
pub struct ConvolutionOptions {
    /// Output channels.
    pub n: usize,
    /// Of a weight in groups.
    pub bits: GroupBits,
    /// Its windows.
    pub window: Window,
    /// After the bias.
    pub activation: Activation,
    /// As a linear layer's.
    pub fraction_bits: Option<u8>,
}

/// A pointwise convolution that may be missing.
#[derive(ExtensionType)]
pub enum PointwisePrimitive<B: Backend> {
    /// Missing.
    None,
    /// There.
    Some {
        /// `[N][K]`
        #[extension_type]
        weight: WeightPrimitive<B>,
        /// `[N]`
        bias: FloatTensor<B>,
    },
}

/// A depthwise convolution.
#[derive(ExtensionType)]
pub struct DepthwisePrimitive<B: Backend> {
    /// `[k · k][C]`
    pub values: IntTensor<B>,
    /// `[C]`, padded.
    pub scales: FloatTensor<B>,
    /// `[C]`
    pub bias: FloatTensor<B>,
}

/// Everything about an inverted residual block that is no tensor.
#[derive(Debug, Clone, Copy)]
pub struct ResidualOptions {
    /// Of the depthwise convolution.
    pub window: Window,
    /// Channels that come in.
    pub input: usize,
    /// Channels inside.
    pub inner: usize,
    /// Channels that go out.
    pub output: usize,
    /// After the first pointwise convolution.
    pub expand: Activation,
    /// After the depthwise convolution.
    pub depthwise: Activation,
    /// After the second pointwise convolution.
    pub project: Activation,
    /// Whether the input is added.
    pub shortcut: bool,
    /// As a linear layer's, of the three convolutions.
    pub fraction_bits: [Option<u8>; 3],
}

/// Operations that are more than one of burn's.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Cube: cfg(feature = "wgpu"))]
pub trait KernelOps: Backend {
    /// activation(prologue(x) Wᵀ + bias) + residual over the last axis.
    fn packed_linear(
        x: FloatTensor<Self>,
        #[extension_type] prologue: ProloguePrimitive<Self>,
        #[extension_type] weight: WeightPrimitive<Self>,
        #[extension_type] bias: OptionalPrimitive<Self>,
        #[extension_type] residual: OptionalPrimitive<Self>,
        options: LinearOptions,
    ) -> FloatTensor<Self> {
        oracle::packed_linear::<Self>(x, prologue, weight, bias.get(), residual.get(), options)
    }

    /// softmax(scale · q kᵀ + mask) v for every head.
    ///
    /// `q [B, Tq, H D]`, `k` and `v [B, Tk, G D]`, `mask [B, Tk]` is added to every query's scores.
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] mask: OptionalPrimitive<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        oracle::fused_attention::<Self>(q, k, v, mask.get(), options)
    }

    /// activation(pictures ∗ w + bias): `pictures [B, C, H, W]` → `[B, H′ · W′, N]`.
    fn packed_convolution(
        pictures: FloatTensor<Self>,
        #[extension_type] weight: WeightPrimitive<Self>,
        #[extension_type] bias: OptionalPrimitive<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        oracle::packed_convolution::<Self>(pictures, weight, bias.get(), options)
    }

    /// project(depthwise(expand(x))), plus x with a shortcut: `x [B, H · W, Cin]` → `[B, H′ · W′, Cout]`.
    fn inverted_residual(
        x: FloatTensor<Self>,
        #[extension_type] expand: PointwisePrimitive<Self>,
        #[extension_type] depthwise: DepthwisePrimitive<Self>,
        #[extension_type] project: PointwisePrimitive<Self>,
        options: ResidualOptions,
    ) -> FloatTensor<Self> {
        oracle::inverted_residual::<Self>(x, expand, depthwise, project, options)
    }

    /// x ∗ w + bias with a kernel for each channel: `x [B, H · W, C]`, `weight [C, 1, k, k]`, `bias [C]` → `[B, H′ · W′, C]`.
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        oracle::depthwise::<Self>(x, weight, bias, window)
    }

    /// Queries and keys turned by their positions' angles, keys and values put into the cache, and attention over what it holds then.
    ///
    /// `qkv [B, T, (H + 2 G) D]`, caches `[B, context, G D]`, `cos` and `sin [T, D / 2]` or neither → the joined heads `[B, T, H D]` and the
    /// caches.
    fn cached_attention(
        qkv: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] cos: OptionalPrimitive<Self>,
        #[extension_type] sin: OptionalPrimitive<Self>,
        options: CachedOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        oracle::cached_attention::<Self>(qkv, [k, v], [cos.get(), sin.get()], options)
    }

    /// Row i of `x [R, T, D]` becomes what row `rows[i]` was; only the first `used` tokens count.
    fn reorder_rows(x: FloatTensor<Self>, options: ReorderOptions) -> FloatTensor<Self> {
        oracle::reorder_rows::<Self>(x, &options)
    }

    /// Rows of a packed table: `ids [I]` → `[I, K]`.
    fn packed_embedding(ids: IntTensor<Self>, #[extension_type] table: WeightPrimitive<Self>, options: LinearOptions) -> FloatTensor<Self> {
        oracle::packed_embedding::<Self>(ids, table, options)
    }
}

impl KernelOps for Flex {
    fn packed_linear(
        x: FloatTensor<Self>,
        prologue: ProloguePrimitive<Self>,
        weight: WeightPrimitive<Self>,
        bias: OptionalPrimitive<Self>,
        residual: OptionalPrimitive<Self>,
        options: LinearOptions,
    ) -> FloatTensor<Self> {
        flex::packed_linear(x, prologue, weight, bias.get(), residual.get(), options)
    }

    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: OptionalPrimitive<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        flex::fused_attention(q, k, v, mask.get(), options)
    }

    fn packed_convolution(
        pictures: FloatTensor<Self>,
        weight: WeightPrimitive<Self>,
        bias: OptionalPrimitive<Self>,
        options: ConvolutionOptions,
    ) -> FloatTensor<Self> {
        flex::packed_convolution(pictures, weight, bias.get(), options)
    }

    fn inverted_residual(
        x: FloatTensor<Self>,
        expand: PointwisePrimitive<Self>,
        depthwise: DepthwisePrimitive<Self>,
        project: PointwisePrimitive<Self>,
        options: ResidualOptions,
    ) -> FloatTensor<Self> {
        flex::inverted_residual(x, expand, depthwise, project, options)
    }

    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        flex::depthwise(x, weight, bias, window)
    }

    fn cached_attention(
        qkv: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        cos: OptionalPrimitive<Self>,
        sin: OptionalPrimitive<Self>,
        options: CachedOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        flex::cached_attention(qkv, [k, v], [cos.get(), sin.get()], options)
    }

    fn reorder_rows(x: FloatTensor<Self>, options: ReorderOptions) -> FloatTensor<Self> {
        flex::reorder_rows(x, &options)
    }

    fn packed_embedding(ids: IntTensor<Self>, table: WeightPrimitive<Self>, options: LinearOptions) -> FloatTensor<Self> {
        flex::packed_embedding(ids, table, options)
    }
}

#[cfg(feature = "ndarray")]
#[allow(deprecated, reason = "an oracle for tests, deprecated upstream in favour of flex")]
impl KernelOps for burn::backend::NdArray {}

/// Every runtime of cubecl is this one backend; burn's feature `wgpu` is the only one that is built.
#[cfg(feature = "wgpu")]
impl KernelOps for burn::backend::Cube {}
