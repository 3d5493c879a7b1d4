//! Rows of activations in the order that tiles read them, quantized where the weights are.
//!
//! A linear layer reads its activations in blocks of R rows, `[blocks][K/4][R][4]` for bytes and `[blocks][K][R]` for floats: what a tile
//! broadcasts next always lies next. On the way there a row may be normalised or gated ([`Prologue`]), which costs no pass of its own.
//!
//! A row that holds infinities or what is no number gets NaN for its scale: its own result is NaN throughout, and no other's.

use crate::isa::Isa;
use crate::math;
use crate::pack::GROUP;
use crate::pool::Pool;
use crate::shared::SharedMut;
use crate::simd::{Kernel, Simd};

/// What happens to a row of activations before it is multiplied.
#[derive(Debug, Clone, Copy)]
pub enum Prologue<'a> {
    /// Nothing.
    None,
    /// Layer normalisation over the row: (x − mean) / √(variance + ε) · weight + bias. Weight and bias are `[K]`.
    LayerNorm {
        /// Gains.
        weight: &'a [f32],
        /// What is added.
        bias: &'a [f32],
        /// What keeps the root from zero.
        epsilon: f32,
    },
    /// x / √(mean of squares + ε) · weight, with weight `[K]` (Zhang and Sennrich, 2019).
    RmsNorm {
        /// Gains.
        weight: &'a [f32],
        /// What keeps the root from zero.
        epsilon: f32,
    },
    /// Rows are `[2 K]`: silu(first half) · second half (Shazeer, 2020).
    SiluMul,
}

impl Prologue<'_> {
    /// Width of the rows that come in, where those that go out have `k`.
    pub fn width(&self, k: usize) -> usize {
        if matches!(self, Self::SiluMul) { 2 * k } else { k }
    }

    fn check(&self, k: usize) {
        match self {
            Self::LayerNorm { weight, bias, .. } => {
                assert!(weight.len() == k && bias.len() == k, "a norm's weight and bias have {k} elements")
            }
            Self::RmsNorm { weight, .. } => assert!(weight.len() == k, "a norm's weight has {k} elements"),
            Self::None | Self::SiluMul => {}
        }
    }
}

/// How M rows are cut into blocks of at most `most`, as even as they come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blocks {
    /// Rows in all.
    pub rows: usize,
    /// Rows of a block; the last may have fewer.
    pub block: usize,
    /// Blocks.
    pub count: usize,
}

impl Blocks {
    /// Cuts.
    pub fn new(rows: usize, most: usize) -> Self {
        let block = rows.div_ceil(rows.div_ceil(most).max(1)).max(1);
        Self { rows, block, count: rows.div_ceil(block) }
    }

    /// Rows of block `i`.
    pub fn len(&self, i: usize) -> usize {
        self.block.min(self.rows - i * self.block)
    }
}

/// What rows are turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bytes with a scale a row, and [`Simd::ACTIVATION_OFFSET`] added.
    Int8,
    /// Bytes with a scale a row and group. `nibbles`: for weights that carry 8 too much, else [`Simd::WEIGHT_OFFSET`].
    Groups {
        /// Weights are int4.
        nibbles: bool,
    },
    /// As they are.
    Float,
}

/// Rows ready for tiles, and the memory for the next ones: kept by a thread from layer to layer.
#[derive(Debug, Default)]
pub struct Rows {
    pub(crate) bytes: Vec<u8>,
    pub(crate) floats: Vec<f32>,
    /// Int8: `[blocks][R]`; groups: `[blocks][K/32][R]`.
    pub(crate) scales: Vec<f32>,
    /// Groups: −offset · sum of the group's bytes, `[blocks][K/32][R]`.
    pub(crate) starts: Vec<i32>,
    pub(crate) blocks: Blocks,
}

fn at_least<T: Copy + Default>(values: &mut Vec<T>, len: usize) {
    if values.len() < len {
        values.resize(len, T::default());
    }
}

