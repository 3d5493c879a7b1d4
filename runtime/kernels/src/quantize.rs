//! Rows of activations in the order that tiles read them, quantized where the weights are.
//!
//! A linear layer reads its activations in blocks of R rows, `[blocks][K/4][R][4]` for bytes and `[blocks][K][R]` for floats: what a tile
//! broadcasts next always lies next. On the way there a row may be normalised or gated ([`Prologue`]), which costs no pass of its own.
//!
//! A row that holds infinities or what is no number gets NaN for its scale: its own result is NaN throughout, and no other's.

use std::mem::MaybeUninit;

use crate::convolution::Windows;
use crate::isa::Isa;
use crate::math;
use crate::norm::{layer_norm_row, rms_norm_row};
use crate::pack::GROUP;
use crate::pool::Pool;
use crate::shared::SharedMut;
use crate::simd::{Kernel, PANEL, Simd};

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

    /// Cuts for tiles of at most `most` rows: what the last block lacks is computed, too, so blocks a little smaller may be quicker.
    pub fn tiles(rows: usize, most: usize) -> Self {
        // A block costs what its rows cost and about a quarter of a row.
        let cost = |blocks: &Self| blocks.count * (4 * blocks.block + 1);
        let most = most.max(1);
        (most / 2 + 1..=most).rev().map(|most| Self::new(rows, most)).min_by_key(cost).unwrap_or(Self::new(rows, most))
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
    /// Int8, where [`Simd::SIGNS_APART`]: `[blocks][K/4][R][8]`.
    pub(crate) apart: Vec<u8>,
    pub(crate) floats: Vec<f32>,
    /// Int8: `[blocks][R]`; groups: `[blocks][K/32][R]`.
    pub(crate) scales: Vec<f32>,
    /// Groups: −offset · sum of the group's bytes, `[blocks][K/32][R]`. Int8, where signs are apart: what products leave out, `[blocks][R]`.
    pub(crate) starts: Vec<i32>,
    pub(crate) blocks: Blocks,
}

fn at_least<T: Copy + Default>(values: &mut Vec<T>, len: usize) {
    if values.len() < len {
        values.resize(len, T::default());
    }
}

/// Where rows come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// `[rows][width]`, each after its prologue.
    Rows(&'a [f32], Prologue<'a>),
    /// A picture's windows, `rows` of them from `first` on.
    Windows { windows: Windows<'a>, first: usize, rows: usize },
}

impl Source<'_> {
    /// Rows of `k` input channels.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub(crate) fn rows(&self, k: usize) -> usize {
        match *self {
            Self::Rows(x, prologue) => {
                let width = prologue.width(k);
                prologue.check(k);
                assert!(k > 0 && x.len().is_multiple_of(width), "{} activations are not rows of {width}", x.len());
                x.len() / width
            }
            Self::Windows { windows, rows, .. } => {
                assert!(windows.width() == k, "windows of {} values for {k} input channels", windows.width());
                rows
            }
        }
    }

    /// `rows` of the rows, from `first` on.
    pub(crate) fn part(&self, k: usize, first: usize, rows: usize) -> Self {
        match *self {
            Self::Rows(x, prologue) => {
                let width = prologue.width(k);
                Self::Rows(&x[first * width..(first + rows) * width], prologue)
            }
            Self::Windows { windows, first: before, .. } => Self::Windows { windows, first: before + first, rows },
        }
    }
}

