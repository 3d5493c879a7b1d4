//! The backbone's weights from a checkpoint of the PyTorch definition.
//!
//! Names are those of the package `efficientnet-lite-pytorch`, whose weights are Google's:
//!
//! | here | there | batch norm folded in |
//! |---|---|---|
//! | `stem` | `_conv_stem` | `_bn0` |
//! | `blocks.i.expand` | `_blocks.i._expand_conv` | `_blocks.i._bn0` |
//! | `blocks.i.depthwise` | `_blocks.i._depthwise_conv` | `_blocks.i._bn1` |
//! | `blocks.i.project` | `_blocks.i._project_conv` | `_blocks.i._bn2` |
//! | `head` | `_conv_head` | `_bn1` |
//! | `classifier` | `_fc` (transposed) | |

use std::collections::BTreeMap;

use burn::module::Param;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor, TensorData};

use super::backbone::Backbone;

/// The definition's `batch_norm_epsilon`.
const EPSILON: f32 = 1e-3;

/// Why a checkpoint is not one of EfficientNet-Lite0.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A tensor the network needs is not there.
    #[error("the checkpoint has no tensor `{0}`")]
    Missing(String),
    /// A tensor has another shape than the network's.
    #[error("tensor `{name}` has shape {found:?} where the network has {expected:?}")]
    Shape {
        /// Name in the checkpoint.
        name: String,
        /// What the network needs.
        expected: Vec<usize>,
        /// What the checkpoint has.
        found: Vec<usize>,
    },
    /// Tensors that the network does not have.
    #[error("the checkpoint has tensors that EfficientNet-Lite0 does not: {}", .0.join(", "))]
    Unused(Vec<String>),
}

/// A tensor of the checkpoint.
#[derive(Debug, Clone)]
pub struct Array {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

/// The tensors of a checkpoint by name.
pub type Checkpoint = BTreeMap<String, Array>;

/// A backbone with the checkpoint's weights. Every tensor is used once, and none is left (`num_batches_tracked` aside).
pub fn import(mut checkpoint: Checkpoint, device: &Device) -> Result<Backbone, ImportError> {
    let from = &mut checkpoint;
    let mut backbone = Backbone::init(device);
    fold(&mut backbone.stem, from, "_conv_stem", "_bn0")?;
    for (i, block) in backbone.blocks.iter_mut().enumerate() {
        if let Some(expand) = &mut block.expand {
            fold(expand, from, &format!("_blocks.{i}._expand_conv"), &format!("_blocks.{i}._bn0"))?;
        }
        fold(&mut block.depthwise, from, &format!("_blocks.{i}._depthwise_conv"), &format!("_blocks.{i}._bn1"))?;
        fold(&mut block.project, from, &format!("_blocks.{i}._project_conv"), &format!("_blocks.{i}._bn2"))?;
    }
    fold(&mut backbone.head, from, "_conv_head", "_bn1")?;
    linear(&mut backbone.classifier, from, "_fc")?;

    let unused: Vec<String> = checkpoint.into_keys().filter(|name| !name.ends_with("num_batches_tracked")).collect();
    if unused.is_empty() { Ok(backbone) } else { Err(ImportError::Unused(unused)) }
}

/// Batch norm after a convolution, γ (w∗x − μ) / √(σ² + ε) + β, is a convolution again: with s = γ / √(σ² + ε),
/// (s w)∗x + (β − s μ).
fn fold(conv: &mut Conv2d, from: &mut Checkpoint, name: &str, norm: &str) -> Result<(), ImportError> {
    let shape = conv.weight.dims();
    let device = conv.weight.device();
    let channels = shape[0];
    let mut weight = take(from, &format!("{name}.weight"), &shape)?;
    let gamma = take(from, &format!("{norm}.weight"), &[channels])?;
    let beta = take(from, &format!("{norm}.bias"), &[channels])?;
    let mean = take(from, &format!("{norm}.running_mean"), &[channels])?;
    let variance = take(from, &format!("{norm}.running_var"), &[channels])?;

    let mut bias = beta;
    for (c, kernel) in weight.chunks_mut(shape[1] * shape[2] * shape[3]).enumerate() {
        let scale = gamma[c] / (variance[c] + EPSILON).sqrt();
        kernel.iter_mut().for_each(|w| *w *= scale);
        bias[c] -= scale * mean[c];
    }
    conv.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weight, shape), &device));
    conv.bias = Some(Param::from_tensor(Tensor::from_data(TensorData::new(bias, [channels]), &device)));
    Ok(())
}

/// PyTorch keeps a linear layer's weight as `[output, input]`, burn as `[input, output]`.
fn linear(layer: &mut Linear, from: &mut Checkpoint, name: &str) -> Result<(), ImportError> {
    let [input, output] = layer.weight.dims();
    let device = layer.weight.device();
    let weight = take(from, &format!("{name}.weight"), &[output, input])?;
    let bias = take(from, &format!("{name}.bias"), &[output])?;
    let weight = Tensor::<2>::from_data(TensorData::new(weight, [output, input]), &device).transpose();
    layer.weight = Param::from_tensor(weight);
    layer.bias = Some(Param::from_tensor(Tensor::from_data(TensorData::new(bias, [output]), &device)));
    Ok(())
}

fn take(from: &mut Checkpoint, name: &str, expected: &[usize]) -> Result<Vec<f32>, ImportError> {
    let Array { shape, values } = from.remove(name).ok_or_else(|| ImportError::Missing(name.to_owned()))?;
    if shape != expected || values.len() != expected.iter().product::<usize>() {
        return Err(ImportError::Shape { name: name.to_owned(), expected: expected.to_vec(), found: shape });
    }
    Ok(values)
}
