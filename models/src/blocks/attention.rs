//! Multi-head attention (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>, section 3.2.2).

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor, activation::softmax};
use ocelli_ops::AttentionOptions;

use super::{LayerNorm, Linear};
use crate::linears;

/// Query, key, value and output projections, all `[d, d]` with bias.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    /// Query projection.
    pub q: Linear,
    /// Key projection.
    pub k: Linear,
    /// Value projection.
    pub v: Linear,
    /// Projection of the joined heads.
    pub output: Linear,
    heads: usize,
}

linears!(MultiHeadAttention { q, k, v, output });

/// Keys and values of a memory: what a decoder keeps between steps.
#[derive(Debug, Clone)]
pub struct KeyValue {
    /// `[batch, tokens, d]`
    pub k: Tensor<3>,
    /// `[batch, tokens, d]`
    pub v: Tensor<3>,
}

impl KeyValue {
    /// These tokens followed by `next`'s.
    pub fn extended(self, next: Self) -> Self {
        Self { k: Tensor::cat(vec![self.k, next.k], 1), v: Tensor::cat(vec![self.v, next.v], 1) }
    }

    /// The same memory for a batch in which row `i` is this batch's row `rows[i]` (beams that change places).
    pub fn select(&self, rows: Tensor<1, Int>) -> Self {
        Self { k: self.k.clone().select(0, rows.clone()), v: self.v.clone().select(0, rows) }
    }

    /// Every row `times` times in a row: `[batch * times, …]`.
    pub fn repeat_rows(&self, times: usize) -> Self {
        let rows = |x: &Tensor<3>| {
            let [batch, tokens, d] = x.dims();
            x.clone().unsqueeze_dim::<4>(1).repeat_dim(1, times).reshape([batch * times, tokens, d])
        };
        Self { k: rows(&self.k), v: rows(&self.v) }
    }
}

/// Which keys a query must not look at.
#[derive(Debug, Clone, Default)]
#[allow(clippy::large_enum_variant, reason = "one a call, on the stack")]
pub enum Mask {
    /// None.
    #[default]
    Nothing,
    /// Those after its own place, where there are as many keys as queries.
    Causal,
    /// `[batch, tokens]`: those where it is true.
    Padding(Tensor<2, Bool>),
}

impl MultiHeadAttention {
    /// Attention of width `d` with `heads` heads; `d` must be a multiple of `heads`.
    pub fn init(d: usize, heads: usize, device: &Device) -> Self {
        let linear = || Linear::init(d, d, device);
        Self { q: linear(), k: linear(), v: linear(), output: linear(), heads }
    }

    /// Keys and values of `memory [batch, tokens, d]`.
    pub fn key_value(&self, memory: Tensor<3>) -> KeyValue {
        KeyValue { k: self.k.forward(memory.clone()), v: self.v.forward(memory) }
    }

    /// [`Self::key_value`] of the normed memory.
    pub fn normed_key_value(&self, norm: &LayerNorm, memory: Tensor<3>) -> KeyValue {
        KeyValue { k: self.k.normed(norm, memory.clone()), v: self.v.normed(norm, memory) }
    }

    /// softmax(q kᵀ / √d_head) v of `norm(x) [batch, tokens, d]` over a memory, plus `x`.
    pub fn residual(&self, norm: &LayerNorm, x: Tensor<3>, memory: &KeyValue, mask: &Mask) -> Tensor<3> {
        let q = self.q.normed(norm, x.clone());
        self.output.plus(self.heads(q, memory, mask), x)
    }

    /// softmax(q kᵀ / √d_head) v for `x [batch, tokens, d]` over a memory.
    pub fn attend(&self, x: Tensor<3>, memory: &KeyValue, mask: &Mask) -> Tensor<3> {
        self.output.forward(self.heads(self.q.forward(x), memory, mask))
    }

    /// Attention of `x [batch, tokens, d]` over itself.
    pub fn forward(&self, x: Tensor<3>, mask: &Mask) -> Tensor<3> {
        let memory = self.key_value(x.clone());
        self.attend(x, &memory, mask)
    }

    /// The joined heads, `[batch, tokens, d]`.
    fn heads(&self, q: Tensor<3>, memory: &KeyValue, mask: &Mask) -> Tensor<3> {
        let [batch, tokens, d] = q.dims();
        let [_, memory_tokens, _] = memory.k.dims();
        let device = q.device();
        let scale = ((d / self.heads) as f32).sqrt().recip();
        let hidden = match mask {
            Mask::Padding(padding) => Some(padding.clone()),
            Mask::Nothing | Mask::Causal => None,
        };
        let causal = matches!(mask, Mask::Causal);
        if !device.is_autodiff() {
            let options = AttentionOptions { heads: self.heads, kv_heads: self.heads, scale, causal, fast: false };
            let mask = hidden.map(|hidden| Tensor::<2>::zeros([batch, memory_tokens], &device).mask_fill(hidden, f32::NEG_INFINITY));
            return ocelli_ops::attention(q, memory.k.clone(), memory.v.clone(), mask, options);
        }
        // With gradients: operations that have one.
        let q = self.split(q).mul_scalar(scale);
        let mut scores = q.matmul(self.split(memory.k.clone()).swap_dims(2, 3)); // [batch, heads, tokens, memory tokens]
        let shape = scores.dims();
        if causal {
            let ahead = Tensor::<2, Bool>::tril_mask([tokens, tokens], 0, &device);
            scores = scores.mask_fill(ahead.unsqueeze::<4>().expand(shape), -1e9);
        }
        if let Some(hidden) = hidden {
            scores = scores.mask_fill(hidden.unsqueeze_dim::<3>(1).unsqueeze_dim::<4>(1).expand(shape), -1e9);
        }
        softmax(scores, 3).matmul(self.split(memory.v.clone())).swap_dims(1, 2).reshape([batch, tokens, d])
    }

    /// `[batch, tokens, d]` → `[batch, heads, tokens, d / heads]`
    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, d] = x.dims();
        x.reshape([batch, tokens, self.heads, d / self.heads]).swap_dims(1, 2)
    }
}

/// Padding after `lengths.len()` rows' lengths: `[batch, tokens]`, true at and after a row's length.
pub fn padding(lengths: &[usize], tokens: usize, device: &Device) -> Tensor<2, Bool> {
    let lengths: Vec<i32> = lengths.iter().map(|&n| n as i32).collect();
    let lengths = Tensor::<1, Int>::from_ints(lengths.as_slice(), device).unsqueeze_dim::<2>(1);
    let positions = Tensor::<1, Int>::arange(0..tokens as i64, device).unsqueeze::<2>();
    let [batch, _] = lengths.dims();
    let shape = [batch, tokens];
    positions.expand(shape).greater_equal(lengths.expand(shape))
}
