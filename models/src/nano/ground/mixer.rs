//! Neighbouring cells: a depthwise 5×5 convolution and a feed-forward network, in the manner of ConvNeXt
//! (Liu et al. 2022, <https://arxiv.org/abs/2201.03545>, section 2.6).

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor, TensorData};

use super::{CELLS, SIDE};
use crate::blocks::{FeedForward, LayerNorm};
use crate::linears;

const KERNEL: usize = 5;
const REACH: usize = KERNEL / 2;

/// `x + feed_forward(norm(depthwise(x)))`
#[derive(Debug, Module)]
pub struct Mixer {
    /// One 5×5 kernel a channel.
    pub depthwise: Conv2d,
    /// Before the feed-forward network.
    pub norm: LayerNorm,
    /// Cell by cell.
    pub feed_forward: FeedForward,
}

linears!(Mixer { feed_forward });

impl Mixer {
    /// A block of width `d`.
    pub fn init(d: usize, device: &Device) -> Self {
        let depthwise = Conv2dConfig::new([d, d], [KERNEL, KERNEL]).with_groups(d).with_padding(PaddingConfig2d::Same);
        Self {
            depthwise: depthwise.init(device),
            norm: LayerNorm::init(d, device),
            feed_forward: FeedForward::init(d, 2 * d, device).with_relu(),
        }
    }

    /// `[batch, CELLS, d]` → the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let mixed = if x.device().is_autodiff() { self.as_products(x.clone()) } else { self.as_convolution(x.clone()) };
        x + self.feed_forward.forward_normed(&self.norm, mixed)
    }

    fn as_convolution(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, _, d] = x.dims();
        let map = x.swap_dims(1, 2).reshape([batch, d, SIDE, SIDE]);
        self.depthwise.forward(map).reshape([batch, d, CELLS]).swap_dims(1, 2)
    }

    /// The same as one matrix product a channel: `y[c] = T(w[c]) x[c]`, where `T` places a kernel's weights in a matrix from cells to cells.
    ///
    /// For training: the gradient of a depthwise convolution is computed channel by channel, which takes many times as long as the rest of the head.
    fn as_products(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, _, d] = x.dims();
        let weights = self.depthwise.weight.val().reshape([d, KERNEL * KERNEL]);
        let matrices = weights.matmul(placement(&x.device())).reshape([d, CELLS, CELLS]);
        let y = matrices.matmul(x.permute([2, 1, 0])).permute([2, 1, 0]); // [batch, CELLS, d]
        match &self.depthwise.bias {
            Some(bias) => y + bias.val().unsqueeze::<3>(),
            None => y,
        }
    }
}

/// Which weight of the kernel leads from which cell to which: `[25, CELLS * CELLS]`, ones and zeros.
fn placement(device: &Device) -> Tensor<2> {
    let mut places = vec![0.0f32; KERNEL * KERNEL * CELLS * CELLS];
    for to in 0..CELLS {
        for (dy, dx) in (0..KERNEL * KERNEL).map(|k| (k / KERNEL, k % KERNEL)) {
            let (y, x) = (to / SIDE + dy, to % SIDE + dx);
            let inside = |v: usize| (REACH..SIDE + REACH).contains(&v);
            if inside(y) && inside(x) {
                let from = (y - REACH) * SIDE + x - REACH;
                places[((dy * KERNEL + dx) * CELLS + to) * CELLS + from] = 1.0;
            }
        }
    }
    Tensor::from_data(TensorData::new(places, [KERNEL * KERNEL, CELLS * CELLS]), device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn both_ways_are_the_same_convolution() {
        let device = Device::flex();
        let mixer = Mixer::init(32, &device);
        let x = Tensor::random([3, CELLS, 32], Distribution::Normal(0.0, 1.0), &device);
        let difference = (mixer.as_convolution(x.clone()) - mixer.as_products(x)).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-4, "{difference}");
    }
}
