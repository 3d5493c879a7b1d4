//! What happens to a tile's result on its way to memory.

use crate::math;
use crate::simd::{Kernel, Simd};

/// A function of one variable after a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// x
    #[default]
    None,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x · Φ(x) (Hendrycks and Gimpel, 2016)
    Gelu,
    /// x · σ(1.702 x), as OpenAI's CLIP has it.
    QuickGelu,
    /// GELU's approximation with tanh, as SigLIP has it.
    GeluTanh,
    /// x · σ(x)
    Silu,
}

impl Activation {
    /// Every one.
    pub const ALL: [Self; 7] = [Self::None, Self::Relu, Self::Relu6, Self::Gelu, Self::QuickGelu, Self::GeluTanh, Self::Silu];

    /// The range that it clamps to, where that is all it does.
    #[inline(always)]
    pub(crate) fn range(self) -> Option<(f32, f32)> {
        match self {
            Self::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Self::Relu => Some((0.0, f32::INFINITY)),
            Self::Relu6 => Some((0.0, 6.0)),
            Self::Gelu | Self::QuickGelu | Self::GeluTanh | Self::Silu => None,
        }
    }
}

/// What a linear layer's result goes through: activation(y + bias) + residual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[N]`
    pub bias: Option<&'a [f32]>,
    /// Of the sum.
    pub activation: Activation,
    /// `[M][N]`, added last.
    pub residual: Option<&'a [f32]>,
    /// Bits after the point, at most 24: y and the bias are rounded to them, each by itself, ties to even.
    ///
    /// What is added then has no error, whether additions are fused with multiplications or not: a network whose layers all round so, and
    /// whose sums single precision holds, computes the very same on every machine.
    pub fraction_bits: Option<u8>,
}

/// Rounding to bits after the point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed<S: Simd> {
    ones: S::F,
    step: S::F,
}

impl<S: Simd> Fixed<S> {
    #[inline(always)]
    pub(crate) fn new(s: S, bits: Option<u8>) -> Option<Self> {
        let bits = u32::from(bits?);
        // 2 to the power of bits and of −bits.
        let (ones, step) = (f32::from_bits((127 + bits) << 23), f32::from_bits((127 - bits) << 23));
        Some(Self { ones: s.splat(ones), step: s.splat(step) })
    }

    /// y as a count of steps, of which the least bit is one.
    #[inline(always)]
    pub(crate) fn in_steps(&self, s: S, y: S::F) -> S::F {
        s.mul(y, self.ones)
    }

    /// y rounded.
    #[inline(always)]
    pub(crate) fn round(&self, s: S, y: S::F) -> S::F {
        s.mul(s.round(self.in_steps(s, y)), self.step)
    }

    /// A count of steps rounded to whole ones, plus what is rounded.
    #[inline(always)]
    pub(crate) fn round_add(&self, s: S, steps: S::F, addend: S::F) -> S::F {
        s.fma(s.round(steps), self.step, addend)
    }
}

/// y + bias, both rounded where there is `fixed`; then the bias is already.
#[inline(always)]
pub(crate) fn add_bias<S: Simd>(s: S, fixed: Option<Fixed<S>>, y: S::F, bias: S::F) -> S::F {
    match fixed {
        Some(fixed) => fixed.round_add(s, fixed.in_steps(s, y), bias),
        None => s.add(y, bias),
    }
}

impl Epilogue<'_> {
    pub(crate) fn check(&self, m: usize, n: usize) {
        check_bits(self.fraction_bits);
        if let Some(bias) = self.bias {
            assert!(bias.len() == n, "a bias of {} for {n} output channels", bias.len());
        }
        if let Some(residual) = self.residual {
            assert!(residual.len() == m * n, "a residual of {} for {m} x {n} results", residual.len());
        }
    }
}

/// Says where [`Epilogue::fraction_bits`] and its like are more than single precision has.
///
/// # Panics
/// For more than 24.
pub fn check_bits(fraction_bits: Option<u8>) {
    if let Some(bits) = fraction_bits {
        assert!(bits <= 24, "{bits} bits after the point, where single precision has 24 in all");
    }
}

/// The part of the result that a tile is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// First row.
    pub row: usize,
    /// Rows.
    pub rows: usize,
    /// First column.
    pub column: usize,
    /// Columns.
    pub columns: usize,
    /// Columns of the whole result.
    pub n: usize,
}

/// Takes a tile through an epilogue whose activation clamps, from registers to memory.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
pub(crate) unsafe fn write_clamped<S: Simd, const R: usize, const V: usize>(
    s: S,
    tile: [[S::F; V]; R],
    range: (f32, f32),
    part: Part,
    epilogue: &Epilogue<'_>,
    out: *mut f32,
) {
    let Part { row, rows, column, columns, n } = part;
    let fixed = Fixed::new(s, epilogue.fraction_bits);
    let (low, high) = (s.splat(range.0), s.splat(range.1));
    // SAFETY: every offset is within the part.
    unsafe {
        let mut v = 0;
        while v < V {
            let at = v * S::LANES;
            if at >= columns {
                return;
            }
            let width = (columns - at).min(S::LANES);
            let mut bias = s.splat(0.0);
            if let Some(b) = epilogue.bias {
                bias = load_some(s, b.as_ptr().add(column + at), width);
            }
            if let Some(fixed) = fixed {
                bias = fixed.round(s, bias);
            }
            let mut r = 0;
            while r < R {
                if r < rows {
                    let index = (row + r) * n + column + at;
                    let mut y = s.min(high, s.max(low, add_bias(s, fixed, tile[r][v], bias)));
                    if let Some(residual) = epilogue.residual {
                        y = s.add(y, load_some(s, residual.as_ptr().add(index), width));
                    }
                    store_some(s, out.add(index), y, width);
                }
                r += 1;
            }
            v += 1;
        }
    }
}

