//! Cross-entropy with label smoothing over the words of a batch.

use anyhow::{Result, anyhow};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_models::nano::caption::{Captioner, Specials};
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

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Distribution;
    use burn::tensor::activation::log_softmax;
    use ocelli_models::nano::caption::CaptionerConfig;

    use super::*;

    /// The loss as its definition has it, left to autodiff.
    fn plain(module: &Captioner, memory: Tensor<3>, sentences: &[Vec<u32>], specials: Specials, smoothing: f32) -> Tensor<1> {
        let device = memory.device();
        let (mut sum, mut words) = (Tensor::<1>::zeros([1], &device), 0);
        for (row, sentence) in sentences.iter().enumerate() {
            let ids: Vec<i32> = [specials.start].iter().chain(sentence).map(|&id| id as i32).collect();
            let memory = module.memory(memory.clone().narrow(0, row / 2, 1));
            let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), &device).reshape([1, ids.len()]);
            let logprobs = log_softmax(module.logits(module.decode(ids, &memory).squeeze_dim(0)), 1);
            for (i, &target) in sentence.iter().chain([&specials.end]).enumerate() {
                let row = logprobs.clone().narrow(0, i, 1);
                let right = row.clone().slice([0..1, target as usize..target as usize + 1]).reshape([1]);
                sum = sum - right * (1.0 - smoothing) - row.mean() * smoothing;
                words += 1;
            }
        }
        sum / words
    }

    #[test]
    fn the_gradient_is_that_of_the_smoothed_cross_entropy() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let config = CaptionerConfig {
            vocabulary: 20,
            width: 16,
            hidden: 16,
            layers: 2,
            joint: 8,
            support: 4,
            dropout: 0.0,
            ..CaptionerConfig::default()
        };
        let module = Captioner::init(&config, &device);
        let memory = Tensor::random([2, 3, 16], Distribution::Normal(0.0, 1.0), &device);
        let sentences = vec![vec![3, 4, 5], vec![6], vec![7, 7, 8, 9], vec![10, 3]];
        let specials = Specials { pad: 0, start: 1, end: 2 };

        let (loss, surrogate) = loss(&module, memory.clone(), &sentences, specials, 0.1, &device).unwrap();
        let unsmoothed = plain(&module, memory.clone(), &sentences, specials, 0.0).into_scalar::<f32>();
        assert!((loss - f64::from(unsmoothed)).abs() < 1e-5, "{loss} {unsmoothed}");

        let mut ours = surrogate.backward();
        let mut theirs = plain(&module, memory, &sentences, specials, 0.1).backward();
        let same = |name: &str, ours: Option<Vec<f32>>, theirs: Option<Vec<f32>>| {
            let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
            assert!(theirs.iter().any(|x| x.abs() > 1e-4), "{name} has no gradient to speak of");
            ours.iter().zip(&theirs).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{name}: {a} {b}"));
        };
        let values = |x: Option<Tensor<2>>| x.map(|x| x.into_data().iter::<f32>().collect());
        same("tokens", values(module.tokens.val().grad_remove(&mut ours)), values(module.tokens.val().grad_remove(&mut theirs)));
        let up = |layer: usize| module.layers[layer].feed_forward.up.weight.val();
        same("up", values(up(0).grad_remove(&mut ours)), values(up(0).grad_remove(&mut theirs)));
        let bias = |gradients| module.bias.val().grad_remove(gradients).map(|x| x.into_data().iter::<f32>().collect());
        same("bias", bias(&mut ours), bias(&mut theirs));
        assert!(module.num_params() > 0);
    }
}
