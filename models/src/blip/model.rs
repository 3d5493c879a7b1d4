//! BLIP behind the traits of `ocelli_flow`.

use burn::tensor::{Device, Tensor};
use ocelli_bundle::Bundle;
use ocelli_flow::{
    Answerer, Caption, CaptionOptions, Captioner, Embedder, Embedding, Encoded, Frame, GenerateOptions, Generation, Inputs, Listener,
    Match, Matcher, Message, Model, ModelError, Part, Prompt, Role,
};

use super::forward::{Parts, class_token, probability};
use super::{BlipConfig, FAMILY, Purpose, tensors};
use crate::blocks::Linear;
use crate::pictures::{Pictures, read_picture};
use crate::text::{Codec, TextTransformer, write_about};
use crate::{LoadError, table, weights};

/// What cosines are divided by to become logits: where BLIP's training begins with it; checkpoints do not keep where it ends.
const TEMPERATURE: f32 = 0.07;

/// The model.
pub struct Blip {
    name: String,
    config: BlipConfig,
    parts: Parts,
    codec: Codec,
    pictures: Pictures,
    device: Device,
}

/// What the vision tower made of a picture: `[1, tokens, vision]`.
struct Seen(Tensor<3>);

impl Blip {
    /// Loads a bundle onto a device.
    pub fn load(bundle: &Bundle, device: &Device) -> Result<Self, LoadError> {
        let config = BlipConfig::from_json(&bundle.manifest().config)?;
        table::check(bundle, &tensors::rows(&config))?;
        Ok(Self {
            name: bundle.manifest().name.clone(),
            parts: weights::open(Parts::init(&config, device), "", bundle, device)?,
            codec: Codec::of_bundle(bundle, FAMILY, config.text.vocabulary)?,
            pictures: Pictures::of_bundle(bundle, &config.vision)?,
            config,
            device: device.clone(),
        })
    }

    /// What the encoder reads of a text, between its special tokens.
    fn text_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let ids = self.codec.encode(text, true)?;
        let most = self.config.text.max_tokens;
        if ids.is_empty() || ids.len() > most {
            let reason = format!("it has {} tokens, and the model reads 1 to {most}", ids.len());
            return Err(ModelError::Text { text: text.chars().take(40).collect(), reason });
        }
        Ok(ids)
    }

    /// What the decoder writes after `prompt`, looking at `memory`.
    fn write(
        &self,
        memory: &Tensor<3>,
        prompt: Vec<u32>,
        options: &GenerateOptions,
        listener: &mut dyn Listener,
    ) -> Result<Generation, ModelError> {
        let decoder = self.parts.decoder.as_ref().ok_or(ModelError::Unsupported { what: "write" })?;
        write_about(decoder, memory, prompt, &self.config.generation, &self.codec, options, listener)
    }

    /// The encoder of texts, and one of the heads behind it.
    fn reader<'a>(&'a self, head: &'a Option<Linear>) -> Result<(&'a TextTransformer, &'a Linear), ModelError> {
        self.parts.encoder.as_ref().zip(head.as_ref()).ok_or(ModelError::Unsupported { what: "embed or match texts" })
    }

    /// A text's point of the joint space.
    fn text_vector(&self, ids: &[u32]) -> Result<Embedding, ModelError> {
        let (encoder, projection) = self.reader(&self.parts.text_projection)?;
        Ok(embedding(projection.forward(class_token(encoder.encode(ids, &[])))))
    }
}

fn embedding(vector: Tensor<2>) -> Embedding {
    Embedding { values: vector.into_data().iter::<f32>().collect() }
}

/// The one question that there is.
fn question(prompt: &Prompt) -> Result<String, ModelError> {
    let messages = match prompt {
        Prompt::Raw(text) => return Ok(text.clone()),
        Prompt::Messages(messages) => messages,
    };
    match messages.as_slice() {
        [Message { role: Role::User, parts }] => {
            let text = |part: &Part| if let Part::Text(text) = part { Some(text.clone()) } else { None };
            Ok(parts.iter().filter_map(text).collect::<Vec<_>>().join(" "))
        }
        _ => Err(ModelError::Unsupported { what: "hold a conversation, only answer one question" }),
    }
}

