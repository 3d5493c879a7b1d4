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
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor, TensorData};

use crate::blocks::Linear;

use super::backbone::{Backbone, CLASSES, HEAD, STAGES};

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

/// Every tensor of a checkpoint with its shape (but for the `num_batches_tracked` of each batch norm, which say nothing).
pub fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    let mut conv = |name: String, norm: String, shape: [usize; 4]| {
        tensors.push((format!("{name}.weight"), shape.to_vec()));
        tensors.extend(["weight", "bias", "running_mean", "running_var"].map(|part| (format!("{norm}.{part}"), vec![shape[0]])));
    };
    conv("_conv_stem".into(), "_bn0".into(), [STAGES[0].input, 3, 3, 3]);
    let mut i = 0;
    for stage in &STAGES {
        for repeat in 0..stage.repeats {
            let input = if repeat == 0 { stage.input } else { stage.output };
            let inner = input * stage.expansion;
            let block = format!("_blocks.{i}");
            if stage.expansion > 1 {
                conv(format!("{block}._expand_conv"), format!("{block}._bn0"), [inner, input, 1, 1]);
            }
            conv(format!("{block}._depthwise_conv"), format!("{block}._bn1"), [inner, 1, stage.kernel, stage.kernel]);
            conv(format!("{block}._project_conv"), format!("{block}._bn2"), [stage.output, inner, 1, 1]);
            i += 1;
        }
    }
    conv("_conv_head".into(), "_bn1".into(), [HEAD, STAGES[6].output, 1, 1]);
    tensors.push(("_fc.weight".into(), vec![CLASSES, HEAD]));
    tensors.push(("_fc.bias".into(), vec![CLASSES]));
    tensors
}

/// Every tensor of the table is there in its shape, and there is no other.
fn check(checkpoint: &Checkpoint) -> Result<(), ImportError> {
    let table: BTreeMap<String, Vec<usize>> = tensors().into_iter().collect();
    for (name, expected) in &table {
        let array = checkpoint.get(name).ok_or_else(|| ImportError::Missing(name.clone()))?;
        if array.shape != *expected || array.values.len() != expected.iter().product::<usize>() {
            return Err(ImportError::Shape { name: name.clone(), expected: expected.clone(), found: array.shape.clone() });
        }
    }
    let known = |name: &str| table.contains_key(name) || name.ends_with(".num_batches_tracked");
    let unused: Vec<String> = checkpoint.keys().filter(|name| !known(name)).cloned().collect();
    if unused.is_empty() { Ok(()) } else { Err(ImportError::Unused(unused)) }
}

/// A backbone with the checkpoint's weights, batch norm folded in.
pub fn import(mut checkpoint: Checkpoint, device: &Device) -> Result<Backbone, ImportError> {
    check(&checkpoint)?;
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
    Ok(backbone)
}

/// Batch norm after a convolution, γ (w∗x − μ) / √(σ² + ε) + β, is a convolution again: with s = γ / √(σ² + ε),
/// (s w)∗x + (β − s μ).
fn fold(conv: &mut Conv2d, from: &mut Checkpoint, name: &str, norm: &str) -> Result<(), ImportError> {
    let shape = conv.weight.dims();
    let device = conv.weight.device();
    let channels = shape[0];
    let mut weight = take(from, &format!("{name}.weight"))?;
    let gamma = take(from, &format!("{norm}.weight"))?;
    let beta = take(from, &format!("{norm}.bias"))?;
    let mean = take(from, &format!("{norm}.running_mean"))?;
    let variance = take(from, &format!("{norm}.running_var"))?;

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
    let weight = take(from, &format!("{name}.weight"))?;
    let bias = take(from, &format!("{name}.bias"))?;
    let weight = Tensor::<2>::from_data(TensorData::new(weight, [output, input]), &device).transpose();
    layer.weight = Param::from_tensor(weight);
    layer.bias = Some(Param::from_tensor(Tensor::from_data(TensorData::new(bias, [output]), &device)));
    Ok(())
}

fn take(from: &mut Checkpoint, name: &str) -> Result<Vec<f32>, ImportError> {
    from.remove(name).map(|array| array.values).ok_or_else(|| ImportError::Missing(name.to_owned()))
}