impl Rows {
    /// Fills from `x`, `[rows][width]`, with `k` input channels a row after `prologue`.
    ///
    /// # Panics
    /// Where lengths do not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn fill(&mut self, isa: Isa, pool: &Pool, x: &[f32], k: usize, most: usize, prologue: Prologue<'_>, form: Form) {
        self.fill_from(isa, pool, Source::Rows(x, prologue), k, most, form);
    }

    /// Fills from anywhere.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub(crate) fn fill_from(&mut self, isa: Isa, pool: &Pool, source: Source<'_>, k: usize, most: usize, form: Form) {
        let rows = source.rows(k);
        let blocks = Blocks::tiles(rows, most);
        self.blocks = blocks;
        let padded_rows = blocks.count * blocks.block;
        match form {
            Form::Int8 => {
                at_least(&mut self.bytes, padded_rows * k.div_ceil(4) * 4);
                at_least(&mut self.scales, padded_rows);
                if isa.run(SignsApart) {
                    at_least(&mut self.apart, padded_rows * k.div_ceil(4) * 8);
                    at_least(&mut self.starts, padded_rows);
                }
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
            source,
            k,
            blocks,
            form,
            bytes: SharedMut::new(&mut self.bytes),
            apart: SharedMut::new(&mut self.apart),
            floats: SharedMut::new(&mut self.floats),
            scales: SharedMut::new(&mut self.scales),
            starts: SharedMut::new(&mut self.starts),
        };
        // Too little work is done by one thread sooner than it is shared.
        let tasks = if rows * k < 1 << 14 { 1 } else { (pool.threads() * 2).min(blocks.count) };
        pool.run(tasks, &|task| {
            let (from, to) = (blocks.count * task / tasks, blocks.count * (task + 1) / tasks);
            isa.run(FillBlocks { job: &job, from, to });
        });
    }
}

struct Fill<'a> {
    source: Source<'a>,
    k: usize,
    blocks: Blocks,
    form: Form,
    bytes: SharedMut<u8>,
    apart: SharedMut<u8>,
    floats: SharedMut<f32>,
    scales: SharedMut<f32>,
    starts: SharedMut<i32>,
}

struct FillBlocks<'a> {
    job: &'a Fill<'a>,
    from: usize,
    to: usize,
}

/// Floats of the rows that are made ready on the stack.
const STACK: usize = 16_384;

impl Kernel for FillBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Fill { source, k, blocks, form, .. } = *self.job;
        let mut stack = [const { MaybeUninit::<f32>::uninit() }; STACK];
        let mut heap = Vec::new();
        // Whole panels and one more: kernels below read whole vectors, and windows are gathered in whole vectors.
        let whole = k.next_multiple_of(PANEL) + PANEL;
        let together = if form == Form::Int8 { 4 } else { 1 };
        let ready: *mut f32 = if together * whole <= STACK {
            stack.as_mut_ptr().cast()
        } else {
            heap.resize(together * whole, 0.0_f32);
            heap.as_mut_ptr()
        };
        let mut block = self.from;
        while block < self.to {
            let (first, rows) = (block * blocks.block, blocks.len(block));
            // SAFETY: `fill_from` has made room for every block, and each block is one task's alone. Every row that is read was
            // written before.
            unsafe {
                if let (Form::Int8, Source::Rows(x, Prologue::None)) = (form, source) {
                    let (bytes, scales) = self.job.int8_block(block);
                    let from = Strided { base: x.as_ptr().add(first * k), row: k, panel: PANEL };
                    quantize_rows(s, from, k, rows, blocks.block, bytes, scales);
                } else {
                    // Rows beyond the last repeat it: their results are not used.
                    let mut r = blocks.block.next_multiple_of(together);
                    // Last first: see `quantize_group`.
                    while r > 0 {
                        r -= together;
                        let mut i = 0;
                        while i < together {
                            let row = std::slice::from_raw_parts_mut(ready.add(i * whole), whole);
                            let index = first + (r + i).min(rows - 1);
                            match source {
                                Source::Rows(x, prologue) => {
                                    let width = prologue.width(k);
                                    prepare(s, &x[index * width..][..width], row, k, prologue);
                                }
                                Source::Windows { windows, first, .. } => windows.gather(s, first + index, row.as_mut_ptr()),
                            }
                            row[k..].fill(0.0);
                            i += 1;
                        }
                        let row = std::slice::from_raw_parts(ready, whole);
                        match form {
                            Form::Int8 => {
                                let (bytes, scales) = self.job.int8_block(block);
                                let from = Strided { base: ready, row: whole, panel: PANEL };
                                quantize_group(s, from, k, together, r, blocks.block, bytes, scales);
                            }
                            Form::Groups { nibbles } => self.job.write_groups(s, row, block, r, if nibbles { 8 } else { S::WEIGHT_OFFSET }),
                            Form::Float => self.job.write_floats(row, block, r),
                        }
                    }
                }
            }
            if S::SIGNS_APART && form == Form::Int8 {
                let fours = k.div_ceil(4) * blocks.block;
                // SAFETY: `fill_from` has made room; the block is this task's, and its bytes are written.
                unsafe {
                    let (apart, starts) = (self.job.apart.at(block * fours * 8), self.job.starts.at(block * blocks.block));
                    signs_apart(s, self.job.int8_block(block).0, fours, blocks.block, apart, starts);
                }
            }
            block += 1;
        }
    }
}

