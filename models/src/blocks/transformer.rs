//! Transformer layers with the norm before each block (pre-LN, Xiong et al. 2020, <https://arxiv.org/abs/2002.04745>).
//!
//! Dropout acts on the residual branches, and only while gradients are recorded.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Int, Tensor};

use super::{FeedForward, KeyValue, LayerNorm, Mask, MultiHeadAttention};
use crate::linears;

/// Self-attention and feed-forward.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Before the attention.
    pub attention_norm: LayerNorm,
    /// Over all tokens.
    pub attention: MultiHeadAttention,
    /// Before the feed-forward network.
    pub feed_forward_norm: LayerNorm,
    /// Token by token.
    pub feed_forward: FeedForward,
    dropout: Dropout,
}

linears!(EncoderLayer { attention, feed_forward });

impl EncoderLayer {
    /// A layer of width `d`.
    pub fn init(d: usize, heads: usize, hidden: usize, dropout: f64, device: &Device) -> Self {
        Self {
            attention_norm: LayerNorm::init(d, device),
            attention: MultiHeadAttention::init(d, heads, device),
            feed_forward_norm: LayerNorm::init(d, device),
            feed_forward: FeedForward::init(d, hidden, device),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    /// The same with ReLU in the feed-forward network.
    pub fn with_relu(self) -> Self {
        Self { feed_forward: self.feed_forward.with_relu(), ..self }
    }

    /// `[batch, tokens, d]` → the same.
    pub fn forward(&self, x: Tensor<3>, mask: &Mask) -> Tensor<3> {
        if !x.device().is_autodiff() {
            let memory = self.attention.normed_key_value(&self.attention_norm, x.clone());
            let x = self.attention.residual(&self.attention_norm, x, &memory, mask);
            return self.feed_forward.residual(&self.feed_forward_norm, x);
        }
        let y = self.attention.forward(self.attention_norm.forward(x.clone()), mask);
        let x = x + self.dropout.forward(y);
        let y = self.feed_forward.forward(self.feed_forward_norm.forward(x.clone()));
        x + self.dropout.forward(y)
    }
}

/// Causal self-attention, attention over a memory, and feed-forward.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Before the self-attention.
    pub attention_norm: LayerNorm,
    /// Over the tokens so far.
    pub attention: MultiHeadAttention,
    /// Before the cross-attention.
    pub cross_norm: LayerNorm,
    /// Over the memory.
    pub cross: MultiHeadAttention,
    /// Before the feed-forward network.
    pub feed_forward_norm: LayerNorm,
    /// Token by token.
    pub feed_forward: FeedForward,
    dropout: Dropout,
}

/// What a decoder layer keeps between steps.
#[derive(Debug, Clone)]
pub struct DecoderState {
    /// Keys and values of the memory, computed once.
    pub cross: KeyValue,
    /// Keys and values of the tokens so far; `None` before the first.
    pub past: Option<KeyValue>,
}

impl DecoderState {
    /// The state of a batch in which row `i` is this batch's row `rows[i]`. The memory's rows stay: only beams of one memory change places.
    pub fn select_past(self, rows: Tensor<1, Int>) -> Self {
        Self { past: self.past.map(|past| past.select(rows)), cross: self.cross }
    }
}

linears!(DecoderLayer { attention, cross, feed_forward });

impl DecoderLayer {
    /// A layer of width `d`.
    pub fn init(d: usize, heads: usize, hidden: usize, dropout: f64, device: &Device) -> Self {
        Self {
            attention_norm: LayerNorm::init(d, device),
            attention: MultiHeadAttention::init(d, heads, device),
            cross_norm: LayerNorm::init(d, device),
            cross: MultiHeadAttention::init(d, heads, device),
            feed_forward_norm: LayerNorm::init(d, device),
            feed_forward: FeedForward::init(d, hidden, device),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    /// The same with ReLU in the feed-forward network.
    pub fn with_relu(self) -> Self {
        Self { feed_forward: self.feed_forward.with_relu(), ..self }
    }

    /// All tokens at once: `x [batch, tokens, d]` over `memory`, each over those up to its own. The batch must be a multiple of the memory's.
    pub fn forward(&self, x: Tensor<3>, memory: &KeyValue) -> Tensor<3> {
        let y = self.attention.forward(self.attention_norm.forward(x.clone()), &Mask::Causal);
        let x = x + self.dropout.forward(y);
        self.finish(x, memory)
    }

    /// One token a row: `x [batch, 1, d]`; `state` grows by it.
    pub fn step(&self, x: Tensor<3>, state: &mut DecoderState) -> Tensor<3> {
        let next = self.attention.normed_key_value(&self.attention_norm, x.clone());
        let past = match state.past.take() {
            Some(past) => past.extended(next),
            None => next,
        };
        let x = self.attention.residual(&self.attention_norm, x, &past, &Mask::Nothing);
        state.past = Some(past);
        self.finish(x, &state.cross)
    }

    /// Attention over the memory, and the feed-forward network.
    ///
    /// The memory may have fewer rows than `x`: then as many neighbouring rows of `x` share each (the captions of a picture, the beams of
    /// a search). They are laid side by side as queries of one row, so that nothing of the memory is repeated.
    fn finish(&self, x: Tensor<3>, memory: &KeyValue) -> Tensor<3> {
        let [rows, tokens, d] = x.dims();
        let memories = memory.k.dims()[0];
        let side_by_side = [memories, rows / memories * tokens, d];
        if !x.device().is_autodiff() {
            let x = self.cross.residual(&self.cross_norm, x.reshape(side_by_side), memory, &Mask::Nothing);
            return self.feed_forward.residual(&self.feed_forward_norm, x.reshape([rows, tokens, d]));
        }
        let q = self.cross_norm.forward(x.clone()).reshape(side_by_side);
        let y = self.cross.attend(q, memory, &Mask::Nothing).reshape([rows, tokens, d]);
        let x = x + self.dropout.forward(y);
        let y = self.feed_forward.forward(self.feed_forward_norm.forward(x.clone()));
        x + self.dropout.forward(y)
    }
}