impl Rows {
    /// Fills from `x`, `[rows][width]`, with `k` input channels a row after `prologue`.
    ///
    /// # Panics
    /// Where lengths do not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn fill(&mut self, isa: Isa, pool: &Pool, x: &[f32], k: usize, most: usize, prologue: Prologue<'_>, form: Form) {
        let width = prologue.width(k);
        prologue.check(k);
        assert!(k > 0 && x.len().is_multiple_of(width), "{} activations are not rows of {width}", x.len());
        let blocks = Blocks::new(x.len() / width, most);
        self.blocks = blocks;
        let padded_rows = blocks.count * blocks.block;
        match form {
            Form::Int8 => {
                at_least(&mut self.bytes, padded_rows * k.div_ceil(4) * 4);
                at_least(&mut self.scales, padded_rows);
            }
            Form::Groups { .. } => {
                assert!(k.is_multiple_of(GROUP), "{k} input channels are not whole groups");
                at_least(&mut self.bytes, padded_rows * k);
                at_least(&mut self.scales, padded_rows * (k / GROUP));
                at_least(&mut self.starts, padded_rows * (k / GROUP));
            }
            Form::Float => at_least(&mut self.floats, padded_rows * k),
        }
        let job = Fill {
            x,
            k,
            blocks,
            prologue,
            form,
            bytes: SharedMut::new(&mut self.bytes),
            floats: SharedMut::new(&mut self.floats),
            scales: SharedMut::new(&mut self.scales),
            starts: SharedMut::new(&mut self.starts),
        };
        // Too little work is done by one thread sooner than it is shared.
        let tasks = if x.len() < 1 << 14 { 1 } else { (pool.threads() * 2).min(blocks.count) };
        pool.run(tasks, &|task| {
            let (from, to) = (blocks.count * task / tasks, blocks.count * (task + 1) / tasks);
            for block in from..to {
                isa.run(FillBlock { job: &job, block });
            }
        });
    }
}

struct Fill<'a> {
    x: &'a [f32],
    k: usize,
    blocks: Blocks,
    prologue: Prologue<'a>,
    form: Form,
    bytes: SharedMut<u8>,
    floats: SharedMut<f32>,
    scales: SharedMut<f32>,
    starts: SharedMut<i32>,
}

struct FillBlock<'a> {
    job: &'a Fill<'a>,
    block: usize,
}

/// Rows as wide as this are normalised on the stack.
const STACK: usize = 4096;

impl Kernel for FillBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Fill { x, k, blocks, prologue, form, .. } = *self.job;
        let width = prologue.width(k);
        let mut stack = [0.0_f32; STACK];
        let mut heap = Vec::new();
        // One vector more than the row: kernels below read whole vectors.
        let whole = k.next_multiple_of(S::LANES.max(4));
        let row: &mut [f32] = if whole <= STACK {
            &mut stack[..whole]
        } else {
            heap.resize(whole, 0.0);
            &mut heap
        };
        for r in 0..blocks.block {
            if r < blocks.len(self.block) {
                let from = (self.block * blocks.block + r) * width;
                prepare(s, &x[from..from + width], row, k, prologue);
            } else {
                row.fill(0.0);
            }
            row[k..].fill(0.0);
            // SAFETY: `fill` has made room for every block, and each block is one task's alone.
            unsafe {
                match form {
                    Form::Int8 => self.write_int8(s, row, r),
                    Form::Groups { nibbles } => self.write_groups(s, row, r, if nibbles { 8 } else { S::WEIGHT_OFFSET }),
                    Form::Float => self.write_floats(row, r),
                }
            }
        }
    }
}

