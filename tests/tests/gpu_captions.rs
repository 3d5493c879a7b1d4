//! nano on the GPU and on the CPU: the very same maps, and the same sentences of them.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{FrameMeta, GenerateOptions};
use ocelli_models::nano::backbone::{Backbone, SIDE, squash};
use ocelli_models::nano::caption::{Captioner, Specials};
use ocelli_models::nano::config::NanoConfig;
use ocelli_models::nano::embed::{JointSpace, normalise};
use ocelli_models::text::Tokenizer;
use ocelli_models::text::generate::Hypothesis;
use ocelli_models::weights;
use ocelli_pipeline::picture;

use crate::gpu::on_both;

/// The decoder rounds to bytes what has errors in the last bit: measured were 0.005.
const SCORES: f32 = 0.02;
const PICTURES: [&str; 3] = ["astronaut.jpg", "cat.jpg", "coffee.jpg"];

/// What a picture becomes.
#[derive(Clone)]
struct Seen {
    /// Of stride 8, 16 and 32, and behind the head.
    maps: [TensorData; 4],
    joint: TensorData,
}

fn nano() -> (Bundle, NanoConfig) {
    let bundle = Bundle::open(&crate::root().join("models/nano/nano.ocelli")).unwrap();
    let config = NanoConfig::from_json(&bundle.manifest().config).unwrap();
    (bundle, config)
}

fn seen(device: &Device) -> Vec<Seen> {
    let (bundle, config) = nano();
    let backbone = weights::open(Backbone::init(device), "backbone", &bundle, device).unwrap();
    let joint = weights::open(JointSpace::init(&config.text, &config.image, device), "joint", &bundle, device).unwrap();
    let mut squash = squash();
    let see = |name: &str| {
        let path = crate::root().join("tests/frames").join(name);
        let frame = picture::decode_bytes(&std::fs::read(&path).unwrap(), &path, FrameMeta::still("test")).unwrap();
        let mut pixels = Vec::new();
        squash.normalised(&frame, &mut pixels);
        let maps = backbone.forward(Tensor::from_data(TensorData::new(pixels, [1, 3, SIDE, SIDE]), device));
        let joint = normalise(joint.image.forward(maps.head.clone(), maps.logits));
        Seen { maps: [maps.stride8, maps.stride16, maps.stride32, maps.head].map(Tensor::into_data), joint: joint.into_data() }
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
    for Seen { maps: [_, stride16, _, head], joint } in seen.iter().cloned() {
        let vector = captioner.vector_tokens(Tensor::from_data(joint, device));
        let maps = captioner.picture_tokens(Tensor::from_data(head, device), Tensor::from_data(stride16, device));
        for memory in [Tensor::cat(vec![maps, vector.clone()], 1), vector] {
            found.extend(captioner.captions(memory, start, &settings, &search).unwrap());
        }
    }
    found
}

#[test]
fn the_very_same_maps() {
    let Some((cpu, gpu)) = on_both("maps", seen) else { return };
    for ((cpu, gpu), picture) in cpu.iter().zip(&gpu).zip(PICTURES) {
        for ((cpu, gpu), name) in cpu.maps.iter().zip(&gpu.maps).zip(["stride 8", "stride 16", "stride 32", "head"]) {
            let (cpu, gpu): (Vec<f32>, Vec<f32>) = (cpu.iter::<f32>().collect(), gpu.iter::<f32>().collect());
            let others = cpu.iter().zip(&gpu).filter(|(cpu, gpu)| cpu != gpu).count();
            assert_eq!(others, 0, "{picture}, {name}: of {} values", cpu.len());
            assert_eq!(cpu.len(), gpu.len());
        }
    }
}

#[test]
fn the_same_sentences_of_the_same_maps() {
    let seen = seen(&Device::flex());
    let Some((cpu, gpu)) = on_both("captions of the same maps", move |device| captions(&seen, device)) else { return };
    assert_eq!((cpu.len(), gpu.len()), (2 * PICTURES.len(), 2 * PICTURES.len()));
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        eprintln!("{:?} {:.4} {:?} {:.4}", cpu[0].tokens, cpu[0].score, gpu[0].tokens, gpu[0].score);
        // Of the others one may be as good as another.
        assert_eq!(cpu[0].tokens, gpu[0].tokens);
        assert!((cpu[0].score - gpu[0].score).abs() <= SCORES, "{} and {}", cpu[0].score, gpu[0].score);
    }
}
