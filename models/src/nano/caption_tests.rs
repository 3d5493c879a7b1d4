use burn::tensor::Distribution;
use burn::tensor::activation::log_softmax;

use super::*;
use crate::nano::config::CaptionSearch;

const START: u32 = 1;
const END: u32 = 2;

fn small() -> CaptionerConfig {
    CaptionerConfig {
        vocabulary: 50,
        width: 32,
        hidden: 64,
        layers: 2,
        max_tokens: 12,
        joint: 16,
        support: 40,
        nearest: 5,
        ..CaptionerConfig::default()
    }
}

/// Random weights, larger than one would begin to train with: so that different sentences get different probabilities.
fn captioner(device: &Device) -> Captioner {
    device.seed(7);
    let mut captioner = Captioner::init(&small(), device);
    let noise = |shape: [usize; 2]| Param::from_tensor(Tensor::random(shape, Distribution::Normal(0.0, 1.0), device));
    captioner.tokens = noise([50, 32]);
    captioner.support = noise([40, 16]);
    captioner
}

fn picture(captioner: &Captioner, batch: usize, device: &Device) -> Tensor<3> {
    let random = |shape: [usize; 3]| Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
    let vectors = Tensor::random([batch, 16], Distribution::Normal(0.0, 1.0), device);
    let picture = captioner.picture_tokens(random([batch, 49, 1280]), random([batch, 196, 112]));
    Tensor::cat(vec![picture, captioner.vector_tokens(vectors)], 1)
}

/// Log-probabilities of `tokens` after the start token, from one pass over the whole sentence.
fn teacher_forced(captioner: &Captioner, memory: Tensor<3>, tokens: &[u32]) -> Vec<Vec<f32>> {
    let ids: Vec<i32> = [START].iter().chain(tokens).map(|&t| t as i32).collect();
    let ids = Tensor::<1, Int>::from_ints(ids.as_slice(), &memory.device()).reshape([1, ids.len()]);
    let x = captioner.decode(ids, &captioner.memory(memory)).squeeze_dim(0);
    let rows: Vec<f32> = log_softmax(captioner.logits(x), 1).into_data().try_into_vec().unwrap();
    rows.chunks(50).map(<[f32]>::to_vec).collect()
}

fn logprobs(mut logits: Vec<f32>) -> Vec<f32> {
    ocelli_ops::log_softmax_rows(&mut logits, 50);
    logits
}

/// Sums of a few hundred f32 products in another order.
const ROUNDING: f32 = 2e-4;

#[test]
fn cached_decoding_equals_uncached() {
    let device = Device::flex();
    let captioner = captioner(&device);
    let memory = picture(&captioner, 1, &device);
    let tokens = [5, 9, 3, 40, 22, 9, 9, 31];
    let expected = teacher_forced(&captioner, memory.clone(), &tokens);
    let mut state = captioner.start(memory);
    for (i, &token) in [START].iter().chain(&tokens).enumerate() {
        let row = logprobs(captioner.step(&[token], &mut state).unwrap());
        for (a, b) in row.iter().zip(&expected[i]) {
            assert!((a - b).abs() < ROUNDING, "position {i}: {a} {b}");
        }
    }
}

#[test]
fn beams_that_change_places_keep_their_past() {
    let device = Device::flex();
    let captioner = captioner(&device);
    let memory = picture(&captioner, 2, &device);
    let mut state = captioner.start(memory.clone());
    captioner.step(&[START; 2], &mut state).unwrap();
    captioner.reorder(&mut state, &[0, 0, 1, 1]);
    captioner.step(&[4, 5, 6, 7], &mut state).unwrap();
    captioner.reorder(&mut state, &[1, 0, 3, 3]);
    let rows = logprobs(captioner.step(&[8, 9, 10, 11], &mut state).unwrap());
    let of = |picture: usize| memory.clone().narrow(0, picture, 1);
    for (row, (picture, sentence)) in [(0, [5, 8]), (0, [4, 9]), (1, [7, 10]), (1, [7, 11])].into_iter().enumerate() {
        let expected = teacher_forced(&captioner, of(picture), &sentence);
        for (a, b) in rows[row * 50..].iter().zip(&expected[2]) {
            assert!((a - b).abs() < ROUNDING, "row {row}: {a} {b}");
        }
    }
}

