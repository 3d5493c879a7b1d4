//! CLIP, SigLIP and OWL-ViT equal transformers on the same weights: small checkpoints of `tools/reference`, imported, stage by stage.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_flow::{BoundingBox, GroundOptions, InputValues, Inputs, ModelError};
use ocelli_models::joint::JointConfig;
use ocelli_models::joint::model::Towers;
use ocelli_models::table::Storage;
use ocelli_models::weights;
use ocelli_pipeline::picture;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, RELATIVE, cosine, devices, relative};

/// Everything but OWL-ViT.
const JOINT: [&str; 8] =
    ["clip/tiny", "clip/eos", "clip/vision", "clip/text", "clip/openclip", "siglip/tiny", "siglip/gemma", "siglip/naflex"];
const OWL: [&str; 2] = ["owl/owlvit", "owl/owlv2"];

#[test]
fn pictures_and_texts_get_the_vectors_of_transformers() {
    for name in JOINT {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        for device in devices() {
            let model = checkpoint.model(&device);
            let embedder = model.embedder().unwrap();
            for picture in checkpoint.pictures() {
                let encoded = model.encode_inputs(checkpoint.pixels(&picture)).unwrap();
                let found = embedder.embed_image(&encoded, true).unwrap().values;
                let off = relative(&found, &checkpoint.floats(&format!("image_embeds.{picture}")));
                assert!(off <= RELATIVE, "{name}: {picture} is off by {off}");
            }
            let texts = checkpoint.strings("texts");
            let Some(expected) = checkpoint.tensor("text_embeds") else {
                assert!(matches!(embedder.embed_text(&["a cat"], true), Err(ModelError::Unsupported { .. })));
                continue;
            };
            let (InputValues::F32(expected), width) = (expected.values, expected.shape[1]) else { panic!() };
            for (text, expected) in texts.iter().zip(expected.chunks_exact(width)).filter(|(text, _)| !text.trim().is_empty()) {
                let found = embedder.embed_text(&[text.as_str()], true).unwrap();
                let off = relative(&found[0].values, expected);
                assert!(off <= RELATIVE, "{name}: {text:?} is off by {off}");
            }
        }
    }
}

