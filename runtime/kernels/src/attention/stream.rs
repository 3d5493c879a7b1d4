//! Attention of a few rows, as in decoding: keys and values are read once, where they lie.
//!
//! What counts is the memory that flows. A block of keys is multiplied by all rows of a group while it is near, four rows at a time, and
//! then the same keys' values are.

use super::products::Single;
use super::scores::{KEYS, State, add_bias, weigh};
use super::{Element, Part, with_floats, with_scratch};
use crate::isa::Isa;
use crate::linear::store_some;
use crate::pack::Floats;
use crate::simd::{Kernel, PANEL, Simd};

/// Most rows at a time.
const ROWS: usize = 4;
/// Keys whose products run side by side.
const AHEAD: usize = 4;
/// Vectors of results that are summed side by side.
const VECTORS: usize = 4;

/// Does one task.
pub(super) fn run(isa: Isa, part: Part<'_>) {
    let (rows, padded) = (part.rows.1 - part.rows.0, part.attention.dim.next_multiple_of(PANEL));
    let len = 2 * rows * padded + ROWS * KEYS;
    with_scratch(isa, len, |isa, memory| isa.run(Stream { part, memory }));
}

struct Stream<'a> {
    part: Part<'a>,
    memory: *mut f32,
}

/// Where things lie in the scratch memory.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// `[ROWS][KEYS]`
    scores: *mut f32,
    /// `[rows][width]`, with the scale's sign, padded with zeros.
    q: *mut f32,
    /// `[rows][width]`
    acc: *mut f32,
    /// D, padded to whole vectors.
    width: usize,
}

impl Kernel for Stream<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Part { attention, out, out_stride, kv_head, rows } = self.part;
        let (dim, first, rows) = (attention.dim, rows.0, rows.1 - rows.0);
        let width = dim.next_multiple_of(S::LANES);
        let mut states = [State::START; super::FEW];
        let sign = s.splat(1.0_f32.copysign(attention.scale));
        // SAFETY: `run` has made room; `check` has seen that strides reach no further than the slices; the rows are this task's alone.
        unsafe {
            let scores = self.memory;
            let q = scores.add(ROWS * KEYS);
            let memory = Memory { scores, q, acc: q.add(rows * width), width };
            let mut r = 0;
            while r < rows {
                let (head, query) = attention.row(kv_head, first + r);
                let row = attention.q.values.as_ptr().add(query * attention.q.row_stride + head * attention.q.head_stride);
                let mut d = 0;
                while d < dim {
                    let x = Element::load(s, row.add(d), (dim - d).min(S::LANES));
                    s.store(q.add(r * width + d), s.mul(x, sign));
                    s.store(memory.acc.add(r * width + d), s.splat(0.0));
                    d += S::LANES;
                }
                r += 1;
            }
            let mut start = 0;
            while start < attention.keys {
                let len = KEYS.min(attention.keys - start);
                let mut r = 0;
                while r < rows {
                    let block = Block { part: self.part, memory, start, len, from: r };
                    match rows - r {
                        1 => s.call(Rows::<1>(block, &mut states)),
                        2 => s.call(Rows::<2>(block, &mut states)),
                        3 => s.call(Rows::<3>(block, &mut states)),
                        _ => s.call(Rows::<ROWS>(block, &mut states)),
                    }
                    r += ROWS;
                }
                start += KEYS;
            }
            let mut r = 0;
            while r < rows {
                let (head, query) = attention.row(kv_head, first + r);
                let inverse = s.splat(states[r].inverse());
                let to = out.at(query * out_stride + head * dim);
                let mut d = 0;
                while d < dim {
                    let x = s.mul(s.load(memory.acc.add(r * width + d)), inverse);
                    store_some(s, to.add(d), x, (dim - d).min(S::LANES));
                    d += S::LANES;
                }
                r += 1;
            }
        }
    }
}

/// Keys `start .. start + len`, rows from `from` on.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    part: Part<'a>,
    memory: Memory,
    start: usize,
    len: usize,
    from: usize,
}

struct Rows<'a, 'b, const R: usize>(Block<'a>, &'b mut [State; super::FEW]);

