//! Florence-2 equals transformers on the same weights: a small checkpoint of `tools/reference`, imported, stage by stage.

use std::fs;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_convert::{Options, import};
use ocelli_flow::{CaptionOptions, GenerateOptions, Inputs, Model};
use ocelli_models::florence::FlorenceConfig;
use ocelli_models::florence::davit::Map;
use ocelli_models::florence::forward::Florence;
use ocelli_models::table::Storage;
use ocelli_models::weights;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::root;

const RELATIVE: f32 = 1e-4;

struct Checkpoint {
    bytes: Vec<u8>,
    facts: Value,
    bundle: Bundle,
    folder: std::path::PathBuf,
    _place: tempfile::TempDir,
}

impl Checkpoint {
    fn new(storage: Storage) -> Self {
        let folder = root().join("tests/goldens/florence2/tiny");
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.ocelli");
        let report = import(&folder, &path, &Options { storage, name: None }, &mut |_, _| {}).unwrap();
        assert_eq!(report.unused, Vec::<String>::new());
        let facts = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
        Self { bytes, facts, bundle: Bundle::open(&path).unwrap(), folder, _place: place }
    }

    fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (values, view.shape().to_vec())
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (values, shape) = self.floats(name);
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn pixels(&self, picture: &str) -> Inputs {
        let (width, height) = image::image_dimensions(self.folder.join(format!("pictures/{picture}.png"))).unwrap();
        let (values, shape) = self.floats(&format!("pixel_values.{picture}"));
        Inputs::pixels(width, height, shape.try_into().unwrap(), values)
    }

    fn model(&self) -> Box<dyn Model> {
        ocelli_models::load(&self.bundle, &Device::flex()).unwrap()
    }
}

fn close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let square = |x: Tensor<D>| x.powi_scalar(2).sum().into_scalar::<f32>();
    let off = (square(found - expected.clone()) / square(expected)).sqrt();
    println!("{what}: {off}");
    assert!(off <= RELATIVE, "{what} is off by {off}");
}

fn planes(map: Map) -> Tensor<4> {
    let [batch, _, d] = map.cells.dims();
    map.cells.swap_dims(1, 2).reshape([batch, d, map.rows, map.columns])
}

#[test]
fn prompts_are_those_of_the_processor() {
    let checkpoint = Checkpoint::new(Storage::F32);
    let model = checkpoint.model();
    for prompt in checkpoint.facts["prompts"].as_array().unwrap() {
        let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).unwrap();
        assert_eq!(model.prompt_ids(prompt["text"].as_str().unwrap()).unwrap(), ids, "{}", prompt["text"]);
    }
}

#[test]
fn every_stage_is_that_of_transformers() {
    let checkpoint = Checkpoint::new(Storage::F32);
    let device = Device::flex();
    let config = FlorenceConfig::from_json(&checkpoint.bundle.manifest().config).unwrap();
    let network = weights::open(Florence::init(&config, &device), "", &checkpoint.bundle, &device).unwrap();
    let picture: Tensor<4> = checkpoint.tensor("pixel_values.wide");
    let [_, _, rows, columns] = picture.dims();
    let mut map = Map { cells: picture.clone().flatten::<3>(2, 3).swap_dims(1, 2), rows, columns };
    for (i, stage) in network.vision.stages.iter().enumerate() {
        let embedded = stage.embed(map.clone());
        close(&format!("conv {i}"), planes(embedded.clone()), checkpoint.tensor(&format!("conv.{i}")));
        let mixed = stage.blocks[0].spatial.forward(embedded);
        close(&format!("spatial {i}"), planes(mixed), checkpoint.tensor(&format!("spatial.{i}")));
        map = stage.forward(map);
        close(&format!("stage {i}"), planes(map.clone()), checkpoint.tensor(&format!("stage.{i}")));
    }
    let seen = network.see(picture);
    close("projected", seen.clone(), checkpoint.tensor("projected"));
    let model = checkpoint.model();
    let ids = model.prompt_ids("<CAPTION>").unwrap();
    let memory = network.read(seen, &ids[config.vision.tokens()..]);
    close("encoded", memory.clone(), checkpoint.tensor("encoded"));
    let ids: Vec<u32> = serde_json::from_value(checkpoint.facts["decoder_ids"].clone()).unwrap();
    let decoded = network.text.decode(&ids, 1, &mut network.text.cache(&memory, ids.len()));
    close("decoded", decoded.clone(), checkpoint.tensor("decoded"));
    let logits = network.text.logits(decoded.clone());
    let off = (logits - checkpoint.tensor::<3>("logits")).abs().max().into_scalar::<f32>();
    println!("logits: {off}");
    assert!(off <= 1e-3, "logits are off by {off}");
    // One token at a time through the cache.
    let mut cache = network.text.cache(&memory, ids.len());
    let steps = ids.iter().map(|&id| network.text.decode(&[id], 1, &mut cache)).collect();
    close("cached", Tensor::cat(steps, 1), decoded);
}

#[test]
fn what_is_written_is_what_transformers_writes() {
    let checkpoint = Checkpoint::new(Storage::F32);
    let model = checkpoint.model();
    let captioner = model.captioner().unwrap();
    let encoded = model.encode_inputs(checkpoint.pixels("wide")).unwrap();
    for case in checkpoint.facts["cases"].as_array().unwrap() {
        let (prompt, task) = (case["prompt"].as_str().unwrap(), case["task"].as_str().unwrap());
        let Some(input) = prompt.strip_prefix(task) else { continue };
        let options = CaptionOptions {
            task: Some(task.to_owned()),
            prompt: Some(input.to_owned()),
            generate: GenerateOptions {
                max_tokens: case["options"]["max_new_tokens"].as_u64().map(|n| n as usize),
                beams: case["options"]["num_beams"].as_u64().map(|n| n as usize),
                ..GenerateOptions::default()
            },
        };
        let caption = captioner.caption(&encoded, &options, &mut ()).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
        assert_eq!(caption.tokens, tokens, "{prompt}");
        if let Some(score) = case["score"].as_f64() {
            assert!((f64::from(caption.score) - score).abs() < 1e-3, "{prompt}: {}, not {score}", caption.score);
        }
        let post = &case["post"][task];
        println!("{prompt}: {} regions, {:?}, {post}", caption.regions.len(), caption.text);
        let boxes: Vec<Vec<f32>> = serde_json::from_value(post.get("bboxes").or(post.get("quad_boxes")).cloned().unwrap_or(Value::Array(vec![]))).unwrap();
        assert_eq!(caption.regions.len(), boxes.len(), "{prompt}");
        for (region, expected) in caption.regions.iter().zip(&boxes) {
            let even = |skip: usize| expected.iter().skip(skip).step_by(2).copied();
            let b = region.bbox;
            let expected = [even(0).reduce(f32::min), even(1).reduce(f32::min), even(0).reduce(f32::max), even(1).reduce(f32::max)];
            for (a, b) in [b.x0, b.y0, b.x1, b.y1].into_iter().zip(expected) {
                assert!((a - b.unwrap()).abs() <= 1.0, "{prompt}: {region:?}, not {expected:?}");
            }
        }
    }
}
