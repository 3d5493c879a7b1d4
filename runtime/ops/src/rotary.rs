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
        let steps: Vec<f64> = (0..pairs).map(|i| base.powf(-2.0 * i as f64 / dim as f64)).collect();
        let (mut cos, mut sin) = (Vec::with_capacity(positions * pairs), Vec::with_capacity(positions * pairs));
        for position in 0..positions {
            for step in &steps {
                let (s, c) = (position as f64 * step).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, [positions, pairs]), device);
        Self { cos: table(cos), sin: table(sin) }
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