impl FillBlock<'_> {
    /// # Safety
    /// The block is this task's, `row` is padded with zeros to whole vectors.
    #[inline(always)]
    unsafe fn write_int8<S: Simd>(&self, s: S, row: &[f32], r: usize) {
        let Fill { k, blocks, .. } = *self.job;
        let (quads, block) = (k.div_ceil(4), blocks.block);
        // SAFETY: reads stay within `row`, writes within this block's rows.
        unsafe {
            let (inverse, scale) = scale_of(s, row);
            self.job.scales.write(self.block * block + r, scale);
            let to = self.job.bytes.at(self.block * quads * block * 4 + r * 4);
            write_quads(s, row, 0, quads, inverse, S::ACTIVATION_OFFSET, to, block);
        }
    }

    /// # Safety
    /// As above, with whole groups.
    #[inline(always)]
    unsafe fn write_groups<S: Simd>(&self, s: S, row: &[f32], r: usize, offset: i32) {
        let Fill { k, blocks, .. } = *self.job;
        let (groups, block) = (k / GROUP, blocks.block);
        for group in 0..groups {
            // SAFETY: reads stay within `row`, writes within this block's rows.
            unsafe {
                let part = &row[group * GROUP..][..GROUP];
                let (inverse, scale) = scale_of(s, part);
                let index = (self.block * groups + group) * block + r;
                self.job.scales.write(index, scale);
                let to = self.job.bytes.at((self.block * groups + group) * GROUP * block + r * 4);
                write_quads(s, part, 0, GROUP / 4, inverse, 0, to, block);
                let mut sum = s.splat(0.0);
                let mut i = 0;
                while i < GROUP {
                    sum = s.add(sum, s.to_f(s.to_i(s.mul(s.load(part.as_ptr().add(i)), s.splat(inverse)))));
                    i += S::LANES;
                }
                self.job.starts.write(index, (s.sum(sum) as i32).wrapping_mul(-offset));
            }
        }
    }

    /// # Safety
    /// The block is this task's.
    #[inline(always)]
    unsafe fn write_floats(&self, row: &[f32], r: usize) {
        let Fill { k, blocks, .. } = *self.job;
        for (i, &x) in row[..k].iter().enumerate() {
            // SAFETY: within this block's rows.
            unsafe { self.job.floats.write((self.block * k + i) * blocks.block + r, x) };
        }
    }
}

/// 127 / greatest magnitude and its inverse; NaN for the second where the row is not finite.
///
/// # Safety
/// `row` is whole vectors.
#[inline(always)]
unsafe fn scale_of<S: Simd>(s: S, row: &[f32]) -> (f32, f32) {
    let (mut greatest, mut poison) = (s.splat(0.0), s.splat(0.0));
    let mut i = 0;
    while i < row.len() {
        // SAFETY: whole vectors.
        let x = unsafe { s.load(row.as_ptr().add(i)) };
        greatest = s.max(s.abs(x), greatest);
        poison = s.fma(x, s.splat(0.0), poison);
        i += S::LANES;
    }
    let greatest = s.greatest(greatest);
    // Below this 127 / greatest overflows; such a row counts as zero.
    let inverse = if greatest > 1e-36 { 127.0 / greatest } else { 0.0 };
    let scale = if greatest > 1e-36 { greatest / 127.0 } else { 0.0 };
    (inverse, scale + s.sum(poison))
}

/// Rounds `quads` times four values from `row[from..]` to bytes, every quad `4 · block` bytes after the one before.
///
/// # Safety
/// `row` is whole vectors; there is room at `to`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn write_quads<S: Simd>(s: S, row: &[f32], from: usize, quads: usize, inverse: f32, offset: i32, to: *mut u8, block: usize) {
    let (inverse, offset) = (s.splat(inverse), s.splat_i(offset));
    let mut quad = 0;
    let mut bytes = [0_u8; 64];
    while quad < quads {
        // SAFETY: `row` has whole vectors; quads beyond the last are not written.
        unsafe {
            let x = s.mul(s.load(row.as_ptr().add(from + quad * 4)), inverse);
            s.store_bytes(bytes.as_mut_ptr(), s.add_i(s.to_i(x), offset));
            let mut i = 0;
            while i < S::LANES / 4 && quad + i < quads {
                let word = bytes.as_ptr().add(i * 4).cast::<u32>().read_unaligned();
                to.add((quad + i) * block * 4).cast::<u32>().write_unaligned(word);
                i += 1;
            }
        }
        quad += S::LANES / 4;
    }
}

