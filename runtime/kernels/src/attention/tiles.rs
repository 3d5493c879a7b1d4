//! Attention of many rows: register tiles over packed keys and values.
//!
//! A task has some rows of one key-value head. A block of keys is packed into panels `[keys/16][D][16]`, its values into rows padded to
//! whole vectors; over both go all of the task's rows, R at a time: R × V vectors of scores, a softmax in the nearest cache, R × V
//! vectors of results. Packing costs as much as a dozen rows, so a task should have many.

use std::marker::PhantomData;

use super::products::{Bf16, Products, Single};
use super::scores::{KEYS, State, add_bias, weigh};
use super::{Element, Part, Precision, with_floats, with_scratch};
use crate::isa::Isa;
use crate::linear::store_some;
use crate::pack::Floats;
use crate::quantize::Blocks;
use crate::simd::{Kernel, PANEL, Simd};

/// Most rows of a tile, of any instruction set.
const MOST_ROWS: usize = 12;
/// Fewest rows that are worth a task of their own.
const FEWEST: usize = 48;
/// Floats of queries and results that a task keeps at hand: they should stay in the second-level cache beside a block of keys.
const KEPT: usize = 128 << 10;

/// How many tasks the rows of one key-value head become.
pub(super) fn chunks(rows: usize, kv_heads: usize, dim: usize, threads: usize) -> usize {
    let wanted = if threads == 1 { 1 } else { (3 * threads).div_ceil(kv_heads) };
    let fewest = (rows * 2 * dim).div_ceil(KEPT);
    wanted.min(rows / FEWEST).max(fewest).max(1)
}

/// Does one task.
pub(super) fn run(isa: Isa, part: Part<'_>) {
    let (rows, dim) = (part.rows.1 - part.rows.0, part.attention.dim);
    let padded = dim.next_multiple_of(PANEL);
    // Keys, values, scores, results, queries, states.
    let len = KEYS * (dim + padded) + MOST_ROWS * KEYS + rows * (padded + dim + 2) + 4 * PANEL;
    with_scratch(isa, len, |isa, memory| isa.run(Tiles { part, memory }));
}

struct Tiles<'a> {
    part: Part<'a>,
    /// Room for everything below.
    memory: *mut f32,
}

/// Where things lie in the scratch memory.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// `[blocks][D][R]`, with the scale's sign.
    q: *mut f32,
    /// `[rows][width]`
    acc: *mut f32,
    /// `[rows]`
    states: *mut State,
    /// `[keys/16][D][16]`
    k: *mut f32,
    /// `[keys][width]`
    v: *mut f32,
    /// `[R][KEYS]`
    scores: *mut f32,
    /// D, padded to whole vectors.
    width: usize,
}