/// Whether an instruction set reads activations with their signs apart.
struct SignsApart;

impl Kernel for SignsApart {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> bool {
        S::SIGNS_APART
    }
}

/// [`Simd::signs_apart`] for a block of `fours` fours of `rows` rows in turn, and what products leave out of each row. That is something in
/// every row with a negative byte: where it is nothing in all rows, nothing else is written, as products read the bytes themselves then.
///
/// # Safety
/// The block's bytes exist, and room for what is written, which is this task's.
#[inline(always)]
unsafe fn signs_apart<S: Simd>(s: S, bytes: *const u8, fours: usize, rows: usize, apart: *mut u8, starts: *mut i32) {
    // The least number that eight and `rows` divide: so many fours after an eight there is one of the same rows.
    let stride = (8 * rows) >> (rows | 8).trailing_zeros();
    // SAFETY: the caller's; what is left after the last whole eight goes through buffers.
    unsafe {
        std::slice::from_raw_parts_mut(starts, rows).fill(0);
        let either = std::slice::from_raw_parts(bytes, fours * 4).iter().fold(0, |either, byte| either | byte);
        if either & 0x80 == 0 {
            return;
        }
        let eights = fours / 8;
        let mut first = 0;
        while first < stride / 8 && first < eights {
            let count = (eights - first).div_ceil(stride / 8);
            add_sums(starts, rows, first * 8, s.signs_apart(bytes.add(first * 32), apart.add(first * 64), stride, count));
            first += 1;
        }
        let (whole, rest) = (eights * 8, fours % 8);
        if rest > 0 {
            let (mut from, mut to) = ([0; 32], [0; 64]);
            std::ptr::copy_nonoverlapping(bytes.add(whole * 4), from.as_mut_ptr(), rest * 4);
            add_sums(starts, rows, whole, s.signs_apart(from.as_ptr(), to.as_mut_ptr(), 8, 1));
            std::ptr::copy_nonoverlapping(to.as_ptr(), apart.add(whole * 8), rest * 8);
        }
    }
}

/// Adds the sums of eight fours, of which the first is the block's four `first`, to those of their rows.
///
/// # Safety
/// There are `rows` starts.
#[inline(always)]
unsafe fn add_sums(starts: *mut i32, rows: usize, first: usize, sums: [i32; 8]) {
    let mut lane = 0;
    while lane < 8 {
        // SAFETY: the caller's.
        unsafe { *starts.add((first + lane) % rows) += sums[lane] };
        lane += 1;
    }
}

/// Rows of floats somewhere in memory: panel `p` of row `r` begins `r · row + p · panel` floats after the base.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided {
    pub base: *const f32,
    pub row: usize,
    pub panel: usize,
}

impl Strided {
    /// Where input channel `i` of row `r` lies, for the first channel of a vector.
    ///
    /// # Safety
    /// It exists.
    #[inline(always)]
    unsafe fn at(&self, r: usize, i: usize) -> *const f32 {
        // SAFETY: the caller's.
        unsafe { self.base.add(r * self.row + i / PANEL * self.panel + i % PANEL) }
    }
}

impl Rows {
    /// Quantizes rows of `k` channels to bytes, on this thread.
    ///
    /// # Safety
    /// The rows of all blocks exist.
    #[inline(always)]
    pub(crate) unsafe fn quantize<S: Simd>(&mut self, s: S, k: usize, blocks: Blocks, from: Strided) {
        let bytes = k.div_ceil(4) * 4 * blocks.block;
        at_least(&mut self.bytes, blocks.count * bytes);
        at_least(&mut self.scales, blocks.count * blocks.block);
        if S::SIGNS_APART {
            at_least(&mut self.apart, 2 * blocks.count * bytes);
            at_least(&mut self.starts, blocks.count * blocks.block);
        }
        self.blocks = blocks;
        s.call(QuantizeRows { rows: self, k, from });
    }
}

struct QuantizeRows<'a> {
    rows: &'a mut Rows,
    k: usize,
    from: Strided,
}

