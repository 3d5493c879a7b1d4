//! The GPU, or Mesa's lavapipe in its place, against burn-flex: one transformer layer of an encoder and one of a decoder.
//!
//! Where there is no adapter these tests say so and pass; with OCELLI_EXPECT_GPU set they fail.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::blocks::RmsNorm;
use ocelli_models::blocks::vit::ViTLayer;
use ocelli_models::blocks::{LayerNorm, Linear};
use ocelli_models::llama::decoder::Layer;
use ocelli_models::llama::{Decoder, DecoderConfig};
use ocelli_ops::quant::exact_rows;
use ocelli_ops::{
    Activation, After, Depthwise, DepthwiseWeight, DeviceChoice, DeviceError, GroupBits, OwnedGroups, OwnedInt8, Packed, Pointwise, Window,
    select,
};

/// Activations are around one and sums are of at most 96 products, so floats leave some 1e-6.
///
/// Beside weights of integers activations are rounded, and one that lies near a tie may fall one way here and the other way there: it then
/// differs by a step, 1/127 of the greatest of its row. That moves the next activations, some of which fall the other way in turn. Even if
/// all did, the greatest difference would stay below: what is added last are 48 or 96 products of weights of N(0, 0.02) and hidden values of
/// at most 0.4, whose steps are 0.003. A difference of two roundings has a deviation of 0.4 steps, so the sum has one of
/// 0.4 · 0.003 · 0.02 · √48 = 2e-4; of some thousand values the greatest is four times that. Steps before, of 0.028 where a norm makes
/// the greatest 3.5, pass through two such products and end below 1e-4.
const TOLERANCE: f32 = 1e-3;

/// A driver that hangs fails a test, it does not stop all of them. lavapipe compiles a shader in up to half a second, and a slow
/// machine takes some hundred of them.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
enum Weights {
    F32,
    Int8,
    Int8Groups,
    Int4,
}

/// Deterministic numbers of N(0, 1), nearly: sums of twelve uniform ones.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    fn normal(&mut self, len: usize, deviation: f32) -> Vec<f32> {
        (0..len).map(|_| ((0..12).map(|_| self.uniform()).sum::<f32>() - 6.0) * deviation).collect()
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D], deviation: f32, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.normal(shape.iter().product(), deviation), shape), device)
    }

    fn packed(&mut self, k: usize, n: usize, weights: Weights, device: &Device) -> Packed {
        let floats = self.normal(n * k, 0.02);
        match weights {
            Weights::F32 => Packed::from_floats(n, k, &floats, device),
            Weights::Int8 => Packed::from_int8(OwnedInt8::quantize(n, k, &floats).unwrap(), device),
            Weights::Int8Groups => Packed::from_groups(OwnedGroups::quantize(n, k, GroupBits::Int8, &floats).unwrap(), device),
            Weights::Int4 => Packed::from_groups(OwnedGroups::quantize(n, k, GroupBits::Int4, &floats).unwrap(), device),
        }
        .unwrap()
    }

    fn linear(&mut self, k: usize, n: usize, bias: bool, weights: Weights, device: &Device) -> Linear {
        let weight = self.packed(k, n, weights, device);
        let bias = bias.then(|| self.tensor([n], 0.02, device));
        Linear::packed(weight, bias, device)
    }
}

/// What `compute` says on the CPU and on the GPU, within [`LIMIT`]; nothing where there is no adapter.
pub fn on_both<T: Send + 'static>(name: &str, compute: impl Fn(&Device) -> T + Send + 'static) -> Option<(T, T)> {
    let (sender, receiver) = channel();
    let worker = thread::spawn(move || {
        let result = select(DeviceChoice::Gpu).map(|gpu| (compute(&select(DeviceChoice::Cpu).unwrap()), compute(&gpu)));
        let _ = sender.send(result);
    });
    match receiver.recv_timeout(LIMIT) {
        Ok(Ok(both)) => Some(both),
        Ok(Err(DeviceError::NoAdapter { reason })) if std::env::var_os("OCELLI_EXPECT_GPU").is_none() => {
            eprintln!("skipped: {name}: {reason}");
            None
        }
        Ok(Err(error)) => panic!("{name}: {error}"),
        Err(RecvTimeoutError::Timeout) => panic!("{name}: the GPU has not answered for {LIMIT:?}"),
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(worker.join().expect_err("it sends before it ends")),
    }
}