/// A block of keys.
#[derive(Debug, Clone, Copy)]
struct Keys {
    start: usize,
    len: usize,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if S::BF16 && self.part.attention.precision == Precision::Fast {
            self.all::<S, Bf16>(s);
        } else {
            self.all::<S, Single>(s);
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn all<S: Simd, P: Products>(&self, s: S) {
        let attention = self.part.attention;
        let (dim, rows) = (attention.dim, self.part.rows.1 - self.part.rows.0);
        let width = dim.next_multiple_of(S::LANES);
        // SAFETY: `run` has made room for all of it, each part rounded up to whole lines.
        unsafe {
            let k = self.memory;
            let v = k.add(KEYS * dim);
            let scores = v.add(KEYS * width);
            let acc = scores.add(MOST_ROWS * KEYS);
            let q = acc.add((rows * width).next_multiple_of(PANEL));
            // A vector more than there are queries: see `start`.
            let states = q.add((rows * dim).next_multiple_of(PANEL) + PANEL).cast::<State>();
            let memory = Memory { q, acc, states, k, v, scores, width };
            let blocks = Blocks::new(rows, S::F32_ROWS.min(MOST_ROWS));
            self.start::<S, P>(s, memory, blocks);
            let block = Blocks::new(attention.keys, KEYS).block.next_multiple_of(2 * PANEL).min(KEYS);
            let mut start = 0;
            while start < attention.keys {
                let keys = Keys { start, len: block.min(attention.keys - start) };
                s.call(Pack::<P> { part: self.part, memory, keys, products: PhantomData });
                let mut i = 0;
                while i < blocks.count {
                    self.block::<S, P>(s, memory, keys, i * blocks.block, blocks.len(i));
                    i += 1;
                }
                start += block;
            }
            self.finish(s, memory);
        }
    }

    /// Queries in the order that tiles broadcast them, results and states at zero.
    ///
    /// # Safety
    /// The memory is there.
    #[inline(always)]
    unsafe fn start<S: Simd, P: Products>(&self, s: S, memory: Memory, blocks: Blocks) {
        let Part { attention, kv_head, rows, .. } = self.part;
        let sign = s.splat(1.0_f32.copysign(attention.scale));
        // SAFETY: `check` has seen that the strides reach no further than the slice; the rest is the caller's.
        unsafe {
            let mut i = 0;
            while i < blocks.count {
                let (from, len) = (i * blocks.block, blocks.len(i));
                // Whole vectors are written, and what is too much in one is written over by the next. So that nothing else is, the last
                // rows come first.
                let mut first = len.next_multiple_of(S::LANES);
                while first > 0 {
                    first -= S::LANES;
                    let mut starts = [attention.q.values.as_ptr(); PANEL];
                    let mut r = 0;
                    while r < S::LANES {
                        if first + r < len {
                            let (head, query) = attention.row(kv_head, rows.0 + from + first + r);
                            starts[r] = starts[r].add(query * attention.q.row_stride + head * attention.q.head_stride);
                        }
                        r += 1;
                    }
                    let to = memory.q.add(from * attention.dim.div_ceil(P::PER_WORD) + first);
                    let mut d = 0;
                    while d < attention.dim {
                        let width = (attention.dim - d).min(S::LANES);
                        let mut tile = [s.splat(0.0); PANEL];
                        let mut r = 0;
                        while r < S::LANES {
                            if first + r < len {
                                tile[r] = s.mul(Element::load(s, starts[r].add(d), width), sign);
                            }
                            r += 1;
                        }
                        s.transpose(&mut tile);
                        let mut r = 0;
                        while r < S::LANES {
                            if r < width {
                                P::store(s, to.add((d + r) / P::PER_WORD * len), tile[r], tile[(r + 1) % PANEL]);
                            }
                            r += P::PER_WORD;
                        }
                        d += S::LANES;
                    }
                }
                i += 1;
            }
            let rows = rows.1 - rows.0;
            let mut r = 0;
            while r < rows {
                *memory.states.add(r) = State::START;
                r += 1;
            }
            memory.acc.write_bytes(0, rows * memory.width);
        }
    }

    /// One block of rows over one block of keys.
    ///
    /// # Safety
    /// The memory is there, with the keys packed.
    #[inline(always)]
    unsafe fn block<S: Simd, P: Products>(&self, s: S, memory: Memory, keys: Keys, from: usize, len: usize) {
        // SAFETY: the caller's.
        unsafe {
            match len {
                1 => self.rows::<S, P, 1>(s, memory, keys, from),
                2 => self.rows::<S, P, 2>(s, memory, keys, from),
                3 => self.rows::<S, P, 3>(s, memory, keys, from),
                4 => self.rows::<S, P, 4>(s, memory, keys, from),
                5 => self.rows::<S, P, 5>(s, memory, keys, from),
                6 => self.rows::<S, P, 6>(s, memory, keys, from),
                7 => self.rows::<S, P, 7>(s, memory, keys, from),
                8 => self.rows::<S, P, 8>(s, memory, keys, from),
                9 => self.rows::<S, P, 9>(s, memory, keys, from),
                10 => self.rows::<S, P, 10>(s, memory, keys, from),
                11 => self.rows::<S, P, 11>(s, memory, keys, from),
                _ => self.rows::<S, P, 12>(s, memory, keys, from),
            }
        }
    }

    /// # Safety
    /// As [`Tiles::block`].
    #[inline(always)]
    unsafe fn rows<S: Simd, P: Products, const R: usize>(&self, s: S, memory: Memory, keys: Keys, from: usize) {
        if R > S::F32_ROWS {
            return;
        }
        s.call(Rows::<P, R> { part: self.part, memory, keys, from, products: PhantomData });
    }

    /// Divides and writes.
    ///
    /// # Safety
    /// The memory is there.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, memory: Memory) {
        let Part { attention, out, out_stride, kv_head, rows } = self.part;
        let mut r = 0;
        while r < rows.1 - rows.0 {
            let (head, query) = attention.row(kv_head, rows.0 + r);
            // SAFETY: the caller has seen that the result has room; the rows are this task's alone.
            unsafe {
                let inverse = s.splat((*memory.states.add(r)).inverse());
                let to = out.at(query * out_stride + head * attention.dim);
                let mut d = 0;
                while d < attention.dim {
                    let x = s.mul(s.load(memory.acc.add(r * memory.width + d)), inverse);
                    store_some(s, to.add(d), x, (attention.dim - d).min(S::LANES));
                    d += S::LANES;
                }
            }
            r += 1;
        }
    }
}

