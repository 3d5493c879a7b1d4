//! Multi-head attention (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>, section 3.2.2).

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor, activation::softmax};

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

/// Keys and values of a memory, split by head: what a decoder keeps between steps.
#[derive(Debug, Clone)]
pub struct KeyValue {
    /// `[batch, heads, tokens, d / heads]`
    pub k: Tensor<4>,
    /// `[batch, heads, tokens, d / heads]`
    pub v: Tensor<4>,
}

impl KeyValue {
    /// These tokens followed by `next`'s.
    pub fn extended(self, next: Self) -> Self {
        Self { k: Tensor::cat(vec![self.k, next.k], 2), v: Tensor::cat(vec![self.v, next.v], 2) }
    }

    /// The same memory for a batch in which row `i` is this batch's row `rows[i]` (beams that change places).
    pub fn select(&self, rows: Tensor<1, Int>) -> Self {
        Self { k: self.k.clone().select(0, rows.clone()), v: self.v.clone().select(0, rows) }
    }

    /// Every row `times` times in a row: `[batch * times, …]`.
    pub fn repeat_rows(&self, times: usize) -> Self {
        let rows = |x: &Tensor<4>| {
            let [batch, heads, tokens, width] = x.dims();
            x.clone().unsqueeze_dim::<5>(1).repeat_dim(1, times).reshape([batch * times, heads, tokens, width])
        };
        Self { k: rows(&self.k), v: rows(&self.v) }
    }
}

impl MultiHeadAttention {
    /// Attention of width `d` with `heads` heads; `d` must be a multiple of `heads`.
    pub fn init(d: usize, heads: usize, device: &Device) -> Self {
        let linear = || LinearConfig::new(d, d).init(device);
        Self { q: linear(), k: linear(), v: linear(), output: linear(), heads }
    }

    /// Keys and values of `memory [batch, tokens, d]`.
    pub fn key_value(&self, memory: Tensor<3>) -> KeyValue {
        KeyValue { k: self.split(self.k.forward(memory.clone())), v: self.split(self.v.forward(memory)) }
    }

    /// softmax(q kᵀ / √d_head) v for `x [batch, tokens, d]` over a memory.
    ///
    /// `mask` is true where a query must not look, and broadcasts to `[batch, heads, tokens, memory tokens]`.
    pub fn attend(&self, x: Tensor<3>, memory: &KeyValue, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let [batch, tokens, d] = x.dims();
        let scale = ((d / self.heads) as f64).sqrt().recip();
        let q = self.split(self.q.forward(x)).mul_scalar(scale);
        let mut scores = q.matmul(memory.k.clone().swap_dims(2, 3)); // [batch, heads, tokens, memory tokens]
        if let Some(mask) = mask {
            let shape = scores.dims();
            scores = scores.mask_fill(mask.expand(shape), -1e9);
        }
        let joined = softmax(scores, 3).matmul(memory.v.clone()).swap_dims(1, 2).reshape([batch, tokens, d]);
        self.output.forward(joined)
    }

    /// Attention of `x [batch, tokens, d]` over itself.
    pub fn forward(&self, x: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let memory = self.key_value(x.clone());
        self.attend(x, &memory, mask)
    }

    /// `[batch, tokens, d]` → `[batch, heads, tokens, d / heads]`
    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, d] = x.dims();
        x.reshape([batch, tokens, self.heads, d / self.heads]).swap_dims(1, 2)
    }
}

/// Forbids looking ahead: `[1, 1, tokens, tokens]`, true above the diagonal.
pub fn causal_mask(tokens: usize, device: &Device) -> Tensor<4, Bool> {
    Tensor::<2, Bool>::tril_mask([tokens, tokens], 0, device).unsqueeze()
}

/// Forbids looking at padding: `lengths.len()` rows `[batch, 1, 1, tokens]`, true at and after a row's length.
pub fn padding_mask(lengths: &[usize], tokens: usize, device: &Device) -> Tensor<4, Bool> {
    let lengths: Vec<i32> = lengths.iter().map(|&n| n as i32).collect();
    let lengths = Tensor::<1, Int>::from_ints(lengths.as_slice(), device).unsqueeze_dim::<2>(1);
    let positions = Tensor::<1, Int>::arange(0..tokens as i64, device).unsqueeze::<2>();
    let [batch, _] = lengths.dims();
    let shape = [batch, tokens];
    positions.expand(shape).greater_equal(lengths.expand(shape)).unsqueeze_dim::<3>(1).unsqueeze_dim(1)
}
