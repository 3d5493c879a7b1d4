//! Angles of rotary position embedding.

use burn::tensor::{Device, Tensor, TensorData};

/// Cosines and sines of every position's angles (Su et al. 2021, <https://arxiv.org/abs/2104.09864>).
#[derive(Debug, Clone)]
pub struct RotaryTable {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl RotaryTable {
    /// Angles position · base^(−2 i / dim) for heads of `dim`.
    pub fn new(positions: usize, dim: usize, base: f64, device: &Device) -> Self {
        let pairs = dim / 2;
        let angle = |i: usize| (i / pairs) as f64 * base.powf(-2.0 * (i % pairs) as f64 / dim as f64);
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..positions * pairs).map(|i| f(angle(i)) as f32).collect();
            Tensor::from_data(TensorData::new(values, [positions, pairs]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Positions there are.
    pub fn positions(&self) -> usize {
        self.cos.dims()[0]
    }
}

impl RotaryTable {
    /// Cosines and sines of `tokens` positions from `first` on.
    pub(crate) fn rows(&self, first: usize, tokens: usize) -> [Tensor<2>; 2] {
        [&self.cos, &self.sin].map(|table| table.clone().narrow(0, first, tokens))
    }
}
