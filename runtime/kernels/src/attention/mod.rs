//! softmax(scale · Q Kᵀ + bias) V, fused: scores exist a few rows and a block of keys at a time (Dao et al., 2022).
//!
//! For a row of scores that arrives in blocks, keep the greatest score m so far, the sum l of e^(x − m) and the sum o of e^(x − m) v.
//! When a block brings a greater m′, l and o are first multiplied by e^(m − m′); in the end the result is o / l. Exponents are of base 2
//! throughout: the scale and log₂ e are one factor, which a fused multiply-add applies on the way into the exponential.
//!
//! Query heads that share a key-value head are rows of one product, so keys and values are read once for all of them. Many rows go
//! through register tiles over packed keys (`tiles`); a few, as in decoding, stream over the cache as it lies (`stream`).
//!
//! - A row that sees no key, or only keys masked with −∞, is zero.
//! - What is no number in a query makes its own row NaN and no other. In a key or value it makes every row NaN that sees the key, and may
//!   do so to rows that do not: a masked weight is 0, and 0 · NaN is NaN. So masked keys and values must be finite.

mod products;
mod scores;
mod stream;
mod tiles;

use half::f16;

use crate::isa::Isa;
use crate::linear::Engine;
use crate::pack::Floats;
use crate::pool::Pool;
use crate::shared::SharedMut;

/// Rows of every head, with strides in elements: element `d` of token `t` and head `h` is
/// `values[t * row_stride + h * head_stride + d]`.
///
/// So queries, keys and values are read where they lie: in one fused projection `[T][3 H D]`, in a cache `[T][KVH D]` or `[KVH][T][D]`.
#[derive(Debug, Clone, Copy)]
pub struct Heads<T> {
    /// From the first head's first row on.
    pub values: T,
    /// From one token to the next.
    pub row_stride: usize,
    /// From one head to the next; 0 where heads share.
    pub head_stride: usize,
}

impl<T> Heads<T> {
    /// `[T][heads · dim]`
    pub fn by_token(values: T, heads: usize, dim: usize) -> Self {
        Self { values, row_stride: heads * dim, head_stride: dim }
    }

    /// `[heads][tokens][dim]`
    pub fn by_head(values: T, tokens: usize, dim: usize) -> Self {
        Self { values, row_stride: dim, head_stride: tokens * dim }
    }

    /// Elements that `tokens` rows of `heads` heads reach over; `None` where that overflows.
    fn reach(&self, tokens: usize, heads: usize, dim: usize) -> Option<usize> {
        let (Some(token), Some(head)) = (tokens.checked_sub(1), heads.checked_sub(1)) else { return Some(0) };
        token.checked_mul(self.row_stride)?.checked_add(head.checked_mul(self.head_stride)?)?.checked_add(dim)
    }
}

fn fits(what: &str, len: usize, reach: Option<usize>) {
    assert!(reach.is_some_and(|reach| reach <= len), "{what}: {len} elements, where strides reach over {reach:?}");
}

/// Everything about an attention but its result. Tq is `queries`, Tk is `keys`.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Tq rows of `heads` heads.
    pub q: Heads<&'a [f32]>,
    /// Tk rows of `kv_heads` heads.
    pub k: Heads<Floats<'a>>,
    /// Tk rows of `kv_heads` heads.
    pub v: Heads<Floats<'a>>,
    /// Tq
    pub queries: usize,
    /// Tk
    pub keys: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads: a divisor of `heads`. Query head h reads key-value head h / (heads / kv_heads) (Ainslie et al., 2023).
    pub kv_heads: usize,
    /// D, elements of a head.
    pub dim: usize,
    /// Of the products, commonly 1/√D.
    pub scale: f32,
    /// Query i sees the keys 0 ..= Tk − Tq + i only: the queries are the last Tq tokens.
    pub causal: bool,
    /// `[Tk]`, added to every row of scores: −∞ for padding.
    pub key_mask: Option<&'a [f32]>,
    /// `[Tq][Tk]` a head, added to the scores: Swin's and T5's relative positions. A head stride of 0 where all heads share one.
    pub bias: Option<Heads<&'a [f32]>>,
    /// Of the products, where there are many rows.
    pub precision: Precision,
}