impl Kernel for QuantizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, k, from } = self;
        let blocks = rows.blocks;
        let bytes = k.div_ceil(4) * 4 * blocks.block;
        let mut block = 0;
        while block < blocks.count {
            // SAFETY: `quantize`'s caller's, which has made room.
            unsafe {
                let part = Strided { base: from.base.add(block * blocks.block * from.row), ..from };
                let to = (rows.bytes.as_mut_ptr().add(block * bytes), rows.scales.as_mut_ptr().add(block * blocks.block));
                quantize_rows(s, part, k, blocks.len(block), blocks.block, to.0, to.1);
                if S::SIGNS_APART {
                    let apart = (rows.apart.as_mut_ptr().add(2 * block * bytes), rows.starts.as_mut_ptr().add(block * blocks.block));
                    signs_apart(s, to.0, bytes / 4, blocks.block, apart.0, apart.1);
                }
            }
            block += 1;
        }
    }
}

/// Quantizes `rows` rows of `k` channels to a block of `block` rows; those beyond the last repeat it.
///
/// # Safety
/// The rows exist, and the block's bytes and scales, which are this task's.
#[inline(always)]
pub(crate) unsafe fn quantize_rows<S: Simd>(s: S, from: Strided, k: usize, rows: usize, block: usize, bytes: *mut u8, scales: *mut f32) {
    let mut r = block.next_multiple_of(4);
    while r > 0 {
        r -= 4;
        // SAFETY: the caller's.
        unsafe {
            let group = Strided { base: from.base.add(r.min(rows - 1) * from.row), ..from };
            quantize_group(s, group, k, rows.saturating_sub(r).clamp(1, 4), r, block, bytes, scales);
        }
    }
}

/// Quantizes up to four rows of `k` channels, where fewer are left the last again, as rows `r` and following of a block.
///
/// Four rows of a quad are stored at once. In a block whose rows are not whole fours, the last of them run into the quads behind; so the
/// groups of a block are written last first, quads in order, and of those that would run into the next block only what is their own.
///
/// # Safety
/// The rows exist, and the block's bytes and scales, which are this task's.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn quantize_group<S: Simd>(s: S, from: Strided, k: usize, rows: usize, r: usize, block: usize, bytes: *mut u8, scales: *mut f32) {
    let quads = k.div_ceil(4);
    let own = block - r;
    let whole = k - k % S::LANES;
    // SAFETY: reads are of rows that exist, writes within the block.
    unsafe {
        let mut greatest = [s.splat(0.0); 4];
        let mut i = 0;
        while i < k {
            let mut n = 0;
            while n < 4 {
                let p = from.at(n.min(rows - 1), i);
                let x = if i < whole { s.load(p) } else { s.load_part(p, k - i) };
                greatest[n] = s.magnitude(x, greatest[n]);
                n += 1;
            }
            i += S::LANES;
        }
        let greatest = s.greatest_of_four(greatest);
        // Four divisions at once.
        let (mut factors, mut own_scales) = ([0.0_f32; 4], [0.0_f32; 4]);
        let mut n = 0;
        while n < 4 {
            let some = greatest[n] > LEAST;
            factors[n] = if some { STEPS / greatest[n] } else { 0.0 };
            own_scales[n] = if some { greatest[n] * STEP } else { 0.0 };
            own_scales[n] = if greatest[n] < f32::INFINITY { own_scales[n] } else { f32::NAN };
            n += 1;
        }
        let mut inverse = [s.splat(0.0); 4];
        n = 0;
        while n < 4 {
            inverse[n] = s.splat(factors[n]);
            if n < own {
                scales.add(r + n).write(own_scales[n]);
            }
            n += 1;
        }
        let to = bytes.add(r * 4);
        i = 0;
        while i < k {
            let mut x = [s.splat(0.0); 4];
            let mut n = 0;
            while n < 4 {
                let p = from.at(n.min(rows - 1), i);
                x[n] = s.mul(if i < whole { s.load(p) } else { s.load_part(p, k - i) }, inverse[n]);
                n += 1;
            }
            let quad = i / 4;
            // Where the last of its stores ends, in rows of quads, must be within the block.
            if i + S::LANES <= whole && r + (quad + S::LANES / 4 - 1) * block + 4 <= quads * block {
                s.store_quads(to.add(quad * block * 4), block * 4, x);
            } else {
                let mut buffer = [0_u8; 4 * PANEL];
                s.store_quads(buffer.as_mut_ptr(), 16, x);
                let mut q = 0;
                while q < S::LANES / 4 && quad + q < quads {
                    let mut n = 0;
                    while n < 4 && n < own {
                        let word = buffer.as_ptr().add((q * 4 + n) * 4).cast::<u32>().read_unaligned();
                        to.add(((quad + q) * block + n) * 4).cast::<u32>().write_unaligned(word);
                        n += 1;
                    }
                    q += 1;
                }
            }
            i += S::LANES;
        }
    }
}

