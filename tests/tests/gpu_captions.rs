//! nano's captioner, on the GPU and on the CPU, of the very same feature maps.
//!
//! What the backbone sees is not the same to the last bit anywhere: activations are rounded to bytes sixteen blocks deep, so a sum that
//! differs in its last bit now and then falls to another byte, and in the end maps differ by a few parts in a hundred. The CPU's own
//! instruction sets, with and without fused multiplications, are as far from each other, and write the same sentence for nine pictures
//! of ten. A search that keeps three beams prunes by less than that. So here both begin with the same maps.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{FrameMeta, GenerateOptions};
use ocelli_models::nano::backbone::{Backbone, MEAN, SIDE, STD};
use ocelli_models::nano::caption::{Captioner, Specials};
use ocelli_models::nano::config::NanoConfig;
use ocelli_models::nano::embed::{JointSpace, normalise};
use ocelli_models::text::Tokenizer;
use ocelli_models::text::generate::Hypothesis;
use ocelli_models::weights;
use ocelli_pipeline::picture;
use ocelli_preprocess::Squash;

use crate::gpu::on_both;

/// The decoder rounds activations to bytes as well: measured were 0.005.
const SCORES: f32 = 0.02;
const PICTURES: [&str; 3] = ["astronaut.jpg", "cat.jpg", "coffee.jpg"];

/// What the captioner reads of a picture.
#[derive(Clone)]
struct Seen {
    head: TensorData,
    stride16: TensorData,
    joint: TensorData,
}

fn nano() -> (Bundle, NanoConfig) {
    let bundle = Bundle::open(&crate::root().join("models/nano/nano.ocelli")).unwrap();
    let config = NanoConfig::from_json(&bundle.manifest().config).unwrap();
    (bundle, config)
}

/// By the CPU.
fn seen() -> Vec<Seen> {
    let ((bundle, config), device) = (nano(), Device::flex());
    let backbone = weights::open(Backbone::init(&device), "backbone", &bundle, &device).unwrap();
    let joint = weights::open(JointSpace::init(&config.text, &config.image, &device), "joint", &bundle, &device).unwrap();
    let mut squash = Squash::new(SIDE as u32, MEAN, STD);
    let see = |name: &str| {
        let path = crate::root().join("tests/frames").join(name);
        let frame = picture::decode_bytes(&std::fs::read(&path).unwrap(), &path, FrameMeta::still("test")).unwrap();
        let mut pixels = Vec::new();
        squash.normalised(&frame, &mut pixels);
        let maps = backbone.forward(Tensor::from_data(TensorData::new(pixels, [1, 3, SIDE, SIDE]), &device));
        let joint = normalise(joint.image.forward(maps.head.clone(), maps.logits));
        Seen { head: maps.head.into_data(), stride16: maps.stride16.into_data(), joint: joint.into_data() }
    };
    PICTURES.map(see).to_vec()
}

/// Everything that the search found, of maps and vector and of the vector alone, picture by picture.
fn captions(seen: &[Seen], device: &Device) -> Vec<Vec<Hypothesis>> {
    let (bundle, config) = nano();
    let captioner = weights::open(Captioner::init(&config.caption, device), "caption", &bundle, device).unwrap();
    let Tokenizer { pad, start, end, .. } = Tokenizer::from_json(bundle.text("tokenizer.json").unwrap()).unwrap();
    let (settings, search) = config.search.settings(&GenerateOptions::default(), Specials { pad, start, end }, captioner.room()).unwrap();
    let mut found = Vec::new();
    for Seen { head, stride16, joint } in seen.iter().cloned() {
        let vector = captioner.vector_tokens(Tensor::from_data(joint, device));
        let maps = captioner.picture_tokens(Tensor::from_data(head, device), Tensor::from_data(stride16, device));
        for memory in [Tensor::cat(vec![maps, vector.clone()], 1), vector] {
            found.extend(captioner.captions(memory, start, &settings, &search).unwrap());
        }
    }
    found
}

#[test]
fn the_same_sentences_of_the_same_maps() {
    let seen = seen();
    let Some((cpu, gpu)) = on_both("captions of the same maps", move |device| captions(&seen, device)) else { return };
    assert_eq!((cpu.len(), gpu.len()), (2 * PICTURES.len(), 2 * PICTURES.len()));
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        eprintln!("{:?} {:.4} {:?} {:.4}", cpu[0].tokens, cpu[0].score, gpu[0].tokens, gpu[0].score);
        // Of the others one may be as good as another.
        assert_eq!(cpu[0].tokens, gpu[0].tokens);
        assert!((cpu[0].score - gpu[0].score).abs() <= SCORES, "{} and {}", cpu[0].score, gpu[0].score);
    }
}
