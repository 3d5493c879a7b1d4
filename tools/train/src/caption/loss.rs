//! Cross-entropy with label smoothing over the words of a batch.

use anyhow::{Result, anyhow};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_models::nano::caption::Captioner;
use ocelli_models::text::Specials;
use rayon::prelude::*;

/// The mean cross-entropy of the sentences' words (without smoothing), and a scalar whose gradient is that of the smoothed loss.
///
/// The output layer is most of a step: thousands of words times the vocabulary. Its gradient is softmax minus target, so it is
/// written out here on plain tensors, for the words only and not for padding, and handed to autodiff as a constant: with `g` the loss's
/// gradient at a tensor `x`, `sum(x · g)` has that gradient.
pub fn loss(
    module: &Captioner,
    memory: Tensor<3>,
    sentences: &[Vec<u32>],
    specials: Specials,
    smoothing: f32,
    device: &Device,
) -> Result<(f64, Tensor<1>)> {
    let tokens = sentences.iter().map(Vec::len).max().unwrap_or(0) + 1;
    let mut ids = vec![specials.pad as i32; sentences.len() * tokens];
    let (mut words, mut targets) = (Vec::new(), Vec::new()); // which positions have a target, and it
    for (row, sentence) in sentences.iter().enumerate() {
        ids[row * tokens] = specials.start as i32;
        for (i, &id) in sentence.iter().enumerate() {
            ids[row * tokens + i + 1] = id as i32;
        }
        words.extend((0..=sentence.len()).map(|i| (row * tokens + i) as i32));
        targets.extend(sentence.iter().copied().chain([specials.end]));
    }
    let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), device).reshape([sentences.len(), tokens]);
    let x = module.decode(ids, &module.memory(memory)); // [sentences, tokens, width]
    let [rows, tokens, width] = x.dims();
    let x = x.reshape([rows * tokens, width]).select(0, Tensor::<1, Int>::from_ints(words.as_slice(), device)); // [words, width]

    let (x_value, table, bias) = (x.clone().inner(), module.tokens.val().inner(), module.bias.val().inner());
    let logits = x_value.clone().matmul(table.clone().transpose()) + bias.unsqueeze::<2>();
    let [count, vocabulary] = logits.dims();
    let mut gradient: Vec<f32> = softmax(logits, 1).into_data().try_into_vec().map_err(|error| anyhow!("{error:?}"))?;
    let (scale, each) = (1.0 / count as f32, smoothing / vocabulary as f32);
    let total: f64 = gradient
        .par_chunks_mut(vocabulary)
        .zip(&targets)
        .map(|(row, &target)| {
            let loss = -f64::from(row[target as usize].max(1e-20)).ln();
            row.iter_mut().for_each(|p| *p = (*p - each) * scale);
            row[target as usize] -= (1.0 - smoothing) * scale;
            loss
        })
        .sum();
    let gradient = Tensor::<2>::from_data(TensorData::new(gradient, [count, vocabulary]), &x_value.device());
    let at_x = Tensor::from_inner(gradient.clone().matmul(table));
    let at_table = Tensor::from_inner(gradient.clone().transpose().matmul(x_value));
    let at_bias = Tensor::<1>::from_inner(gradient.sum_dim(0).reshape([vocabulary]));
    let surrogate = (x * at_x).sum() + (module.tokens.val() * at_table).sum() + (module.bias.val() * at_bias).sum();
    Ok((total / count as f64, surrogate))
}