/// What products may be rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    Full,
    /// Factors are rounded to bfloat16 where the instruction set multiplies those faster ([`crate::simd::Simd::BF16`]), by at most 2⁻⁸ of
    /// themselves each; sums stay in single precision. Of normal inputs a head's row has a cosine of 1 − 5 · 10⁻⁶ with the exact one in
    /// the median, and 1 − 3 · 10⁻⁵ at worst.
    Fast,
}

impl<'a> Attention<'a> {
    /// Self-attention over the result of a fused projection, `[T][3 · heads · dim]` with queries, keys and values side by side; the scale
    /// is 1/√D.
    ///
    /// # Panics
    /// Where `qkv` is not whole rows.
    pub fn fused(qkv: &'a [f32], heads: usize, dim: usize) -> Self {
        let width = heads * dim;
        assert!(width > 0 && qkv.len().is_multiple_of(3 * width), "{} elements are not rows of 3 x {heads} x {dim}", qkv.len());
        let tokens = qkv.len() / (3 * width);
        let part = |i: usize| &qkv[(i * width).min(qkv.len())..];
        let (row_stride, head_stride) = (3 * width, dim);
        Self {
            q: Heads { values: part(0), row_stride, head_stride },
            k: Heads { values: Floats::F32(part(1)), row_stride, head_stride },
            v: Heads { values: Floats::F32(part(2)), row_stride, head_stride },
            queries: tokens,
            keys: tokens,
            heads,
            kv_heads: heads,
            dim,
            scale: 1.0 / (dim as f32).sqrt(),
            causal: false,
            key_mask: None,
            bias: None,
            precision: Precision::Full,
        }
    }

    /// Query heads a key-value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// How many keys a query sees: the first ones.
    #[inline(always)]
    fn seen(&self, query: usize) -> usize {
        if self.causal { (self.keys + query + 1).saturating_sub(self.queries).min(self.keys) } else { self.keys }
    }

    /// Head and query of a row of the product that a key-value head takes part in: heads of the group one after the other.
    #[inline(always)]
    fn row(&self, kv_head: usize, row: usize) -> (usize, usize) {
        (kv_head * self.group() + row / self.queries, row % self.queries)
    }

    /// Whether scores are scaled before the softmax, because something is added to them.
    ///
    /// Else the scale is a part of the exponent's unit. (A scale of zero cannot be: 0 · −∞ is no number.)
    #[inline(always)]
    fn adds(&self) -> bool {
        self.key_mask.is_some() || self.bias.is_some() || self.scale == 0.0
    }

    /// What scores are multiplied by in the exponent of 2. Queries carry the scale's sign, so it is positive.
    #[inline(always)]
    fn unit(&self) -> f32 {
        std::f32::consts::LOG2_E * if self.adds() { 1.0 } else { self.scale.abs() }
    }

    fn check(&self) {
        let Self { queries, keys, heads, kv_heads, dim, .. } = *self;
        assert!(dim > 0 && kv_heads > 0 && heads > 0, "{heads} heads of {dim} elements over {kv_heads}");
        assert!(heads.is_multiple_of(kv_heads), "{kv_heads} key-value heads do not divide {heads} heads");
        fits("queries", self.q.values.len(), self.q.reach(queries, heads, dim));
        fits("keys", self.k.values.len(), self.k.reach(keys, kv_heads, dim));
        fits("values", self.v.values.len(), self.v.reach(keys, kv_heads, dim));
        if let Some(mask) = self.key_mask {
            assert!(mask.len() == keys, "a mask of {} for {keys} keys", mask.len());
        }
        if let Some(bias) = self.bias {
            fits("the bias", bias.values.len(), bias.reach(queries, heads, keys));
        }
    }
}