impl Model for Blip {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        self.pictures.prepare(frame)
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        let (width, height) = (inputs.width, inputs.height);
        let picture = read_picture(inputs, self.config.vision.side, &self.device)?;
        Ok(Encoded::new(width, height, Seen(self.parts.vision.forward(picture).tokens)))
    }

    /// What the text encoder reads; of a model of captions, what the decoder reads before it writes.
    fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        if self.config.purpose != Purpose::Caption {
            return self.text_ids(text);
        }
        let mut ids = vec![self.config.start];
        ids.extend(self.codec.encode(text, false)?);
        Ok(ids)
    }

    fn embedder(&self) -> Option<&dyn Embedder> {
        matches!(self.config.purpose, Purpose::Match(_)).then_some(self)
    }

    fn captioner(&self) -> Option<&dyn Captioner> {
        (self.config.purpose == Purpose::Caption).then_some(self)
    }

    fn answerer(&self) -> Option<&dyn Answerer> {
        (self.config.purpose == Purpose::Answer).then_some(self)
    }

    fn matcher(&self) -> Option<&dyn Matcher> {
        matches!(self.config.purpose, Purpose::Match(_)).then_some(self)
    }
}

impl Captioner for Blip {
    fn caption(&self, encoded: &Encoded, options: &CaptionOptions, listener: &mut dyn Listener) -> Result<Caption, ModelError> {
        if options.task.is_some() {
            return Err(ModelError::Unsupported { what: "do other tasks than captions" });
        }
        let Seen(seen) = encoded.features()?;
        let prompt = self.prompt_ids(options.prompt.as_deref().unwrap_or_default())?;
        Ok(Caption::new(self.write(seen, prompt, &options.generate, listener)?, Vec::new()))
    }
}

impl Answerer for Blip {
    fn ask(
        &self,
        pictures: &[&Encoded],
        prompt: &Prompt,
        options: &GenerateOptions,
        listener: &mut dyn Listener,
    ) -> Result<Generation, ModelError> {
        let &[encoded] = pictures else {
            return Err(ModelError::Option { option: "image", reason: format!("there are {}; the model looks at one", pictures.len()) });
        };
        let Seen(seen) = encoded.features()?;
        let ids = self.text_ids(&question(prompt)?)?;
        let encoder = self.parts.encoder.as_ref().ok_or(ModelError::Unsupported { what: "read questions" })?;
        let asked = encoder.encode(&ids, &encoder.memory(seen));
        self.write(&asked, vec![self.config.start], options, listener)
    }
}

impl Matcher for Blip {
    fn match_texts(&self, encoded: &Encoded, texts: &[&str]) -> Result<Vec<Match>, ModelError> {
        let Seen(seen) = encoded.features()?;
        let (encoder, head) = self.reader(&self.parts.match_head)?;
        let memory = encoder.memory(seen);
        let image = self.embed_image(encoded, false)?;
        let one = |text: &&str| {
            let ids = self.text_ids(text)?;
            let score = probability(encoder, head, &ids, &memory).into_data().iter::<f32>().next().unwrap_or(f32::NAN);
            let cosine = image.dot(&self.text_vector(&ids)?.normalised());
            Ok(Match { score, cosine: Some(cosine) })
        };
        texts.iter().map(one).collect()
    }
}

impl Embedder for Blip {
    fn dim(&self) -> usize {
        if let Purpose::Match(dim) = self.config.purpose { dim } else { 0 }
    }

    fn logit_scale(&self) -> f32 {
        TEMPERATURE.recip()
    }

    fn embed_image(&self, encoded: &Encoded, raw: bool) -> Result<Embedding, ModelError> {
        let Seen(seen) = encoded.features()?;
        let projection = self.parts.vision_projection.as_ref().ok_or(ModelError::Unsupported { what: "embed pictures" })?;
        let vector = embedding(projection.forward(class_token(seen.clone())));
        Ok(if raw { vector } else { vector.normalised() })
    }

    fn embed_text(&self, texts: &[&str], raw: bool) -> Result<Vec<Embedding>, ModelError> {
        let one = |text: &&str| {
            let vector = self.text_vector(&self.text_ids(text)?)?;
            Ok(if raw { vector } else { vector.normalised() })
        };
        texts.iter().map(one).collect()
    }
}
