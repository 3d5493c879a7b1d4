//! The small checkpoints of `tools/reference`: imported, with what the reference made of them.

use std::fs;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_convert::{Lora, Options, import};
use ocelli_flow::{GenerateOptions, InputTensor, InputValues, Inputs, Model};
use ocelli_models::table::Storage;
use ocelli_ops::device::{DeviceChoice, select};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::root;

/// Of the length of what is expected: single precision, over a handful of layers, in another order of sums.
pub const RELATIVE: f32 = 1e-4;

/// `tools/reference` makes these for every model that reads pictures; rows of tables are in this order.
const PICTURES: [&str; 5] = ["wide", "tall", "grey", "alpha", "tiny"];

/// A checkpoint's expected values, and the bundle that it becomes.
pub struct Checkpoint {
    pub name: &'static str,
    pub folder: PathBuf,
    bytes: Vec<u8>,
    pub facts: Value,
    pub bundle: Bundle,
    _place: tempfile::TempDir,
}

impl Checkpoint {
    pub fn new(name: &'static str, storage: Storage) -> Self {
        Self::merged(name, storage, Vec::new())
    }

    /// The same with adapters in the bundle's weights.
    pub fn merged(name: &'static str, storage: Storage, loras: Vec<Lora>) -> Self {
        let folder = root().join("tests/goldens").join(name);
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.ocelli");
        import(&folder, &path, &Options { storage, loras, ..Options::default() }, &mut |_, _| {})
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let facts = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
        Self { name, bytes, facts, bundle: Bundle::open(&path).unwrap(), folder, _place: place }
    }

    pub fn tensor(&self, name: &str) -> Option<InputTensor> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).ok()?;
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => InputValues::F32(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            Dtype::I64 => InputValues::I64(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            Dtype::I32 => InputValues::I64(data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()),
            other => panic!("{name}: {other:?}"),
        };
        Some(InputTensor { name: name.split('.').next().unwrap().to_owned().into(), shape: view.shape().to_vec(), values })
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        match self.tensor(name).unwrap_or_else(|| panic!("{}: no {name}", self.name)).values {
            InputValues::F32(values) => values,
            InputValues::I64(_) => panic!("{name} is of integers"),
        }
    }

    /// A tensor of floats with as many axes as it has.
    pub fn burn<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let shape: [usize; D] = self.tensor(name).unwrap_or_else(|| panic!("{}: no {name}", self.name)).shape.try_into().unwrap();
        Tensor::from_data(TensorData::new(self.floats(name), shape), device)
    }

    pub fn strings(&self, key: &str) -> Vec<String> {
        self.facts[key].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// A size of the checkpoint's own configuration.
    pub fn facts_of_config(&self, name: &str) -> usize {
        let config: Value = serde_json::from_slice(&fs::read(self.folder.join("config.json")).unwrap()).unwrap();
        config[name].as_u64().unwrap() as usize
    }

    /// The names of its pictures, in the order of the reference; none where the model reads none.
    pub fn pictures(&self) -> Vec<String> {
        let Some(files) = self.facts["pictures"].as_object() else { return Vec::new() };
        assert!(files.len() == PICTURES.len() && PICTURES.iter().all(|name| files.contains_key(*name)), "{}", self.name);
        PICTURES.map(str::to_owned).to_vec()
    }

    /// The reference's own pixels of a picture.
    pub fn pixels(&self, picture: &str) -> Inputs {
        let size = image::image_dimensions(self.file(picture)).unwrap();
        let names = ["pixel_values", "pixel_attention_mask", "spatial_shapes"];
        let tensors = names.iter().filter_map(|name| self.tensor(&format!("{name}.{picture}"))).collect();
        Inputs { width: size.0, height: size.1, tensors }
    }

    pub fn file(&self, picture: &str) -> PathBuf {
        self.folder.join("pictures").join(format!("{picture}.png"))
    }

    pub fn model(&self, device: &Device) -> Box<dyn Model> {
        ocelli_models::load(&self.bundle, device).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

pub fn devices() -> Vec<Device> {
    let mut choices = vec![DeviceChoice::Cpu];
    choices.extend(cfg!(feature = "ndarray").then_some(DeviceChoice::NdArray));
    choices.into_iter().map(|choice| select(choice).unwrap()).collect()
}

pub fn relative(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (off / expected.iter().map(|&b| square(b)).sum::<f64>()).sqrt() as f32
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

pub fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.clone().into_data().iter::<f32>().collect()
}

pub fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// `generate`'s options as ours, without `early_stopping`, which is the checkpoint's.
pub fn generate_options(asked: &Value) -> GenerateOptions {
    let count = |name: &str| asked[name].as_u64().map(|count| count as usize);
    let number = |name: &str| asked[name].as_f64().map(|number| number as f32);
    GenerateOptions {
        max_tokens: count("max_new_tokens"),
        beams: count("num_beams"),
        length_penalty: number("length_penalty"),
        repetition_penalty: number("repetition_penalty"),
        no_repeat_ngram: count("no_repeat_ngram_size"),
        ..GenerateOptions::default()
    }
}