/// Packs a block of keys and values.
struct Pack<'a, P> {
    part: Part<'a>,
    memory: Memory,
    keys: Keys,
    products: PhantomData<P>,
}

impl<P: Products> Kernel for Pack<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Part { attention, kv_head, .. } = self.part;
        let (k, v) = (attention.k, attention.v);
        // SAFETY: `check` has seen that the strides reach no further than the slices, and there is room for `KEYS` keys.
        unsafe {
            with_floats!(k.values, values => {
                let from = values.as_ptr().add(self.keys.start * k.row_stride + kv_head * k.head_stride);
                pack_keys::<S, P, _>(s, from, k.row_stride, self.keys.len, attention.dim, self.memory.k);
            });
            with_floats!(v.values, values => {
                let from = values.as_ptr().add(self.keys.start * v.row_stride + kv_head * v.head_stride);
                let mut j = 0;
                while j < self.keys.len {
                    let mut d = 0;
                    while d < attention.dim {
                        let (from, width) = (from.add(j * v.row_stride + d), (attention.dim - d).min(S::LANES));
                        let mut next = s.splat(0.0);
                        if P::PER_WORD == 2 && j + 1 < self.keys.len {
                            next = Element::load(s, from.add(v.row_stride), width);
                        }
                        let to = self.memory.v.add(j / P::PER_WORD * self.memory.width + d);
                        P::store(s, to, Element::load(s, from, width), next);
                        d += S::LANES;
                    }
                    j += P::PER_WORD;
                }
            });
        }
    }
}

/// Rows of D to panels `[keys/16][D][16]`; what is missing in the last one is zero.
///
/// # Safety
/// The rows are readable; there is room for whole panels.
#[inline(always)]
unsafe fn pack_keys<S: Simd, P: Products, T: Element>(s: S, from: *const T, stride: usize, keys: usize, dim: usize, to: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        let mut j = 0;
        while j < keys.next_multiple_of(PANEL) {
            let to = to.add(j / PANEL * dim.div_ceil(P::PER_WORD) * PANEL + j % PANEL);
            let mut d = 0;
            while d < dim {
                let len = (dim - d).min(S::LANES);
                let mut rows = [s.splat(0.0); PANEL];
                let mut i = 0;
                while i < S::LANES {
                    if j + i < keys {
                        rows[i] = T::load(s, from.add((j + i) * stride + d), len);
                    }
                    i += 1;
                }
                s.transpose(&mut rows);
                let mut i = 0;
                while i < S::LANES {
                    if i < len {
                        P::store(s, to.add((d + i) / P::PER_WORD * PANEL), rows[i], rows[(i + 1) % PANEL]);
                    }
                    i += P::PER_WORD;
                }
                d += S::LANES;
            }
            j += S::LANES;
        }
    }
}

/// R rows over one block of keys.
struct Rows<'a, P, const R: usize> {
    part: Part<'a>,
    memory: Memory,
    keys: Keys,
    /// First row, counted from the task's first.
    from: usize,
    products: PhantomData<P>,
}

