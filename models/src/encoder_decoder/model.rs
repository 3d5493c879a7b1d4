//! The equations, and the model behind the traits of `ocelli_flow`.
//!
//! ```text
//! memory = W · norm(vision(pixels)) + b        without W where the decoder reads the encoder's width
//! text = decoder(start token, prompt | memory)
//! ```

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_bundle::Bundle;
use ocelli_flow::{Caption, CaptionOptions, Captioner, Encoded, Frame, Inputs, Listener, Model, ModelError};

use super::{EncoderDecoderConfig, FAMILY, tensors};
use crate::blocks::{Linear, VisionTower};
use crate::pictures::{Pictures, read_picture};
use crate::text::{Codec, TextTransformer, write_about};
use crate::{LoadError, linears, table, weights};

/// Encoder and decoder.
#[derive(Module, Debug)]
pub struct EncoderDecoder {
    /// Of pictures.
    pub vision: VisionTower,
    /// `[vision, d]`, between them.
    pub projection: Option<Linear>,
    /// Of texts.
    pub decoder: TextTransformer,
}

linears!(EncoderDecoder { vision, projection, decoder });

impl EncoderDecoder {
    /// Both with random weights.
    pub fn init(config: &EncoderDecoderConfig, device: &Device) -> Self {
        Self {
            vision: VisionTower::init(&config.vision, device),
            projection: config.projected.then(|| Linear::init(config.vision.width, config.text.width, device)),
            decoder: TextTransformer::init(&config.text, device),
        }
    }

    /// Normalised pictures `[batch, 3, side, side]` → what the decoder reads, `[batch, tokens, memory]`.
    pub fn encode(&self, pictures: Tensor<4>) -> Tensor<3> {
        let tokens = self.vision.forward(pictures).tokens;
        match &self.projection {
            Some(projection) => projection.forward(tokens),
            None => tokens,
        }
    }
}

/// The model.
pub struct PictureReader {
    name: String,
    config: EncoderDecoderConfig,
    parts: EncoderDecoder,
    codec: Codec,
    pictures: Pictures,
    device: Device,
}

/// What the encoder made of a picture: `[1, tokens, memory]`.
struct Memory(Tensor<3>);

impl PictureReader {
    /// Loads a bundle onto a device.
    pub fn load(bundle: &Bundle, device: &Device) -> Result<Self, LoadError> {
        let config = EncoderDecoderConfig::from_json(&bundle.manifest().config)?;
        table::check(bundle, &tensors::rows(&config))?;
        Ok(Self {
            name: bundle.manifest().name.clone(),
            parts: weights::open(EncoderDecoder::init(&config, device), "", bundle, device)?,
            codec: Codec::of_bundle(bundle, FAMILY, config.text.vocabulary)?,
            pictures: Pictures::of_bundle(bundle, &config.vision)?,
            config,
            device: device.clone(),
        })
    }
}

impl Model for PictureReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        self.pictures.prepare(frame)
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        let (width, height) = (inputs.width, inputs.height);
        let picture = read_picture(inputs, self.config.vision.side, &self.device)?;
        Ok(Encoded::new(width, height, Memory(self.parts.encode(picture))))
    }

    /// What the decoder reads before it writes: the start token, and the text.
    fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let mut ids = vec![self.config.start];
        ids.extend(self.codec.encode(text, false)?);
        Ok(ids)
    }

    fn captioner(&self) -> Option<&dyn Captioner> {
        Some(self)
    }
}

impl Captioner for PictureReader {
    fn caption(&self, encoded: &Encoded, options: &CaptionOptions, listener: &mut dyn Listener) -> Result<Caption, ModelError> {
        if options.task.is_some() {
            return Err(ModelError::Unsupported { what: "do other tasks than captions" });
        }
        let Memory(memory) = encoded.features()?;
        let prompt = self.prompt_ids(options.prompt.as_deref().unwrap_or_default())?;
        let (decoder, defaults) = (&self.parts.decoder, &self.config.generation);
        let generation = write_about(decoder, memory, prompt, defaults, &self.codec, &options.generate, listener)?;
        Ok(Caption::new(generation, Vec::new()))
    }
}
