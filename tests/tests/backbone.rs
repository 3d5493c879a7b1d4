use std::fs;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use ocelli_bundle::Bundle;
use ocelli_models::nano::backbone::{Backbone, relu6};
use ocelli_models::nano::backbone_goldens::{Goldens, PICTURES, compare, picture, top5};
use ocelli_models::nano::backbone_import::{Array, Checkpoint, ImportError, import, tensors};
use ocelli_models::weights;

/// The formula of `formula_weights` in tools/reference/efficientnet_lite0.py.
fn formula_checkpoint() -> Checkpoint {
    let array = |name: &str, shape: Vec<usize>| {
        let u = uniform(name, shape.iter().product());
        let fan_in = shape[1..].iter().product::<usize>() as f32;
        let gain = if name == "_fc.weight" { 1.0 } else { 2.0 };
        let value = |u: f32| match name.rsplit('.').next() {
            _ if shape.len() > 1 => (2.0 * u - 1.0) * (3.0 * gain / fan_in).sqrt(),
            Some("weight" | "running_var") => 0.5 + u,
            _ => u - 0.5,
        };
        Array { values: u.into_iter().map(value).collect(), shape }
    };
    tensors().into_iter().map(|(name, shape)| (name.clone(), array(&name, shape))).collect()
}

/// murmur3's finalizer over a counter, seeded with FNV-1a of the name.
fn uniform(name: &str, size: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0x811C_9DC5_u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let value = |i: u32| {
        let mut h = i.wrapping_mul(0x9E37_79B9).wrapping_add(seed);
        h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
        h ^= h >> 16;
        (h >> 8) as f32 / (1 << 24) as f32
    };
    (0..size as u32).map(value).collect()
}

fn goldens() -> Goldens {
    let bytes = fs::read(crate::root().join("tests/goldens/efficientnet_lite0.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    file.tensors().into_iter().map(|(name, tensor)| (name, values(tensor.data()))).collect()
}

/// Activations go up to about 20 and are sums of up to 1,152 products: 1e-3 is what the issue asks of the logits, and
/// some thirty times f32's rounding here. A wrong padding, norm or order of blocks is off by whole units.
const TOLERANCE: f32 = 1e-3;

#[test]
fn every_stage_is_the_reference_definitions() {
    let device = Device::flex();
    let backbone = import(formula_checkpoint(), &device).unwrap();
    let goldens = goldens();
    let deviations = compare(&backbone, &goldens, &device);
    assert_eq!(deviations.len(), goldens.len());
    for deviation in &deviations {
        assert!(deviation.absolute <= TOLERANCE && deviation.scale > 1.0, "{deviation:?}");
    }
    for number in 0..PICTURES {
        let logits: Vec<f32> = backbone.forward(picture(number, &device)).logits.into_data().iter::<f32>().collect();
        assert_eq!(top5(&logits), top5(&goldens[&format!("{number}.logits")]));
    }
}

#[test]
fn the_maps_are_the_stages_outputs_token_by_token() {
    let device = Device::flex();
    let backbone = Backbone::init(&device);
    let x = Tensor::cat(vec![picture(0, &device), picture(1, &device)], 0);
    let outputs = backbone.stage_outputs(x.clone());
    let features = backbone.forward(x);
    for (map, stage, channels, side) in [
        (features.stride8, &outputs[5], 40, 28),
        (features.stride16, &outputs[11], 112, 14),
        (features.stride32, &outputs[16], 320, 7),
        (features.head, &outputs[17], 1280, 7),
    ] {
        assert_eq!(map.dims(), [2, side * side, channels]);
        let (row, column) = (side - 2, 1);
        let cell = map.slice([1..2, row * side + column..row * side + column + 1, 0..channels]);
        let expected = stage.clone().slice([1..2, 0..channels, row..row + 1, column..column + 1]);
        cell.into_data().assert_eq(&expected.reshape([1, 1, channels]).into_data(), true);
    }
}

/// What the shipped backbone's exactness rests on: whole numbers of no more than 24 bits, whatever the picture.
#[test]
fn single_precision_holds_every_sum() {
    let device = Device::flex();
    let bundle = Bundle::open(&crate::root().join("models/nano/nano.ocelli")).unwrap();
    let backbone: Backbone = weights::load(Backbone::init(&device), "backbone", &bundle, &device).unwrap();
    // The greatest sum of a channel's weights, −127…127, times inputs up to `most`.
    let greatest = |conv: &Conv2d, most: f64| {
        let values: Vec<f32> = conv.weight.val().into_data().iter::<f32>().collect();
        let channel = |weights: &[f32]| {
            let scale = weights.iter().fold(0.0_f32, |greatest, w| greatest.max(w.abs())) / 127.0;
            weights.iter().map(|w| f64::from((w / scale.max(1e-30)).abs().round())).sum::<f64>() * most
        };
        values.chunks(values.len() / conv.weight.dims()[0]).map(channel).fold(0.0, f64::max)
    };
    let mut sums = vec![greatest(&backbone.head, 127.0)];
    for block in &backbone.blocks {
        sums.extend(block.expand.as_ref().map(|expand| greatest(expand, 127.0)));
        // ReLU6 in steps of 2⁻¹⁰.
        sums.push(greatest(&block.depthwise, 6.0 * 1024.0));
        sums.push(greatest(&block.project, 127.0));
    }
    assert_eq!(sums.len(), 1 + 16 * 3 - 1);
    assert!(sums.iter().all(|&sum| sum > 1e5 && sum < f64::from(1 << 24)), "{sums:?}");
}

#[test]
fn relu6_is_flat_on_both_sides() {
    let x = Tensor::<1>::from_floats([-1.0, 0.0, 2.5, 6.0, 7.0], &Device::flex());
    assert_eq!(relu6(x).into_data().iter::<f32>().collect::<Vec<_>>(), [0.0, 0.0, 2.5, 6.0, 6.0]);
}

#[test]
fn a_checkpoint_that_is_not_this_network_is_refused_by_name() {
    let device = Device::flex();
    let checkpoint: Checkpoint =
        tensors().into_iter().map(|(name, shape)| (name, Array { values: vec![0.5; shape.iter().product()], shape })).collect();
    assert!(import(checkpoint.clone(), &device).is_ok_and(|backbone| backbone.num_params() > 4_000_000));

    let name = "_blocks.3._bn1.running_var";
    let mut missing = checkpoint.clone();
    missing.remove(name);
    assert!(matches!(import(missing, &device), Err(ImportError::Missing(found)) if found == name));

    let mut misshapen = checkpoint.clone();
    misshapen.insert(name.to_owned(), Array { shape: vec![143], values: vec![1.0; 143] });
    let error = import(misshapen, &device).unwrap_err();
    assert!(matches!(&error, ImportError::Shape { expected, found, .. } if expected == &[144] && found == &[143]), "{error}");
    assert!(error.to_string().contains(name));

    let mut foreign = checkpoint;
    foreign.insert("_blocks.16._bn1.bias".to_owned(), Array { shape: vec![1], values: vec![0.0] });
    assert!(matches!(import(foreign, &device), Err(ImportError::Unused(names)) if names == ["_blocks.16._bn1.bias"]));
}