/// A row after its prologue, in `row[..k]`; what lies beyond is left alone.
#[inline(always)]
pub(crate) fn prepare<S: Simd>(s: S, x: &[f32], row: &mut [f32], k: usize, prologue: Prologue<'_>) {
    match prologue {
        Prologue::None => row[..k].copy_from_slice(x),
        Prologue::LayerNorm { weight, bias, epsilon } => layer_norm_row(s, x, &mut row[..k], weight, bias, epsilon),
        Prologue::RmsNorm { weight, epsilon } => rms_norm_row(s, x, &mut row[..k], weight, epsilon),
        Prologue::SiluMul => silu_mul_row(s, x, &mut row[..k]),
    }
}

#[inline(always)]
fn silu_mul_row<S: Simd>(s: S, x: &[f32], out: &mut [f32]) {
    let k = out.len();
    let (gates, values) = x.split_at(k);
    let whole = k - k % S::LANES;
    let mut i = 0;
    while i < whole {
        // SAFETY: whole vectors within all three.
        unsafe {
            let gate = s.load(gates.as_ptr().add(i));
            s.store(out.as_mut_ptr().add(i), s.mul(math::gate(s, gate, gate), s.load(values.as_ptr().add(i))));
        }
        i += S::LANES;
    }
    for i in whole..k {
        out[i] = gates[i] / (1.0 + (-gates[i]).exp()) * values[i];
    }
}

/// One row of layer normalisation; the variance is taken about the mean, in a second pass.
#[inline(always)]
pub(crate) fn layer_norm_row<S: Simd>(s: S, x: &[f32], out: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let k = x.len();
    let whole = k - k % S::LANES;
    // SAFETY: whole vectors within slices of `k` elements.
    unsafe {
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < whole {
            sum = s.add(sum, s.load(x.as_ptr().add(i)));
            i += S::LANES;
        }
        let mut total = s.sum(sum);
        for &x in &x[whole..] {
            total += x;
        }
        let mean = total / k as f32;
        let mean_lanes = s.splat(mean);
        let mut squares = s.splat(0.0);
        i = 0;
        while i < whole {
            let d = s.sub(s.load(x.as_ptr().add(i)), mean_lanes);
            squares = s.fma(d, d, squares);
            i += S::LANES;
        }
        let mut square = s.sum(squares);
        for &x in &x[whole..] {
            square += (x - mean) * (x - mean);
        }
        let inverse = 1.0 / (square / k as f32 + epsilon).sqrt();
        let inverse_lanes = s.splat(inverse);
        i = 0;
        while i < whole {
            let d = s.mul(s.sub(s.load(x.as_ptr().add(i)), mean_lanes), inverse_lanes);
            s.store(out.as_mut_ptr().add(i), s.fma(d, s.load(weight.as_ptr().add(i)), s.load(bias.as_ptr().add(i))));
            i += S::LANES;
        }
        for i in whole..k {
            out[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
        }
    }
}

/// One row of RMS normalisation.
#[inline(always)]
pub(crate) fn rms_norm_row<S: Simd>(s: S, x: &[f32], out: &mut [f32], weight: &[f32], epsilon: f32) {
    let k = x.len();
    let whole = k - k % S::LANES;
    // SAFETY: whole vectors within slices of `k` elements.
    unsafe {
        let mut squares = s.splat(0.0);
        let mut i = 0;
        while i < whole {
            let x = s.load(x.as_ptr().add(i));
            squares = s.fma(x, x, squares);
            i += S::LANES;
        }
        let mut square = s.sum(squares);
        for &x in &x[whole..] {
            square += x * x;
        }
        let inverse = 1.0 / (square / k as f32 + epsilon).sqrt();
        i = 0;
        while i < whole {
            let x = s.mul(s.load(x.as_ptr().add(i)), s.splat(inverse));
            s.store(out.as_mut_ptr().add(i), s.mul(x, s.load(weight.as_ptr().add(i))));
            i += S::LANES;
        }
        for i in whole..k {
            out[i] = x[i] * inverse * weight[i];
        }
    }
}