#[test]
fn log_probabilities_are_those_of_a_teacher_forced_pass() {
    let device = Device::flex();
    let captioner = captioner(&device);
    let memory = picture(&captioner, 3, &device);
    let asked = ocelli_flow::GenerateOptions { max_tokens: Some(10), ..Default::default() };
    let specials = Specials { pad: 0, start: START, end: END };
    let (settings, search) = CaptionSearch::default().settings(&asked, specials, captioner.room()).unwrap();
    let found = captioner.captions(memory.clone(), START, &settings, &search).unwrap();
    assert_eq!(found.len(), 3);
    for (i, found) in found.into_iter().enumerate().flat_map(|(i, found)| found.into_iter().map(move |found| (i, found))) {
        let rows = teacher_forced(&captioner, memory.clone().narrow(0, i, 1), &found.tokens);
        let mut sum: f32 = found.tokens.iter().zip(&rows).map(|(&token, row)| row[token as usize]).sum();
        if found.logprobs.len() > found.tokens.len() {
            sum += rows[found.tokens.len()][END as usize];
        }
        assert!((sum - found.logprob()).abs() < 10.0 * ROUNDING, "{sum} {}", found.logprob());
    }
}

#[test]
fn captions_of_one_picture_share_its_memory() {
    let device = Device::flex();
    let captioner = captioner(&device);
    let memory = picture(&captioner, 2, &device);
    let ids = Tensor::<2, Int>::from_ints([[1, 5, 6], [1, 7, 8], [1, 9, 4], [1, 5, 3]], &device);
    let shared = captioner.decode(ids.clone(), &captioner.memory(memory.clone()));
    let repeated: Vec<KeyValue> = captioner.memory(memory).iter().map(|layer| layer.repeat_rows(2)).collect();
    let difference = (shared - captioner.decode(ids, &repeated)).abs().max().into_scalar::<f32>();
    assert!(difference < ROUNDING, "{difference}");
}

#[test]
fn a_vector_becomes_a_mean_of_its_nearest_texts() {
    let device = Device::flex();
    let config = CaptionerConfig { support: 3, nearest: 2, joint: 2, temperature: 0.1, ..small() };
    let mut captioner = Captioner::init(&config, &device);
    captioner.support = Param::from_tensor(Tensor::from_floats([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], &device));
    let found: Vec<f32> = captioner.nearest_texts(Tensor::from_floats([[0.8, 0.6]], &device)).into_data().try_into_vec().unwrap();
    // Weights e^8 : e^6, the third left out; then to length one.
    let (a, b) = (1.0, (-2.0f32).exp());
    let norm = (a * a + b * b).sqrt();
    assert!((found[0] - a / norm).abs() < 1e-5 && (found[1] - b / norm).abs() < 1e-5, "{found:?}");
}

#[test]
fn space_to_depth_keeps_neighbours_together() {
    let device = Device::flex();
    let x: Vec<f32> = (0..196).map(|cell| cell as f32).collect();
    let x = Tensor::<1>::from_floats(x.as_slice(), &device).reshape([1, 196, 1]);
    let y: Vec<f32> = space_to_depth(x).into_data().try_into_vec().unwrap();
    assert_eq!(y[..4], [0.0, 1.0, 14.0, 15.0]);
    assert_eq!(y[4 * 48..], [180.0, 181.0, 194.0, 195.0]);
}

#[test]
fn small_enough_to_embed() {
    let captioner = Captioner::init(&CaptionerConfig::default(), &Device::flex());
    let support = captioner.support.shape().num_elements();
    assert!((5_300_000..6_000_000).contains(&(captioner.num_params() - support)), "{}", captioner.num_params() - support);
}
