//! Angles of rotary position embedding.

use burn::tensor::{Device, Tensor, TensorData};

/// How fast the pairs of a head turn from a position to the next (Su et al. 2021, <https://arxiv.org/abs/2104.09864>).
#[derive(Debug, Clone)]
pub struct Rotary {
    steps: Vec<f64>,
}

/// Cosines and sines of some positions' angles, `[positions, dim / 2]` each.
#[derive(Debug, Clone)]
pub struct Angles {
    pub(crate) cos: Tensor<2>,
    pub(crate) sin: Tensor<2>,
}

impl Rotary {
    /// Angles position · base^(−2 i / dim) for heads of `dim`.
    pub fn new(dim: usize, base: f64) -> Self {
        Self { steps: (0..dim / 2).map(|i| base.powf(-2.0 * i as f64 / dim as f64)).collect() }
    }

    /// Those of `count` positions from `first` on. For every token they are needed once, in whatever many layers: far less than a table of all
    /// the positions that a model may have would take, of memory and of a start's time.
    pub fn angles(&self, first: usize, count: usize, device: &Device) -> Angles {
        let pairs = self.steps.len();
        let (mut cos, mut sin) = (Vec::with_capacity(count * pairs), Vec::with_capacity(count * pairs));
        for position in first..first + count {
            for step in &self.steps {
                let (s, c) = (position as f64 * step).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, [count, pairs]), device);
        Angles { cos: table(cos), sin: table(sin) }
    }
}