/// Takes a tile, `[rows][stride]`, through the epilogue to `out`, the start of the whole result.
///
/// # Safety
/// The part lies within the result and the epilogue's slices, and is this task's alone; the tile has whole vectors.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd>(s: S, tile: *const f32, stride: usize, part: Part, epilogue: &Epilogue<'_>, out: *mut f32) {
    s.call(Finish { tile, stride, part, epilogue, out });
}

struct Finish<'a> {
    tile: *const f32,
    stride: usize,
    part: Part,
    epilogue: &'a Epilogue<'a>,
    out: *mut f32,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tile, stride, part, epilogue, out } = self;
        // One branch a tile, not one a vector.
        // SAFETY: `finish`'s caller's.
        unsafe {
            match epilogue.activation {
                Activation::None => write::<S, 0>(s, tile, stride, part, epilogue, out),
                Activation::Relu => write::<S, 1>(s, tile, stride, part, epilogue, out),
                Activation::Relu6 => write::<S, 2>(s, tile, stride, part, epilogue, out),
                Activation::Gelu => write::<S, 3>(s, tile, stride, part, epilogue, out),
                Activation::QuickGelu => write::<S, 4>(s, tile, stride, part, epilogue, out),
                Activation::GeluTanh => write::<S, 5>(s, tile, stride, part, epilogue, out),
                Activation::Silu => write::<S, 6>(s, tile, stride, part, epilogue, out),
            }
        }
    }
}

#[inline(always)]
fn activate<S: Simd, const A: u8>(s: S, x: S::F) -> S::F {
    match A {
        0 => x,
        1 => s.max(s.splat(0.0), x),
        2 => s.min(s.splat(6.0), s.max(s.splat(0.0), x)),
        3 => math::gelu(s, x),
        4 => math::gate(s, x, s.mul(x, s.splat(1.702))),
        5 => math::gelu_tanh(s, x),
        _ => math::gate(s, x, x),
    }
}

/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn write<S: Simd, const A: u8>(s: S, tile: *const f32, stride: usize, part: Part, epilogue: &Epilogue<'_>, out: *mut f32) {
    let Part { row, rows, column, columns, n } = part;
    let fixed = Fixed::new(s, epilogue.fraction_bits);
    // SAFETY: every offset is within the part, or within one of the small buffers.
    unsafe {
        let mut v = 0;
        while v < columns {
            let width = (columns - v).min(S::LANES);
            let mut bias = s.splat(0.0);
            if let Some(b) = epilogue.bias {
                bias = load_some(s, b.as_ptr().add(column + v), width);
            }
            if let Some(fixed) = fixed {
                bias = fixed.round(s, bias);
            }
            let mut r = 0;
            while r < rows {
                let at = (row + r) * n + column + v;
                let mut y = activate::<S, A>(s, add_bias(s, fixed, s.load(tile.add(r * stride + v)), bias));
                if let Some(residual) = epilogue.residual {
                    y = s.add(y, load_some(s, residual.as_ptr().add(at), width));
                }
                store_some(s, out.add(at), y, width);
                r += 1;
            }
            v += S::LANES;
        }
    }
}

/// # Safety
/// `width` floats must be readable.
#[inline(always)]
pub(crate) unsafe fn load_some<S: Simd>(s: S, p: *const f32, width: usize) -> S::F {
    // SAFETY: the caller's.
    unsafe { if width == S::LANES { s.load(p) } else { s.load_part(p, width) } }
}

/// # Safety
/// `width` floats must be writable.
#[inline(always)]
pub(crate) unsafe fn store_some<S: Simd>(s: S, p: *mut f32, y: S::F, width: usize) {
    // SAFETY: the caller's.
    unsafe { if width == S::LANES { s.store(p, y) } else { s.store_part(p, y, width) } }
}

/// Takes whole vectors through an activation, in place.
pub(crate) struct Activate<'a> {
    /// Whole panels.
    pub values: &'a mut [f32],
    pub activation: Activation,
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for values in self.values.chunks_exact_mut(S::LANES) {
            // SAFETY: a whole vector.
            unsafe {
                let x = s.load(values.as_ptr());
                let y = match self.activation {
                    Activation::None => activate::<S, 0>(s, x),
                    Activation::Relu => activate::<S, 1>(s, x),
                    Activation::Relu6 => activate::<S, 2>(s, x),
                    Activation::Gelu => activate::<S, 3>(s, x),
                    Activation::QuickGelu => activate::<S, 4>(s, x),
                    Activation::GeluTanh => activate::<S, 5>(s, x),
                    Activation::Silu => activate::<S, 6>(s, x),
                };
                s.store(values.as_mut_ptr(), y);
            }
        }
    }
}
