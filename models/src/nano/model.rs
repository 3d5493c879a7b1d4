//! nano behind the traits of `ocelli_flow`.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{
    Caption, CaptionOptions, Captioner as CaptionerTrait, Detection, Embedder, Embedding, Encoded, Frame, GroundOptions, Grounder, Inputs,
    Listener, Model, ModelError, PhraseSet,
};
use ocelli_preprocess::Squash;

use super::FAMILY;
use super::backbone::{Backbone, Features, SIDE, squash};
use super::caption::{Captioner, Specials};
use super::config::{CaptionSearch, NanoConfig};
use super::embed::{JointSpace, normalise};
use super::ground::{Calibration, Found, GroundHead, Phrases, normalise_phrase};
use crate::text::Tokenizer;
use crate::text::generate::{BeamSettings, Settings};
use crate::text::tower::pad_batch;
use crate::{LoadError, weights};

/// Texts that are embedded at a time.
const TEXT_BATCH: usize = 64;

/// The model.
pub struct Nano {
    name: String,
    device: Device,
    backbone: Backbone,
    joint: JointSpace,
    ground: GroundHead,
    calibration: Calibration,
    captioner: Captioner,
    search: CaptionSearch,
    tokenizer: Tokenizer,
    label_scale: f32,
    labels: Vec<(Arc<str>, String)>,
    templates: Vec<String>,
    squash: RefCell<Squash>,
}

/// What [`Nano`] keeps of a frame: the maps, and the joint vector once somebody asked for it.
struct Seen {
    maps: Features,
    joint: OnceCell<Tensor<2>>,
}

impl Nano {
    /// Loads all parts onto a device.
    pub fn load(bundle: &Bundle, device: &Device) -> Result<Self, LoadError> {
        let manifest = bundle.manifest();
        let config = NanoConfig::from_json(&manifest.config)?;
        let entry = |key: &str| bundle.text(key).ok_or_else(|| LoadError::Entry { key: key.to_owned(), family: FAMILY });
        let tokenizer = Tokenizer::from_json(entry("tokenizer.json")?)?;
        if tokenizer.vocabulary() != config.text.vocabulary {
            let reason = format!("it has {} tokens, the model {}", tokenizer.vocabulary(), config.text.vocabulary);
            return Err(LoadError::Tokenizer { reason });
        }
        let joint = weights::open(JointSpace::init(&config.text, &config.image, device), "joint", bundle, device)?;
        let label_scale = joint.label_scale.val().exp().into_data().iter::<f32>().next().unwrap_or(1.0);
        Ok(Self {
            name: manifest.name.clone(),
            backbone: weights::open(Backbone::init(device), "backbone", bundle, device)?,
            captioner: weights::open(Captioner::init(&config.caption, device), "caption", bundle, device)?,
            ground: weights::open(GroundHead::init(&config.ground, device), "ground", bundle, device)?,
            calibration: config.calibration,
            joint,
            search: config.search,
            label_scale,
            labels: entry("labels.txt")?.lines().map(|line| (Arc::from(line), line.to_owned())).collect(),
            templates: bundle.text("templates.txt").map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default(),
            tokenizer,
            squash: RefCell::new(squash()),
            device: device.clone(),
        })
    }

    /// The picture's joint vector, L2-normalised, `[1, joint]`; computed once a frame.
    fn joint_vector(&self, seen: &Seen) -> Tensor<2> {
        seen.joint.get_or_init(|| normalise(self.raw_vector(seen))).clone()
    }

    fn raw_vector(&self, seen: &Seen) -> Tensor<2> {
        self.joint.image.forward(seen.maps.head.clone(), seen.maps.logits.clone())
    }

    /// Joint vectors of texts, `[texts, joint]`.
    fn text_vectors(&self, texts: &[&str], raw: bool) -> Result<Tensor<2>, ModelError> {
        if texts.is_empty() {
            return Err(ModelError::Option { option: "text", reason: "there is none; give at least one".into() });
        }
        let [max_tokens, _] = self.joint.text.positions.dims();
        let mut vectors = Vec::new();
        for texts in texts.chunks(TEXT_BATCH) {
            let ids = texts.iter().map(|text| self.tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
            let (ids, lengths) = pad_batch(&ids, self.tokenizer.pad, max_tokens, &self.device);
            let batch = self.joint.text.forward(ids, &lengths);
            vectors.push(if raw { batch } else { normalise(batch) });
        }
        Ok(Tensor::cat(vectors, 0))
    }

    /// How near captions are to a picture's joint vector `[1, joint]`: cosines. A caption without words is nowhere.
    fn similarities(&self, captions: &[Caption], joint: Tensor<2>) -> Result<Vec<f32>, ModelError> {
        let texts: Vec<&str> = captions.iter().map(|caption| if caption.text.is_empty() { "." } else { caption.text.as_str() }).collect();
        Ok(self.text_vectors(&texts, false)?.matmul(joint.transpose()).into_data().iter::<f32>().collect())
    }

    fn settings(&self, options: &CaptionOptions) -> Result<(Settings, BeamSettings), ModelError> {
        let unsupported = |what| Err(ModelError::Unsupported { what });
        if options.prompt.is_some() {
            return unsupported("continue a prompt");
        }
        if options.task.is_some() {
            return unsupported("do other tasks than captions");
        }
        if options.generate.sampling.is_some() || options.generate.grammar.is_some() || !options.generate.stop.is_empty() {
            return unsupported("draw tokens, follow a grammar or stop at a text");
        }
        let Tokenizer { pad, start, end, .. } = self.tokenizer;
        self.search.settings(&options.generate, Specials { pad, start, end }, self.captioner.room())
    }
}

impl Model for Nano {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        let mut pixels = Vec::new();
        self.squash.borrow_mut().normalised(frame, &mut pixels);
        Ok(Inputs::pixels(frame.width(), frame.height(), [1, 3, SIDE, SIDE], pixels))
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        let (width, height) = (inputs.width, inputs.height);
        let pixels = inputs.into_pixels(&[1, 3, SIDE, SIDE]).map_err(|reason| ModelError::Inputs { reason })?;
        let picture = Tensor::from_data(TensorData::new(pixels, [1, 3, SIDE, SIDE]), &self.device);
        let seen = Seen { maps: self.backbone.forward(picture), joint: OnceCell::new() };
        Ok(Encoded::new(width, height, seen))
    }

    fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokenizer.encode(text)
    }

    fn embedder(&self) -> Option<&dyn Embedder> {
        Some(self)
    }

    fn grounder(&self) -> Option<&dyn Grounder> {
        Some(self)
    }

    fn captioner(&self) -> Option<&dyn CaptionerTrait> {
        Some(self)
    }
}

impl Embedder for Nano {
    fn dim(&self) -> usize {
        self.joint.text.joint.weight.dims()[1]
    }

    fn logit_scale(&self) -> f32 {
        self.label_scale
    }

    fn default_labels(&self) -> &[(Arc<str>, String)] {
        &self.labels
    }

    fn default_templates(&self) -> &[String] {
        &self.templates
    }

    fn embed_image(&self, encoded: &Encoded, raw: bool) -> Result<Embedding, ModelError> {
        let seen: &Seen = encoded.features()?;
        let vector = if raw { self.raw_vector(seen) } else { self.joint_vector(seen) };
        Ok(Embedding { values: vector.into_data().iter::<f32>().collect() })
    }

    fn embed_text(&self, texts: &[&str], raw: bool) -> Result<Vec<Embedding>, ModelError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<f32> = self.text_vectors(texts, raw)?.into_data().iter::<f32>().collect();
        Ok(values.chunks_exact(self.dim()).map(|row| Embedding { values: row.to_vec() }).collect())
    }
}

impl Grounder for Nano {
    fn phrases(&self, phrases: &[&str]) -> Result<PhraseSet, ModelError> {
        // In the form they were trained in: "A brown dog." asks what "brown dog" asks.
        let normal: Vec<String> = phrases.iter().map(|phrase| normalise_phrase(phrase)).collect();
        let vectors = self.text_vectors(&normal.iter().map(String::as_str).collect::<Vec<_>>(), false)?;
        let features = self.ground.phrases(vectors);
        Ok(PhraseSet { phrases: phrases.iter().map(|&phrase| Arc::from(phrase)).collect(), features: Box::new(features) })
    }

    fn ground(&self, encoded: &Encoded, phrases: &PhraseSet, options: &GroundOptions) -> Result<Vec<Detection>, ModelError> {
        let seen: &Seen = encoded.features()?;
        let features: &Phrases = phrases.features.downcast_ref().ok_or(ModelError::ForeignFeatures)?;
        let grid = self.ground.encode(&seen.maps, self.joint_vector(seen));
        let found = self.ground.find(&grid, features, &self.calibration, options);
        let detections = phrases.phrases.iter().zip(found).flat_map(|(phrase, found)| {
            let detection = move |found: Found| Detection {
                phrase: phrase.clone(),
                score: found.score,
                bbox: found.in_pixels(encoded.width, encoded.height),
                objectness: None,
            };
            found.into_iter().map(detection)
        });
        Ok(detections.collect())
    }
}

impl CaptionerTrait for Nano {
    fn caption(&self, encoded: &Encoded, options: &CaptionOptions, listener: &mut dyn Listener) -> Result<Caption, ModelError> {
        let (settings, search) = self.settings(options)?;
        let seen: &Seen = encoded.features()?;
        let joint = self.joint_vector(seen);
        let vector = self.captioner.vector_tokens(joint.clone());
        let picture = self.captioner.picture_tokens(seen.maps.head.clone(), seen.maps.stride16.clone());
        let memories = [(Tensor::cat(vec![picture, vector.clone()], 1), false), (vector, true)];
        let (mut captions, mut from) = (Vec::new(), Vec::new());
        for (memory, from_vector) in memories {
            for found in self.captioner.captions(memory, self.tokenizer.start, &settings, &search)?.into_iter().flatten() {
                let (text, logprob) = (self.tokenizer.decode(&found.tokens)?, found.logprob());
                captions.push(Caption { text, logprob, tokens: found.tokens, score: found.score, regions: Vec::new() });
                from.push(from_vector);
            }
        }
        let similarities = self.similarities(&captions, joint)?;
        let value =
            |((caption, from_vector), similarity): ((&Caption, bool), f32)| self.search.value(caption.score, similarity, from_vector);
        let values: Vec<f32> = captions.iter().zip(from).zip(similarities).map(value).collect();
        // The first of equals.
        let best = (0..captions.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)));
        let caption = best.and_then(|best| captions.into_iter().nth(best));
        let caption = caption.ok_or(ModelError::Compute { stage: "caption", reason: "the search found no sentence".into() })?;
        // Whether the listener wants more does not matter any more.
        let _ = listener.piece(&caption.text);
        Ok(caption)
    }
}
