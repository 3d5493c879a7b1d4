//! The detector behind the traits of `ocelli_flow`.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{BoundingBox, Detection, Embedding, Encoded, Frame, GroundOptions, Grounder, Inputs, Model, ModelError, PhraseSet};
use ocelli_preprocess::Geometry;

use super::forward::{Detector, Patches};
use super::select::{self, Chosen};
use super::{FAMILY, OwlConfig, tensors};
use crate::pictures::{Pictures, read_picture};
use crate::text::{PromptCache, PromptTokenizer};
use crate::{LoadError, table, weights};

/// The model.
pub struct Owl {
    name: String,
    config: OwlConfig,
    detector: Detector,
    tokenizer: PromptTokenizer,
    pictures: Pictures,
    texts: RefCell<PromptCache>,
    device: Device,
}

/// What [`Owl`] keeps of a picture.
struct Seen {
    patches: Patches,
    /// Where the model's input lies in the picture.
    geometry: Geometry,
    read: OnceCell<Read>,
}

/// What all queries share.
struct Read {
    /// 0 to 1 of the model's input.
    boxes: Vec<BoundingBox>,
    /// 0 to 1.
    objectness: Option<Vec<f32>>,
}

/// What is looked for: `[queries, joint]`.
enum Queries {
    Phrases(Tensor<2>),
    Picture(Tensor<2>),
}

impl Owl {
    /// Loads a bundle onto a device.
    pub fn load(bundle: &Bundle, device: &Device) -> Result<Self, LoadError> {
        let config = OwlConfig::from_json(&bundle.manifest().config)?;
        table::check(bundle, &tensors::rows(&config))?;
        Ok(Self {
            name: bundle.manifest().name.clone(),
            detector: weights::open(Detector::init(&config, device), "", bundle, device)?,
            tokenizer: PromptTokenizer::of_bundle(bundle, FAMILY, &config.text)?,
            pictures: Pictures::of_bundle(bundle, &config.vision)?,
            texts: RefCell::default(),
            config,
            device: device.clone(),
        })
    }
}

impl Seen {
    fn read(&self) -> &Read {
        self.read.get_or_init(|| {
            let values: Vec<f32> = numbers(self.patches.boxes.clone());
            let logistic = |x: f32| 1.0 / (1.0 + (-x).exp());
            Read {
                boxes: values.as_chunks::<4>().0.iter().map(select::corners).collect(),
                objectness: self.patches.objectness.clone().map(|logits| numbers(logits).into_iter().map(logistic).collect()),
            }
        })
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

impl Model for Owl {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        self.pictures.prepare(frame)
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        let (width, height) = (inputs.width, inputs.height);
        let geometry = self.pictures.geometry(width, height)?;
        let patches = self.detector.patches(read_picture(inputs, self.config.vision.side, &self.device)?);
        Ok(Encoded::new(width, height, Seen { patches, geometry, read: OnceCell::new() }))
    }

    fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(self.tokenizer.encode(text)?.ids)
    }

    fn grounder(&self) -> Option<&dyn Grounder> {
        Some(self)
    }
}

impl Grounder for Owl {
    fn phrases(&self, phrases: &[&str]) -> Result<PhraseSet, ModelError> {
        if phrases.is_empty() {
            return Err(ModelError::Option { option: "phrase", reason: "there is none; give at least one".into() });
        }
        let vectors = self.texts.borrow_mut().get(phrases, &self.tokenizer, &self.detector.text)?;
        let values: Vec<f32> = vectors.into_iter().flat_map(|vector| Embedding::normalised(vector).values).collect();
        let shape = [phrases.len(), self.config.text.joint];
        let queries = Tensor::from_data(TensorData::new(values, shape), &self.device);
        Ok(PhraseSet { phrases: phrases.iter().map(|&phrase| Arc::from(phrase)).collect(), features: Box::new(Queries::Phrases(queries)) })
    }

    fn image_query(&self, encoded: &Encoded, name: &str) -> Result<PhraseSet, ModelError> {
        let seen: &Seen = encoded.features()?;
        let [_, count, joint] = seen.patches.vectors.dims();
        let vectors = seen.patches.vectors.clone().reshape([count, joint]);
        let read = seen.read();
        let patch = match &read.objectness {
            // The first of equals, as `argmax`.
            Some(objectness) => objectness.iter().enumerate().fold(0, |best, (i, value)| if *value > objectness[best] { i } else { best }),
            None => select::query_box(&read.boxes, &numbers(vectors.clone()), joint),
        };
        let query = vectors.narrow(0, patch, 1);
        Ok(PhraseSet { phrases: vec![Arc::from(name)], features: Box::new(Queries::Picture(query)) })
    }

    fn ground(&self, encoded: &Encoded, phrases: &PhraseSet, options: &GroundOptions) -> Result<Vec<Detection>, ModelError> {
        let seen: &Seen = encoded.features()?;
        let queries: &Queries = phrases.features.downcast_ref().ok_or(ModelError::ForeignFeatures)?;
        let (Queries::Phrases(vectors) | Queries::Picture(vectors)) = queries;
        let logits = numbers(self.detector.logits(&seen.patches, vectors.clone()));
        let read = seen.read();
        let chosen = match queries {
            Queries::Phrases(_) => select::for_phrases(&logits, phrases.phrases.len(), &read.boxes, options),
            Queries::Picture(_) => select::for_picture(&logits, &read.boxes, options),
        };
        let detection = |one: Chosen| Detection {
            phrase: phrases.phrases[one.query].clone(),
            score: one.score,
            bbox: seen.geometry.to_source([one.bbox.x0, one.bbox.y0, one.bbox.x1, one.bbox.y1]),
            objectness: read.objectness.as_ref().map(|objectness| objectness[one.patch]),
        };
        Ok(chosen.into_iter().map(detection).collect())
    }
}