/// Rows of one key-value head up to which the cache is streamed: packing it would cost more than tiles save.
const FEW: usize = 12;
/// Multiplications below which threads are not worth waking.
const SHARE: usize = 1 << 18;

impl Engine<'_> {
    /// Writes softmax(scale · Q Kᵀ + mask + bias) V to `out`, `[Tq][H · D]` with `out_stride` elements from token to token.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn attention(&self, attention: &Attention<'_>, out: &mut [f32], out_stride: usize) {
        attention.check();
        let Attention { queries, keys, heads, kv_heads, dim, .. } = *attention;
        let result = Heads { values: (), row_stride: out_stride, head_stride: dim };
        assert!(queries <= 1 || out_stride >= heads * dim, "rows of {heads} x {dim} every {out_stride} elements");
        fits("the result", out.len(), result.reach(queries, heads, dim));
        let rows = queries * attention.group();
        if rows == 0 {
            return;
        }
        let out = SharedMut::new(out);
        let part = Part { attention, out, out_stride, kv_head: 0, rows: (0, rows) };
        let work = rows.saturating_mul(keys).saturating_mul(2 * dim * kv_heads);
        let threads = if work < SHARE { 1 } else { self.pool.threads() };
        if rows <= FEW {
            return each(self.pool, threads, kv_heads, &|kv_head| stream::run(self.isa, Part { kv_head, ..part }));
        }
        let chunks = tiles::chunks(rows, kv_heads, dim, threads);
        each(self.pool, threads, kv_heads * chunks, &|task| {
            let (kv_head, chunk) = (task / chunks, task % chunks);
            let rows = (rows * chunk / chunks, rows * (chunk + 1) / chunks);
            tiles::run(self.isa, Part { kv_head, rows, ..part });
        });
    }
}

fn each(pool: &Pool, threads: usize, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
    if threads == 1 {
        return (0..tasks).for_each(work);
    }
    pool.run(tasks, work);
}

/// What one task computes: some rows of one key-value head.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    attention: &'a Attention<'a>,
    out: SharedMut<f32>,
    out_stride: usize,
    kv_head: usize,
    /// From, to.
    rows: (usize, usize),
}

/// Runs code with `$values` a slice of the element type at hand.
macro_rules! with_floats {
    ($floats:expr, $values:ident => $body:expr) => {
        match $floats {
            Floats::F32($values) => $body,
            Floats::F16($values) => $body,
        }
    };
}
use with_floats;

/// An element of keys and values.
trait Element: Copy {
    /// # Safety
    /// `width` elements must be readable; `width` is at most `LANES`.
    unsafe fn load<S: crate::simd::Simd>(s: S, p: *const Self, width: usize) -> S::F;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: crate::simd::Simd>(s: S, p: *const f32, width: usize) -> S::F {
        // SAFETY: the caller's.
        unsafe { crate::linear::load_some(s, p, width) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: crate::simd::Simd>(s: S, p: *const f16, width: usize) -> S::F {
        // SAFETY: the caller's; the buffer has room for any vector.
        unsafe {
            if width == S::LANES {
                return s.load_f16(p);
            }
            let mut buffer = [f16::ZERO; 16];
            p.copy_to_nonoverlapping(buffer.as_mut_ptr(), width);
            s.load_f16(buffer.as_ptr())
        }
    }
}

/// Memory of a thread's tasks, kept from call to call.
#[derive(Debug, Default)]
struct Scratch(Vec<Line>);

/// A cache line: vectors of the scratch memory never cross one.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static SCRATCH: std::cell::Cell<Scratch> = const { std::cell::Cell::new(Scratch(Vec::new())) };
}

/// Calls `work` with memory for `len` floats, of any content.
fn with_scratch(isa: Isa, len: usize, work: impl FnOnce(Isa, *mut f32)) {
    let mut scratch = SCRATCH.take();
    let lines = len.div_ceil(16);
    if scratch.0.len() < lines {
        scratch.0.resize(lines, Line::default());
    }
    work(isa, scratch.0.as_mut_ptr().cast());
    SCRATCH.set(scratch);
}
