//! y = activation(prologue(x) Wᵀ + b) + residual, the operation that nearly all time is spent in.
//!
//! The weight is walked in strips of a few panels; a strip stays in the nearest cache while all blocks of rows pass over it. A tile
//! is one block of rows times one strip: its accumulators live in registers while it runs down K (`int8`, `groups`, `float`), its
//! result is scaled to floats in a small buffer, and the epilogue, written once, takes it from there.

pub(crate) mod epilogue;
mod float;
mod groups;
pub(crate) mod int8;
pub(crate) mod walk;

pub(crate) use epilogue::Activate;
pub use epilogue::{Activation, Epilogue, check_bits};
pub(crate) use epilogue::{load_some, store_some};

use crate::convolution::Scratch;
use crate::isa::Isa;
use crate::pack::{PackedFloat, PackedGroups, PackedInt8};
use crate::pool::Pool;
use crate::quantize::{Prologue, Rows, Source};

/// Any packed weight.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// A scale an output channel.
    Int8(PackedInt8<'a>),
    /// A scale a group.
    Groups(PackedGroups<'a>),
    /// Floats.
    Float(PackedFloat<'a>),
}

impl Weight<'_> {
    /// Output channels.
    pub fn n(&self) -> usize {
        match self {
            Self::Int8(weight) => weight.n(),
            Self::Groups(weight) => weight.n(),
            Self::Float(weight) => weight.n(),
        }
    }

    /// Input channels.
    pub fn k(&self) -> usize {
        match self {
            Self::Int8(weight) => weight.k(),
            Self::Groups(weight) => weight.k(),
            Self::Float(weight) => weight.k(),
        }
    }
}

/// What computes: an instruction set, threads, and memory kept between calls.
#[derive(Debug)]
pub struct Engine<'a> {
    /// The instruction set.
    pub isa: Isa,
    /// The threads.
    pub pool: &'a Pool,
    /// Rows of activations, made ready.
    pub rows: Rows,
    /// Bands of maps, one a task.
    pub(crate) scratch: Vec<Scratch>,
}

impl<'a> Engine<'a> {
    /// An engine with no memory yet.
    pub fn new(isa: Isa, pool: &'a Pool) -> Self {
        Self { isa, pool, rows: Rows::default(), scratch: Vec::new() }
    }

    /// [`Engine::linear`] into memory of its own.
    pub fn linear_vec(&mut self, x: &[f32], prologue: Prologue<'_>, weight: Weight<'_>, epilogue: Epilogue<'_>) -> Vec<f32> {
        let len = x.len() / prologue.width(weight.k()) * weight.n();
        let mut out = Vec::with_capacity(len);
        // SAFETY: `linear` writes every one of the `len` floats, and reads none.
        unsafe {
            let spare = std::slice::from_raw_parts_mut(out.as_mut_ptr(), len);
            self.linear(x, prologue, weight, epilogue, spare);
            out.set_len(len);
        }
        out
    }

    /// The product of [`Engine::linear`] once more, with the rows of the call before, which must have been with a weight of this kind and
    /// shape: for measuring how fast this CPU multiplies.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn multiply_again(&self, weight: Weight<'_>, out: &mut [f32]) {
        match weight {
            Weight::Int8(weight) => walk::again(self, int8::Int8(weight), out),
            Weight::Groups(weight) => walk::again(self, groups::Groups(weight), out),
            Weight::Float(weight) => walk::again(self, float::Float(weight), out),
        }
    }

    /// Writes activation(prologue(x) Wᵀ + b) + residual to `out`.
    ///
    /// `x` is `[M][K]` (`[M][2 K]` with [`Prologue::SiluMul`]), `out` `[M][N]`, the epilogue's bias `[N]` and residual `[M][N]`.
    ///
    /// # Panics
    /// Where lengths do not fit, or for more than 24 fraction bits.
    pub fn linear(&mut self, x: &[f32], prologue: Prologue<'_>, weight: Weight<'_>, epilogue: Epilogue<'_>, out: &mut [f32]) {
        self.multiply(Source::Rows(x, prologue), weight, epilogue, out);
    }

    /// Writes activation(rows Wᵀ + b) + residual to `out`.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub(crate) fn multiply(&mut self, source: Source<'_>, weight: Weight<'_>, epilogue: Epilogue<'_>, out: &mut [f32]) {
        match weight {
            Weight::Int8(weight) => walk::run(self, source, epilogue, int8::Int8(weight), out),
            Weight::Groups(weight) => walk::run(self, source, epilogue, groups::Groups(weight), out),
            Weight::Float(weight) => walk::run(self, source, epilogue, float::Float(weight), out),
        }
    }
}