impl<const R: usize> Kernel for Rows<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(Block { part: Part { attention, kv_head, rows, .. }, memory, start, len, from }, states) = self;
        let (k, v) = (attention.k, attention.v);
        let mut seen = [0; R];
        let mut most = 0;
        let mut r = 0;
        while r < R {
            let (_, query) = attention.row(kv_head, rows.0 + from + r);
            seen[r] = attention.seen(query).saturating_sub(start).min(len);
            most = most.max(seen[r]);
            r += 1;
        }
        if most == 0 {
            return;
        }
        // SAFETY: `check` has seen that the strides reach no further than the slices; the scores have room for `KEYS`.
        unsafe {
            with_floats!(k.values, values => {
                let from_key = values.as_ptr().add(start * k.row_stride + kv_head * k.head_stride);
                let mut j = 0;
                while j + AHEAD <= most {
                    score::<S, _, R, AHEAD>(s, memory, from, from_key.add(j * k.row_stride), k.row_stride, attention.dim, j);
                    j += AHEAD;
                }
                while j < most {
                    score::<S, _, R, 1>(s, memory, from, from_key.add(j * k.row_stride), k.row_stride, attention.dim, j);
                    j += 1;
                }
            });
            let mut before = [0.0; R];
            let mut r = 0;
            while r < R {
                let scores = memory.scores.add(r * KEYS);
                if attention.adds() {
                    let (head, query) = attention.row(kv_head, rows.0 + from + r);
                    add_bias(s, scores, attention, head, query, start, seen[r]);
                }
                before[r] =
                    weigh::<S, Single>(s, scores, seen[r], most.next_multiple_of(S::LANES), attention.unit(), &mut states[from + r]);
                r += 1;
            }
            with_floats!(v.values, values => {
                let from_value = values.as_ptr().add(start * v.row_stride + kv_head * v.head_stride);
                let mut d = 0;
                while d < memory.width {
                    let acc = memory.acc.add(from * memory.width + d);
                    if d + VECTORS * S::LANES <= attention.dim {
                        mix::<S, _, R, VECTORS>(s, memory, from_value.add(d), v.row_stride, most, S::LANES, &before, acc);
                        d += VECTORS * S::LANES;
                    } else {
                        let last = (attention.dim - d).min(S::LANES);
                        mix::<S, _, R, 1>(s, memory, from_value.add(d), v.row_stride, most, last, &before, acc);
                        d += S::LANES;
                    }
                }
            });
        }
    }
}

/// Scores of R rows and J keys.
///
/// # Safety
/// The keys are readable, rows and scores are there.
#[inline(always)]
unsafe fn score<S: Simd, T: Element, const R: usize, const J: usize>(
    s: S,
    memory: Memory,
    from: usize,
    keys: *const T,
    stride: usize,
    dim: usize,
    at: usize,
) {
    let mut acc = [[s.splat(0.0); R]; J];
    // SAFETY: the caller's.
    unsafe {
        let q = memory.q.add(from * memory.width);
        let mut d = 0;
        while d < dim {
            let len = (dim - d).min(S::LANES);
            let mut j = 0;
            while j < J {
                let key = T::load(s, keys.add(j * stride + d), len);
                let mut r = 0;
                while r < R {
                    acc[j][r] = s.fma(key, s.load(q.add(r * memory.width + d)), acc[j][r]);
                    r += 1;
                }
                j += 1;
            }
            d += S::LANES;
        }
        let mut j = 0;
        while j < J {
            let mut r = 0;
            while r < R {
                *memory.scores.add(r * KEYS + at + j) = s.sum(acc[j][r]);
                r += 1;
            }
            j += 1;
        }
    }
}

/// acc · before + weights · values, for R rows of weights and V vectors of values, the last with `last` elements.
///
/// # Safety
/// The values are readable, weights and results are there.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn mix<S: Simd, T: Element, const R: usize, const V: usize>(
    s: S,
    memory: Memory,
    values: *const T,
    stride: usize,
    keys: usize,
    last: usize,
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
                sums[r][v] = s.mul(s.load(acc.add(r * memory.width + v * S::LANES)), s.splat(before[r]));
                v += 1;
            }
            r += 1;
        }
        let mut j = 0;
        while j < keys {
            let mut row = [s.splat(0.0); V];
            let mut v = 0;
            while v < V {
                row[v] = T::load(s, values.add(j * stride + v * S::LANES), if V == 1 { last } else { S::LANES });
                v += 1;
            }
            let mut r = 0;
            while r < R {
                let x = s.splat(*memory.scores.add(r * KEYS + j));
                let mut v = 0;
                while v < V {
                    sums[r][v] = s.fma(row[v], x, sums[r][v]);
                    v += 1;
                }
                r += 1;
            }
            j += 1;
        }
        let mut r = 0;
        while r < R {
            let mut v = 0;
            while v < V {
                s.store(acc.add(r * memory.width + v * S::LANES), sums[r][v]);
                v += 1;
            }
            r += 1;
        }
    }
}