/// Both must give the same.
fn same_on_both(name: &str, compute: impl Fn(&Device) -> Vec<f32> + Send + 'static) {
    let Some((cpu, gpu)) = on_both(name, compute) else { return };
    assert_eq!(cpu.len(), gpu.len(), "{name}");
    let difference =
        cpu.iter().zip(&gpu).map(|(a, b)| (a - b).abs()).fold(0.0, |a: f32, b| if b.is_nan() { f32::INFINITY } else { a.max(b) });
    let greatest = cpu.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    eprintln!("{name}: greatest difference {difference:.1e}, greatest value {greatest:.2}");
    assert!(difference <= TOLERANCE, "{name}: {difference}, where {TOLERANCE} is allowed and the greatest value is {greatest}");
    assert!((0.05..100.0).contains(&greatest), "{name}: {greatest} is not what this test's tolerance is meant for");
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// What a layer adds to x: 17 tokens of 64 channels, in two pictures.
fn encoder_layer(weights: Weights, device: &Device) -> Vec<f32> {
    let (d, hidden) = (64, 48);
    let mut noise = Noise(1);
    let norm = || LayerNorm::init(d, device);
    let linears = [(d, 3 * d), (d, d), (d, hidden), (hidden, d)].map(|(k, n)| noise.linear(k, n, true, weights, device));
    let [qkv, output, up, down] = linears;
    let mut layer = ViTLayer::init(d, hidden, 4, Activation::QuickGelu, 1e-5, device);
    (layer.norm1, layer.norm2) = (norm(), norm());
    (layer.qkv, layer.output, layer.up, layer.down) = (qkv, output, up, down);
    let x = noise.tensor([2, 17, d], 1.0, device);
    values(layer.forward(x.clone()) - x)
}

/// The logits after six tokens, then after two more. Table and output layer are floats, and the gain of the last norm makes the logits about one:
/// the table's rounding is not the layer's.
fn decoder_layer(weights: Weights, device: &Device) -> Vec<f32> {
    let config = DecoderConfig {
        vocabulary: 50,
        width: 64,
        layers: 1,
        heads: 4,
        kv_heads: 2,
        head: 16,
        hidden: 96,
        rotary_base: 10_000.0,
        epsilon: 1e-5,
        context: 16,
        tied: true,
    };
    let d = config.width;
    let mut noise = Noise(2);
    let gain = |gain: f32| RmsNorm::new(Tensor::full([d], gain, device), config.epsilon);
    let mut decoder = Decoder::init(&config, device);
    let shapes = [(d, config.q_width() + 2 * config.kv_width()), (d, d), (d, 2 * config.hidden), (config.hidden, d)];
    let [qkv, output, gate_up, down] = shapes.map(|(k, n)| noise.linear(k, n, false, weights, device));
    decoder.layers = vec![Layer { attention_norm: gain(1.0), qkv, output, feed_forward_norm: gain(1.0), gate_up, down }];
    decoder.tokens = Param::from_tensor(noise.tensor([config.vocabulary, d], 1.0, device));
    decoder.norm = gain(0.125);
    let mut cache = decoder.cache(1, config.context, device);
    let mut logits = decoder.read(&[5, 49, 0, 17, 17, 3], &mut cache, device).unwrap();
    logits.extend(decoder.read(&[8, 30], &mut cache, device).unwrap());
    logits
}

/// A stem that pads unevenly, and two blocks of EfficientNet-Lite, of stride 2 and with a shortcut, on 11 by 8 cells. With `bits` as in nano's
/// backbone, whose pixels and weights have few of them, or with as many as single precision has.
fn convolutions(bits: Option<(u8, u8)>, device: &Device) -> Vec<f32> {
    let mut noise = Noise(3);
    let (inside, outside) = (bits.map(|bits| bits.0), bits.map(|bits| bits.1));
    let window = Window { height: 11, width: 8, kernel: 3, stride: 2, same: true };
    let (mut weights, mut pixels) = (noise.normal(16 * 27, 0.2), noise.normal(2 * 3 * 88, 1.0));
    if bits.is_some() {
        exact_rows(&mut weights, 27, 512);
        pixels.iter_mut().for_each(|x| *x = (*x * 128.0).round() / 128.0);
    }
    let stem = Packed::from_floats(16, 27, &weights, device).unwrap();
    let bias = Some(noise.tensor([16], 0.1, device));
    let pictures = Tensor::from_data(TensorData::new(pixels, [2, 3, 11, 8]), device);
    let after = After { bias, activation: Activation::Relu6, residual: None, fraction_bits: inside };
    let mut map = ocelli_ops::convolution(pictures, window, &stem, after); // [2, 6 · 4, 16]
    let mut all = vec![values(map.clone())];
    let mut window = Window { height: 6, width: 4, kernel: 5, stride: 2, same: true };
    for (input, output, shortcut) in [(16, 24, false), (24, 24, true)] {
        let depthwise = DepthwiseWeight::quantize(32, 5, &noise.normal(32 * 25, 0.1), device).unwrap();
        let (expand, project) = (noise.packed(input, 32, Weights::Int8, device), noise.packed(32, output, Weights::Int8, device));
        let (inner, outer) = (noise.tensor([32], 0.5, device), noise.tensor([output], 0.5, device));
        let activation = Activation::Relu6;
        map = ocelli_ops::inverted_residual(
            map,
            window,
            Some(Pointwise { weight: &expand, bias: inner.clone(), activation, fraction_bits: inside }),
            Depthwise { weight: &depthwise, bias: inner, activation, fraction_bits: inside },
            Pointwise { weight: &project, bias: outer, activation: Activation::None, fraction_bits: outside },
            shortcut,
        );
        all.push(values(map.clone()));
        window = Window { height: 3, width: 2, stride: 1, ..window };
    }
    all.concat()
}

#[test]
fn an_encoder_layer_of_floats() {
    same_on_both("encoder layer, f32", |device| encoder_layer(Weights::F32, device));
}

#[test]
fn an_encoder_layer_of_int8() {
    same_on_both("encoder layer, int8", |device| encoder_layer(Weights::Int8, device));
}

#[test]
fn a_decoder_layer_of_floats() {
    same_on_both("decoder layer, f32", |device| decoder_layer(Weights::F32, device));
}

#[test]
fn a_decoder_layer_of_int8() {
    same_on_both("decoder layer, int8", |device| decoder_layer(Weights::Int8Groups, device));
}

#[test]
fn a_decoder_layer_of_int4() {
    same_on_both("decoder layer, int4", |device| decoder_layer(Weights::Int4, device));
}

#[test]
fn convolutions_that_pad_unevenly() {
    same_on_both("convolutions", |device| convolutions(None, device));
}

#[test]
fn convolutions_of_few_bits_are_the_same_to_the_last() {
    let Some((cpu, gpu)) = on_both("convolutions of few bits", |device| convolutions(Some((9, 7)), device)) else { return };
    assert_eq!(cpu, gpu);
    assert!(cpu.iter().any(|x| x.abs() > 0.5));
}
