//! What an adapter adds to a linear layer (LoRA, Hu et al. 2021, <https://arxiv.org/abs/2106.09685>).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData, module};
use ocelli_flow::{Adapter, ModelError};
use ocelli_ops::Window;

use super::{Linears, Target};

/// x A B, scaled. Of a layer that is several of a checkpoint's, each has columns of its own of A, and B is made of blocks.
#[derive(Clone)]
pub struct LowRank {
    /// `[in, ranks]`
    a: Tensor<2>,
    /// `[ranks, out]`
    b: Tensor<2>,
}

impl fmt::Debug for LowRank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([inputs, rank], [_, outputs]) = (self.a.dims(), self.b.dims());
        write!(formatter, "LowRank({inputs}x{rank}x{outputs})")
    }
}

impl LowRank {
    /// For a layer `[inputs, outputs]`, which all parts fit.
    fn new(parts: &[&ocelli_flow::LowRank], [inputs, outputs]: [usize; 2], device: &Device) -> Self {
        let ranks: usize = parts.iter().map(|part| part.rank).sum();
        let (mut a, mut b) = (vec![0.0; inputs * ranks], vec![0.0; ranks * outputs]);
        let mut first = 0;
        for part in parts {
            for k in 0..part.rank {
                for i in 0..inputs {
                    a[i * ranks + first + k] = part.a[k * inputs + i];
                }
                for (row, o) in part.outputs.clone().enumerate() {
                    b[(first + k) * outputs + o] = part.b[row * part.rank + k];
                }
            }
            first += part.rank;
        }
        let tensor = |values, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), device);
        Self { a: tensor(a, [inputs, ranks]), b: tensor(b, [ranks, outputs]) }
    }

    /// `[..., in]` → `[..., out]`
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::linear(module::linear(x, self.a.clone(), None), self.b.clone(), None)
    }

    /// Of windows of pictures: `[batch, C, H, W]` → `[batch, windows, out]`
    pub(super) fn windows(&self, pictures: Tensor<4>, window: Window) -> Tensor<3> {
        let ([_, channels, ..], [_, ranks]) = (pictures.dims(), self.a.dims());
        let kernels = self.a.clone().transpose().reshape([ranks, channels, window.kernel, window.kernel]);
        let padding = [window.padding(window.height), window.padding(window.width)];
        let options = ConvOptions { stride: [window.stride; 2], padding, dilation: [1, 1], groups: 1 };
        let x = module::conv2d(pictures, kernels, None, options).flatten::<3>(2, 3).swap_dims(1, 2);
        module::linear(x, self.b.clone(), None)
    }
}

/// Puts an adapter on the linear layers of `network` in place of the one there is; `None` takes it off.
///
/// # Errors
/// Where a part is about no linear layer of it, or about one of another shape; everything stays as it was.
pub fn adapt(network: &mut impl Linears, adapter: Option<&Adapter>, device: &Device) -> Result<(), ModelError> {
    let mut parts: BTreeMap<&str, Vec<&ocelli_flow::LowRank>> = BTreeMap::new();
    if let Some(adapter) = adapter {
        adapter.parts.iter().for_each(|part| parts.entry(&part.tensor).or_default().push(part));
        check(network, adapter, &parts)?;
    }
    network.linears("", &mut |slot| {
        if let (Target::Linear(_, place), &[inputs, outputs]) = (slot.target, slot.shape) {
            // Behind no prefix, a path begins with a dot.
            let parts = parts.get(slot.name.trim_start_matches('.'));
            *place = parts.map(|parts| LowRank::new(parts, [inputs, outputs], device));
        }
    });
    Ok(())
}

fn check(network: &mut impl Linears, adapter: &Adapter, parts: &BTreeMap<&str, Vec<&ocelli_flow::LowRank>>) -> Result<(), ModelError> {
    let mut missing = parts.clone();
    let mut misfit = None;
    network.linears("", &mut |slot| {
        let name = slot.name.trim_start_matches('.');
        if let (Target::Linear(..), &[inputs, outputs]) = (&slot.target, slot.shape)
            && let Some(parts) = missing.remove(name)
            && let Some(part) = parts.into_iter().find(|part| !part.fits(inputs, outputs))
        {
            let Range { start, end } = part.outputs;
            let (rank, has) = (part.rank, part.inputs());
            misfit.get_or_insert(format!(
                "its part for {name} has rank {rank}, {has} inputs and outputs {start} to {end}, which do not fit [{inputs}, {outputs}]"
            ));
        }
    });
    let unknown = missing.keys().next().map(|name| format!("it is about {name}, which is no linear layer of this model"));
    misfit.or(unknown).map_or(Ok(()), |reason| Err(ModelError::Adapter { name: adapter.name.clone(), reason }))
}