impl Fill<'_> {
    /// Bytes and scales of a block.
    ///
    /// # Safety
    /// The block exists.
    #[inline(always)]
    unsafe fn int8_block(&self, block: usize) -> (*mut u8, *mut f32) {
        let (rows, quads) = (self.blocks.block, self.k.div_ceil(4));
        // SAFETY: the caller's; `fill_from` has made room.
        unsafe { (self.bytes.at(block * rows * quads * 4), self.scales.at(block * rows)) }
    }

    /// # Safety
    /// The block is this task's, `row` whole groups.
    #[inline(always)]
    unsafe fn write_groups<S: Simd>(&self, s: S, row: &[f32], of: usize, r: usize, offset: i32) {
        let Fill { k, blocks, .. } = *self;
        let (groups, block) = (k / GROUP, blocks.block);
        for group in 0..groups {
            // SAFETY: reads stay within `row`, writes within this block's rows.
            unsafe {
                let part = &row[group * GROUP..][..GROUP];
                let (inverse, scale) = scale_of(s, part);
                let index = (of * groups + group) * block + r;
                self.scales.write(index, scale);
                let to = self.bytes.at((of * groups + group) * GROUP * block + r * 4);
                write_quads(s, part, 0, GROUP / 4, inverse, 0, to, block);
                let mut sum = s.splat(0.0);
                let mut i = 0;
                while i < GROUP {
                    sum = s.add(sum, s.to_f(s.to_i(s.mul(s.load(part.as_ptr().add(i)), s.splat(inverse)))));
                    i += S::LANES;
                }
                self.starts.write(index, (s.sum(sum) as i32).wrapping_mul(-offset));
            }
        }
    }

    /// # Safety
    /// The block is this task's.
    #[inline(always)]
    unsafe fn write_floats(&self, row: &[f32], of: usize, r: usize) {
        let Fill { k, blocks, .. } = *self;
        for (i, &x) in row[..k].iter().enumerate() {
            // SAFETY: within this block's rows.
            unsafe { self.floats.write((of * k + i) * blocks.block + r, x) };
        }
    }
}

/// Below this 127 / greatest overflows; a row with no greater magnitude counts as zero.
const LEAST: f32 = 1e-36;

/// Steps up to a row's greatest magnitude: 127, and two units in the last place more. They are as much as quotient and product below may lose,
/// so that a value in the middle of two steps always goes to the one further from zero. Where all of a row are whole multiples of some number, the
/// greatest of at most 2¹⁴ of it, no other value is near enough to the middle to go with it: then bytes have no error, and are the same
/// wherever they are computed.
pub const STEPS: f32 = 127.0 + 2.0 / 131_072.0;

/// One of 127 steps.
pub const STEP: f32 = 1.0 / 127.0;

/// What makes a row bytes, and bytes the row again: [`STEPS`] / greatest magnitude, and greatest · [`STEP`]; NaN for the second where the row is not
/// finite.
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
    let inverse = if greatest > LEAST { STEPS / greatest } else { 0.0 };
    let scale = if greatest > LEAST { greatest * STEP } else { 0.0 };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_whole_numbers_have_no_error() {
        for greatest in 1..=1_u32 << 14 {
            let factor = STEPS / greatest as f32;
            for step in 0..127 {
                // The greatest below the middle of two steps, and the next.
                let above = ((2 * step + 1) * greatest).div_ceil(254);
                for x in [above - 1, above] {
                    // ⌊127 x / greatest + ½⌋
                    let byte = (254 * x + greatest) / (2 * greatest);
                    assert_eq!((x as f32 * factor).round_ties_even(), byte as f32, "{x} of {greatest}");
                }
            }
        }
    }
}