impl<P: Products, const R: usize> Kernel for Rows<'_, P, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { part: Part { attention, kv_head, rows, .. }, memory, keys, from, .. } = self;
        // Words of a query or key.
        let dim = attention.dim.div_ceil(P::PER_WORD);
        let mut seen = [0; R];
        let mut most = 0;
        let mut r = 0;
        while r < R {
            let (_, query) = attention.row(kv_head, rows.0 + from + r);
            seen[r] = attention.seen(query).saturating_sub(keys.start).min(keys.len);
            most = most.max(seen[r]);
            r += 1;
        }
        if most == 0 {
            return;
        }
        let panels = most.div_ceil(PANEL);
        // SAFETY: the block is packed, the memory is there, and whole panels of scores fit `KEYS`.
        unsafe {
            let q = memory.q.add(from * dim);
            let mut panel = 0;
            while panel < panels {
                let (k, to) = (memory.k.add(panel * dim * PANEL), memory.scores.add(panel * PANEL));
                match S::LANES {
                    16 if panel + 2 <= panels => {
                        score::<S, P, R, 2>(s, q, k, dim, to);
                        panel += 1;
                    }
                    16 => score::<S, P, R, 1>(s, q, k, dim, to),
                    8 => score::<S, P, R, 2>(s, q, k, dim, to),
                    _ => score::<S, P, R, 4>(s, q, k, dim, to),
                }
                panel += 1;
            }
            let mut before = [0.0; R];
            let mut r = 0;
            while r < R {
                let scores = memory.scores.add(r * KEYS);
                if attention.adds() {
                    let (head, query) = attention.row(kv_head, rows.0 + from + r);
                    add_bias(s, scores, attention, head, query, keys.start, seen[r]);
                }
                before[r] = weigh::<S, P>(s, scores, seen[r], panels * PANEL, attention.unit(), &mut *memory.states.add(from + r));
                r += 1;
            }
            let width = memory.width;
            let words = most.div_ceil(P::PER_WORD);
            let acc = memory.acc.add(from * width);
            let mut d = 0;
            while d < width {
                let left = (width - d) / S::LANES;
                let v = memory.v.add(d);
                if S::LANES == 4 && left >= 4 {
                    mix::<S, P, R, 4>(s, memory.scores, v, width, words, &before, acc.add(d));
                    d += 4 * S::LANES;
                } else if left >= 2 {
                    mix::<S, P, R, 2>(s, memory.scores, v, width, words, &before, acc.add(d));
                    d += 2 * S::LANES;
                } else {
                    mix::<S, P, R, 1>(s, memory.scores, v, width, words, &before, acc.add(d));
                    d += S::LANES;
                }
            }
        }
    }
}

/// Scores of R queries, `[D][R]`, and V vectors of keys; `dim` counts words.
///
/// # Safety
/// The panels exist; `to` has room in rows of `KEYS`.
#[inline(always)]
unsafe fn score<S: Simd, P: Products, const R: usize, const V: usize>(s: S, q: *const f32, k: *const f32, dim: usize, to: *mut f32) {
    let per_panel = PANEL / S::LANES;
    let mut acc = [[s.splat(0.0); V]; R];
    // SAFETY: the caller's.
    unsafe {
        let mut q = q;
        let mut i = 0;
        while i < dim {
            let mut keys = [P::splat(s, q); V];
            let mut v = 0;
            while v < V {
                keys[v] = P::load(s, k.add((v / per_panel * dim + i) * PANEL + v % per_panel * S::LANES));
                v += 1;
            }
            let mut r = 0;
            while r < R {
                let x = P::splat(s, q.add(r));
                let mut v = 0;
                while v < V {
                    acc[r][v] = P::fma(s, keys[v], x, acc[r][v]);
                    v += 1;
                }
                r += 1;
            }
            q = q.add(R);
            i += 1;
        }
        let mut r = 0;
        while r < R {
            let mut v = 0;
            while v < V {
                s.store(to.add(r * KEYS + v * S::LANES), acc[r][v]);
                v += 1;
            }
            r += 1;
        }
    }
}

/// acc · before + weights · values, for R rows of weights and V vectors of values.
///
/// # Safety
/// There are `keys` words of weights a row and as many rows of values `width` apart; `acc` has R rows `width` apart.
#[inline(always)]
unsafe fn mix<S: Simd, P: Products, const R: usize, const V: usize>(
    s: S,
    weights: *const f32,
    values: *const f32,
    width: usize,
    keys: usize,
    before: &[f32; R],
    acc: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[s.splat(0.0); V]; R];
        let mut r = 0;
        while r < R {
            let mut v = 0;
            while v < V {
                sums[r][v] = s.mul(s.load(acc.add(r * width + v * S::LANES)), s.splat(before[r]));
                v += 1;
            }
            r += 1;
        }
        let mut from = values;
        let mut j = 0;
        while j < keys {
            let mut row = [P::splat(s, from); V];
            let mut v = 0;
            while v < V {
                row[v] = P::load(s, from.add(v * S::LANES));
                v += 1;
            }
            let mut r = 0;
            while r < R {
                let x = P::splat(s, weights.add(r * KEYS + j));
                let mut v = 0;
                while v < V {
                    sums[r][v] = P::fma(s, row[v], x, sums[r][v]);
                    v += 1;
                }
                r += 1;
            }
            from = from.add(width);
            j += 1;
        }
        let mut r = 0;
        while r < R {
            let mut v = 0;
            while v < V {
                s.store(acc.add(r * width + v * S::LANES), sums[r][v]);
                v += 1;
            }
            r += 1;
        }
    }
}