#[test]
fn token_ids_are_those_of_transformers() {
    for name in JOINT.iter().chain(&OWL) {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        if checkpoint.tensor("input_ids").is_none() {
            continue;
        }
        let model = checkpoint.model(&Device::flex());
        let ids = checkpoint.facts["ids"].as_array().unwrap();
        let texts = checkpoint.strings("texts");
        assert!(texts.len() >= 10 && texts.len() == ids.len());
        for (text, ids) in texts.iter().zip(ids).filter(|(text, _)| !text.trim().is_empty()) {
            let expected: Vec<u32> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(model.prompt_ids(text).unwrap(), expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn logits_are_those_of_transformers() {
    for name in ["clip/tiny", "clip/eos", "clip/openclip", "siglip/tiny", "siglip/gemma", "siglip/naflex"] {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let model = checkpoint.model(&Device::flex());
        let embedder = model.embedder().unwrap();
        let texts = checkpoint.strings("texts");
        let expected = checkpoint.floats("logits_per_image");
        for (picture, row) in checkpoint.pictures().iter().zip(expected.chunks_exact(texts.len())) {
            let image = embedder.embed_image(&model.encode_inputs(checkpoint.pixels(picture)).unwrap(), false).unwrap();
            for (text, expected) in texts.iter().zip(row).filter(|(text, _)| !text.trim().is_empty()) {
                let text = embedder.embed_text(&[text.as_str()], false).unwrap();
                let logit = embedder.logit_scale() * image.dot(&text[0]) + embedder.logit_bias();
                assert!((logit - expected).abs() <= 1e-3, "{name}: {picture}: {logit}, not {expected}");
            }
        }
    }
}

/// Hidden states of the vision tower after its embeddings and after each layer.
#[test]
fn every_layer_is_that_of_transformers() {
    let device = Device::flex();
    for name in ["clip/tiny", "clip/vision", "siglip/tiny", "siglip/gemma"] {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let config = JointConfig::from_json(&checkpoint.bundle.manifest().config).unwrap();
        let towers = weights::open(Towers::init(&config, &device), "", &checkpoint.bundle, &device).unwrap();
        let tower = towers.vision.unwrap();
        // After the norm before the layers, where there is one.
        let first = ["vision.wide.pre_norm", "vision.wide.embeddings"].into_iter().find_map(|stage| checkpoint.tensor(stage)).unwrap();
        let InputValues::F32(values) = first.values else { panic!() };
        let shape: [usize; 3] = first.shape.try_into().unwrap();
        let mut x = Tensor::<3>::from_data(TensorData::new(values, shape), &device);
        for (i, layer) in tower.layers.iter().enumerate() {
            x = layer.forward(x);
            let found: Vec<f32> = x.clone().into_data().iter::<f32>().collect();
            let off = relative(&found, &checkpoint.floats(&format!("vision.wide.layers.{i}")));
            assert!(off <= RELATIVE, "{name}: layer {i} is off by {off}");
        }
        assert!(!tower.layers.is_empty());
    }
}

/// From the picture's file on, whatever it is: grey, with alpha, tiny.
#[test]
fn pixels_are_those_of_the_image_processors() {
    for name in JOINT.iter().chain(&OWL) {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let model = checkpoint.model(&Device::flex());
        for picture in checkpoint.pictures() {
            // open_clip resizes before it drops what is transparent, and blends nothing.
            if *name == "clip/openclip" && picture == "alpha" {
                continue;
            }
            let frame = picture::decode(&checkpoint.file(&picture)).unwrap();
            let found = model.preprocess(&frame).unwrap();
            for expected in checkpoint.pixels(&picture).tensors {
                let tensor = found.tensor(&expected.name).unwrap_or_else(|| panic!("{name}: no {}", expected.name));
                assert_eq!(tensor.shape, expected.shape, "{name}: {picture}: {}", expected.name);
                let (InputValues::F32(a), InputValues::F32(b)) = (&tensor.values, &expected.values) else {
                    assert_eq!(tensor.values, expected.values, "{name}: {picture}: {}", expected.name);
                    continue;
                };
                // A grey level, in units of the smallest standard deviation in use, .26; open_clip resizes with Pillow, whose rounding differs.
                let level = 1.0 / 255.0 / 0.26 * 1.01;
                let off = a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > level).count();
                assert!(off * 1000 <= a.len(), "{name}: {picture}: {off} of {} pixels are off", a.len());
            }
        }
    }
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Boxes with scores: every expected one has a partner of the same phrase.
fn assert_boxes(what: &str, found: &[ocelli_flow::Detection], expected: &[(String, f32, BoundingBox)]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (phrase, score, bbox) in expected {
        let same = |one: &&ocelli_flow::Detection| {
            let b = one.bbox;
            let apart = [b.x0 - bbox.x0, b.y0 - bbox.y0, b.x1 - bbox.x1, b.y1 - bbox.y1];
            (phrase.is_empty() || &*one.phrase == phrase) && (one.score - score).abs() <= 1e-4 && apart.iter().all(|d| d.abs() <= 0.5)
        };
        assert!(found.iter().any(|one| same(&one)), "{what}: nothing like {phrase:?} {score} {bbox:?}");
    }
}

fn clipped(bbox: &Value, width: u32, height: u32) -> BoundingBox {
    let at = |i: usize, most: u32| (bbox[i].as_f64().unwrap() as f32).clamp(0.0, most as f32);
    BoundingBox { x0: at(0, width), y0: at(1, height), x1: at(2, width), y1: at(3, height) }
}

#[test]
fn phrases_get_the_boxes_of_transformers() {
    for name in OWL {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        for device in devices() {
            let model = checkpoint.model(&device);
            let grounder = model.grounder().unwrap();
            let phrases = checkpoint.strings("phrases");
            let queries = grounder.phrases(&phrases.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            for picture in checkpoint.pictures() {
                let inputs = checkpoint.pixels(&picture);
                let (width, height) = (inputs.width, inputs.height);
                let encoded = model.encode_inputs(inputs).unwrap();
                let facts = &checkpoint.facts["detections"][&picture];
                let threshold = facts["threshold"].as_f64().unwrap() as f32;
                let found =
                    grounder.ground(&encoded, &queries, &GroundOptions { threshold: Some(threshold), top: None, nms: Some(1.0) }).unwrap();
                let list = |key: &str| facts[key].as_array().unwrap().clone();
                let expected: Vec<_> = list("text_labels")
                    .iter()
                    .zip(list("scores"))
                    .zip(list("boxes"))
                    .map(|((label, score), bbox)| {
                        (label.as_str().unwrap().to_owned(), score.as_f64().unwrap() as f32, clipped(&bbox, width, height))
                    })
                    .collect();
                assert!(!expected.is_empty());
                assert_boxes(&format!("{name}: {picture}"), &found, &expected);
                if let Some(logits) = checkpoint.tensor(&format!("objectness_logits.{picture}")) {
                    let InputValues::F32(logits) = logits.values else { panic!() };
                    for one in &found {
                        let objectness = one.objectness.expect("OWLv2 says how likely anything is there");
                        assert!(logits.iter().any(|logit| (logistic(*logit) - objectness).abs() < 1e-4), "{name}: {objectness}");
                    }
                }
            }
        }
    }
}

#[test]
fn pictures_as_queries_get_the_boxes_of_transformers() {
    for name in OWL {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let model = checkpoint.model(&Device::flex());
        let grounder = model.grounder().unwrap();
        let guided = checkpoint.facts["image_guided"].as_object().unwrap();
        assert!(!guided.is_empty());
        for (key, facts) in guided {
            let encode = |picture: &Value| model.encode_inputs(checkpoint.pixels(picture.as_str().unwrap())).unwrap();
            let query = grounder.image_query(&encode(&facts["query"]), "query").unwrap();
            let target = encode(&facts["target"]);
            let threshold = facts["threshold"].as_f64().unwrap() as f32;
            for (nms, kept) in [(0.3, "nms_0.3"), (1.0, "nms_1.0")] {
                let options = GroundOptions { threshold: Some(threshold), top: None, nms: Some(nms) };
                let found = grounder.ground(&target, &query, &options).unwrap();
                let list = |what: &str| facts[kept][what].as_array().unwrap().clone();
                let expected: Vec<_> = list("scores")
                    .iter()
                    .zip(list("boxes"))
                    .map(|(score, bbox)| (String::new(), score.as_f64().unwrap() as f32, clipped(&bbox, target.width, target.height)))
                    .collect();
                assert_boxes(&format!("{name}: {key}, {kept}"), &found, &expected);
            }
        }
    }
}

#[test]
fn integers_say_what_single_precision_says() {
    for name in JOINT {
        let checkpoint = Checkpoint::new(name, Storage::Int8);
        let model = checkpoint.model(&Device::flex());
        let embedder = model.embedder().unwrap();
        for picture in checkpoint.pictures() {
            let found = embedder.embed_image(&model.encode_inputs(checkpoint.pixels(&picture)).unwrap(), true).unwrap().values;
            let cosine = cosine(&found, &checkpoint.floats(&format!("image_embeds.{picture}")));
            assert!(cosine >= 0.999, "{name}: {picture}: {cosine}");
        }
    }
}

#[test]
fn tensors_of_another_model_are_refused() {
    let checkpoint = Checkpoint::new("clip/tiny", Storage::F32);
    let model = checkpoint.model(&Device::flex());
    let other = Inputs::pixels(8, 8, [1, 3, 8, 8], vec![0.0; 192]);
    let error = model.encode_inputs(other).err().expect("another size").to_string();
    assert!(error.contains("[1, 3, 8, 8]") && error.contains("[1, 3, 30, 30]"), "{error}");
    let naflex = Checkpoint::new("siglip/naflex", Storage::F32).model(&Device::flex());
    let mut inputs = Checkpoint::new("siglip/naflex", Storage::F32).pixels("wide");
    for tensor in &mut inputs.tensors {
        if tensor.name == "spatial_shapes" {
            tensor.values = InputValues::I64(vec![1 << 40, 1 << 40]);
        }
    }
    assert!(naflex.encode_inputs(inputs).is_err());
    assert!(Path::new(&checkpoint.folder).exists());
}
