//! Attention.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

pub use crate::extension::AttentionOptions;
use crate::extension::{CachedOptions, KernelOps, OptionalPrimitive, ReorderOptions};
use crate::rotary::Angles;

/// softmax(scale · q kᵀ + mask) v for every head (Vaswani et al. 2017), without a matrix of all scores (Dao et al. 2022).
///
/// `q [B, Tq, H D]`, `k` and `v [B, Tk, G D]` → `[B, Tq, H D]`; `mask [B, Tk]` is added to every query's scores. All may be views.
///
/// # Panics
/// Where shapes do not fit.
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, mask: Option<Tensor<2>>, options: AttentionOptions) -> Tensor<3> {
    let mask = OptionalPrimitive::of(mask);
    Tensor::from_dispatch(<Dispatch as KernelOps>::fused_attention(q.into_dispatch(), k.into_dispatch(), v.into_dispatch(), mask, options))
}

/// Keys and values of the tokens so far, `[rows, context, G D]` each.
pub type KeyValueCache = [Tensor<3>; 2];

/// A decoder's attention in one go: queries and keys of `qkv [B, T, (H + 2 G) D]` turned by the angles of their T positions (where there are
/// angles), keys and values put into the cache from position `first` on, causal attention over what it holds then, `[B, T, H D]`.
///
/// Pairs of a head are neighbours where `interleaved`, as in GPT-J, else its halves, as in Llama. The cache is written in place where
/// nobody else holds it.
///
/// # Panics
/// Where shapes do not fit, or the cache has no room.
pub fn cached_attention(
    qkv: Tensor<3>,
    [k, v]: KeyValueCache,
    angles: Option<&Angles>,
    first: usize,
    attention: AttentionOptions,
    interleaved: bool,
) -> (Tensor<3>, KeyValueCache) {
    let ([rows, tokens, _], [cached, context, _]) = (qkv.dims(), k.dims());
    assert!(first + tokens <= context, "{tokens} tokens after {first} in a cache of {context}");
    assert!(rows == cached, "{rows} rows over a cache of {cached}");
    let [cos, sin] = match angles {
        Some(Angles { cos, sin }) => [cos, sin].map(|table| Some(table.clone())),
        None => [None, None],
    };
    let [cos, sin] = [cos, sin].map(OptionalPrimitive::of);
    let options = CachedOptions { attention, first, interleaved };
    let (y, k, v) = <Dispatch as KernelOps>::cached_attention(qkv.into_dispatch(), k.into_dispatch(), v.into_dispatch(), cos, sin, options);
    (Tensor::from_dispatch(y), [Tensor::from_dispatch(k), Tensor::from_dispatch(v)])
}

/// Row i of `x [rows, context, D]` becomes what row `rows[i]` was, of which only the first `used` tokens count: beams that change places.
/// As many rows come out as `rows` has; where those are as many as went in and nobody else holds `x`, only what changes is copied.
///
/// # Panics
/// Where a row is not there.
pub fn reorder_rows(x: Tensor<3>, rows: &[usize], used: usize) -> Tensor<3> {
    let [count, ..] = x.dims();
    assert!(rows.iter().all(|&row| row < count), "rows {rows:?} of {count}");
    if rows.len() == count && rows.iter().enumerate().all(|(i, &row)| i == row) {
        return x;
    }
    let options = ReorderOptions { rows: rows.to_vec(), used };
    Tensor::from_dispatch(<Dispatch as KernelOps>::reorder_rows(x.into_dispatch(), options))
}
