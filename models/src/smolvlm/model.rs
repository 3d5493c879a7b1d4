//! SmolVLM behind the traits of `ocelli_flow`.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{
    Adapter, Answerer, Caption, CaptionOptions, Captioner, Encoded, Frame, GenerateOptions, Generation, InputTensor, InputValues, Inputs,
    Listener, Message, Model, ModelError, Part, Prompt, Role,
};
use ocelli_preprocess::{PrepareError, Processor, Recipe, Resize, Source, Tiles};

use super::config::Config;
use super::forward::Network;
use super::{FAMILY, prompt, tensors};
use crate::blocks;
use crate::llama::session::{Place, Session};
use crate::text::generate::{Start, Strategy};
use crate::text::{ChatTemplate, Codec, write};
use crate::{LoadError, table, weights};

/// What a caption is asked for with.
const CAPTION: &str = "Describe this image in one sentence.";

/// The model.
pub struct SmolVlm {
    name: String,
    config: Config,
    network: Network,
    codec: Codec,
    template: Option<ChatTemplate>,
    processor: Option<RefCell<Processor>>,
    session: RefCell<Session>,
    device: Device,
}

/// A picture as the language model reads it.
struct Seen {
    /// No other picture has it.
    number: u64,
    tiles: Tiles,
    /// `[tiles · tokens, text]`
    vectors: Tensor<2>,
}

/// What a prompt became.
struct Words<'a> {
    ids: Vec<u32>,
    places: Vec<Place>,
    pictures: Vec<&'a Seen>,
}

impl SmolVlm {
    /// Loads a bundle onto a device.
    ///
    /// # Errors
    /// Says what of the bundle does not fit.
    pub fn load(bundle: &Bundle, device: &Device) -> Result<Self, LoadError> {
        let config = Config::from_json(&bundle.manifest().config)?;
        table::check(bundle, &tensors::rows(&config))?;
        let network = weights::open(Network::init(&config, device), "", bundle, device)?.for_tiles(&config);
        let codec = Codec::of_bundle(bundle, FAMILY, config.text.vocabulary)?;
        let template = bundle
            .text("chat_template")
            .map(|template| ChatTemplate::new(template, config.start_token.clone(), config.end_token.clone(), config.vision.is_some()));
        let processor = match &config.vision {
            None => None,
            Some(vision) => {
                if codec.needed(prompt::IMAGE)? != vision.image_token {
                    return Err(LoadError::Tokenizer { reason: format!("its {} is not token {}", prompt::IMAGE, vision.image_token) });
                }
                let wrong = |reason: String| LoadError::Preprocessing { reason };
                let recipe: Recipe =
                    serde_json::from_value(bundle.manifest().preprocessing.clone()).map_err(|error| wrong(error.to_string()))?;
                if !matches!(recipe.resize, Some(Resize::Tiles { side, .. }) if side as usize == vision.tile) {
                    return Err(wrong(format!("it does not make tiles of {} pixels, which the model reads", vision.tile)));
                }
                Some(RefCell::new(Processor::new(recipe).map_err(|error| wrong(error.to_string()))?))
            }
        };
        Ok(Self {
            name: bundle.manifest().name.clone(),
            network,
            codec,
            template: template.transpose()?,
            processor,
            session: RefCell::default(),
            device: device.clone(),
            config,
        })
    }

    /// The network, for tests of its stages.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The token ids of a prompt with these pictures, and the words before they were tokenized.
    ///
    /// # Errors
    /// Where the template refuses the messages, or markers and pictures do not fit.
    pub fn prompt(&self, pictures: &[&Encoded], asked: &Prompt) -> Result<(String, Vec<u32>), ModelError> {
        let seen = pictures.iter().map(|picture| picture.features::<Seen>()).collect::<Result<Vec<_>, _>>()?;
        let text = self.text(asked)?;
        let words = match &self.config.vision {
            Some(vision) => prompt::expand(&text, &seen.iter().map(|seen| seen.tiles).collect::<Vec<_>>(), vision.tokens())?,
            None if seen.is_empty() => text.clone(),
            None => return Err(ModelError::Unsupported { what: "read pictures" }),
        };
        // What the template begins with is not put there twice.
        let begun = self.config.start_token.as_ref().is_some_and(|start| words.starts_with(start.as_str()));
        let ids = self.codec.encode(&words, !begun)?;
        Ok((text, ids))
    }

    /// The last hidden states `[tokens, d]` and logits `[tokens, vocabulary]` of a prompt and tokens after it, read at once; for comparing.
    ///
    /// # Errors
    /// As [`Answerer::ask`].
    pub fn teacher_forced(&self, pictures: &[&Encoded], asked: &Prompt, tokens: &[u32]) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        let x = self.forced(&self.words(pictures, asked)?, tokens)?;
        let floats = |x: Tensor<3>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        let text = &self.network.text;
        Ok((floats(text.norm.forward(x.clone())), floats(text.logits(x))))
    }

    /// What the layers make of a prompt and tokens after it, read at once: `[1, places, d]`.
    fn forced(&self, words: &Words<'_>, tokens: &[u32]) -> Result<Tensor<3>, ModelError> {
        let text = &self.network.text;
        let mut vectors = vec![self.vectors(words, 0..words.places.len())?];
        if !tokens.is_empty() {
            vectors.push(text.embed(tokens, &self.device)?);
        }
        let mut cache = text.cache(1, words.places.len() + tokens.len(), &self.device);
        text.forward(Tensor::cat(vectors, 1), &mut cache)
    }

    /// How many places of the last prompt had been read before, with one that began like it.
    pub fn shared_last(&self) -> usize {
        self.session.borrow().shared_last()
    }

    fn text(&self, asked: &Prompt) -> Result<String, ModelError> {
        match (asked, &self.template) {
            (Prompt::Raw(text), _) => Ok(text.clone()),
            (Prompt::Messages(messages), Some(template)) => template.render(messages),
            (Prompt::Messages(_), None) => {
                let reason = "the model came without a chat template; give the whole prompt with --raw".into();
                Err(ModelError::Prompt { reason })
            }
        }
    }

    fn words<'a>(&self, pictures: &[&'a Encoded], asked: &Prompt) -> Result<Words<'a>, ModelError> {
        let (_, ids) = self.prompt(pictures, asked)?;
        if ids.is_empty() {
            return Err(ModelError::Prompt { reason: "the prompt is empty; ask something".into() });
        }
        let pictures = pictures.iter().map(|picture| picture.features::<Seen>()).collect::<Result<Vec<_>, _>>()?;
        let of_pictures = |seen: &&Seen| (0..seen.vectors.dims()[0] as u32).map(|i| Place::Picture(seen.number, i)).collect::<Vec<_>>();
        let mut vectors = pictures.iter().flat_map(of_pictures);
        let image_token = self.config.vision.as_ref().map(|vision| vision.image_token);
        let mut places = Vec::with_capacity(ids.len());
        for &id in &ids {
            places.push(if Some(id) == image_token { vectors.next() } else { Some(Place::Token(id)) });
        }
        // A text that writes the token itself.
        let (Some(places), None) = (places.into_iter().collect::<Option<Vec<_>>>(), vectors.next()) else {
            let reason = "the prompt's image tokens are not those of its pictures; leave them out of the text".into();
            return Err(ModelError::Prompt { reason });
        };
        Ok(Words { ids, places, pictures })
    }

    /// The vectors of some places, `[1, places, text]`.
    fn vectors(&self, words: &Words<'_>, places: Range<usize>) -> Result<Tensor<3>, ModelError> {
        let mut parts = Vec::new();
        let mut at = places.start;
        while at < places.end {
            let same = |place: &&Place| match (words.places[at], **place) {
                (Place::Token(_), Place::Token(_)) => true,
                (Place::Picture(a, _), Place::Picture(b, _)) => a == b,
                _ => false,
            };
            let run = words.places[at..places.end].iter().take_while(same).count();
            parts.push(match words.places[at] {
                Place::Token(_) => self.network.text.embed(&words.ids[at..at + run], &self.device)?,
                Place::Picture(number, first) => {
                    let seen = words.pictures.iter().find(|seen| seen.number == number).ok_or(ModelError::ForeignFeatures)?;
                    seen.vectors.clone().narrow(0, first as usize, run).unsqueeze::<3>()
                }
            });
            at += run;
        }
        Ok(Tensor::cat(parts, 1))
    }

    fn write(&self, words: &Words<'_>, options: &GenerateOptions, listener: &mut dyn Listener) -> Result<Generation, ModelError> {
        let most = self.config.text.context;
        if words.ids.len() >= most {
            let reason = format!(
                "the prompt has {} tokens, and the model's context {most}: use fewer pictures, --tiles 1, or a shorter text",
                words.ids.len()
            );
            return Err(ModelError::Prompt { reason });
        }
        let settings = self.config.generation.settings(options, words.ids.len(), most - words.ids.len())?;
        let decoder = &self.network.text;
        let mut session = self.session.borrow_mut();
        let vectors = |places| self.vectors(words, places);
        let (mut cache, logits) = session.read(decoder, &words.places, settings.max_tokens, &self.device, vectors)?;
        // Beams have a cache of their own; what one sequence wrote is kept with the prompt.
        let mut beams = matches!(settings.strategy, Strategy::Beams(_)).then(|| cache.fork());
        let start = Start { state: beams.as_mut().unwrap_or(&mut cache), logits, prompt: words.ids.clone() };
        let written = write(decoder, start, &settings, &self.codec, options, listener);
        let mut places = words.places.clone();
        if let (Ok(written), None) = (&written, &beams) {
            places.extend(written.tokens.iter().map(|&token| Place::Token(token)));
        }
        session.keep(cache, places);
        written
    }

    /// A picture's tiles made ready and seen one at a time: what that needs of memory does not grow with their number.
    fn seen(&self, frame: &Frame, most: Option<usize>) -> Result<Encoded, ModelError> {
        let processor = self.processor.as_ref().ok_or(ModelError::Unsupported { what: "read pictures" })?;
        let mut processor = processor.borrow_mut();
        let most = most.map(|most| u32::try_from(most).unwrap_or(u32::MAX));
        let cut = processor.cut(&Source::frame(frame), most).map_err(refused)?;
        let tiles = cut.tiles();
        self.see((frame.width(), frame.height()), tiles, (0..tiles.count()).map(|i| cut.tile(i)))
    }

    fn see(&self, (width, height): (u32, u32), tiles: Tiles, pixels: impl Iterator<Item = Vec<f32>>) -> Result<Encoded, ModelError> {
        static PICTURES: AtomicU64 = AtomicU64::new(0);
        let vision = self.config.vision.as_ref().ok_or(ModelError::Unsupported { what: "read pictures" })?;
        let see = |tile: Vec<f32>| {
            let tile = TensorData::new(tile, [1, 3, vision.tile, vision.tile]);
            self.network.see(Tensor::<4>::from_data(tile, &self.device), vision.shuffle)
        };
        let vectors: Vec<Tensor<2>> = pixels.filter_map(see).collect();
        let seen = Seen { number: PICTURES.fetch_add(1, Ordering::Relaxed), tiles, vectors: Tensor::cat(vectors, 0) };
        Ok(Encoded::new(width, height, seen))
    }

    fn prepared(&self, frame: &Frame, most: Option<usize>) -> Result<Inputs, ModelError> {
        let processor = self.processor.as_ref().ok_or(ModelError::Unsupported { what: "read pictures" })?;
        let mut processor = processor.borrow_mut();
        let source = Source::frame(frame);
        let prepared = match most {
            None => processor.prepare_source(&source),
            Some(most) => processor.prepare_tiles(&source, u32::try_from(most).unwrap_or(u32::MAX)),
        };
        let prepared = prepared.map_err(refused)?;
        let tiles = prepared.tiles.unwrap_or_default();
        let (count, [height, width]) = (tiles.count(), [prepared.height as usize, prepared.width as usize]);
        let tensor = |name: &'static str, shape: Vec<usize>, values| InputTensor { name: name.into(), shape, values };
        let number = |n: u32| InputValues::I64(vec![i64::from(n)]);
        let tensors = vec![
            tensor("cols", vec![1, 1], number(tiles.columns)),
            tensor("pixel_attention_mask", vec![1, count, height, width], InputValues::I64(vec![1; count * height * width])),
            tensor("pixel_values", vec![1, count, 3, height, width], InputValues::F32(prepared.values)),
            tensor("rows", vec![1, 1], number(tiles.rows)),
        ];
        Ok(Inputs { width: frame.width(), height: frame.height(), tensors })
    }

    /// How the tiles of prepared tensors lie: as they say, or as the picture's size does.
    fn tiles(&self, inputs: &Inputs, count: usize) -> Result<Tiles, ModelError> {
        let number = |name: &str| match inputs.tensor(name).map(|tensor| &tensor.values) {
            Some(InputValues::I64(values)) if values.len() == 1 => u32::try_from(values[0]).ok(),
            _ => None,
        };
        let said = number("rows").zip(number("cols")).map(|(rows, columns)| Tiles { rows, columns });
        let follows = || self.processor.as_ref()?.borrow().tiles(inputs.width, inputs.height);
        let whole = (count == 1).then(Tiles::default);
        let tiles = said.or(whole).or_else(follows).unwrap_or_default();
        if tiles.count() != count || (tiles.rows == 0) != (tiles.columns == 0) {
            let reason = format!("there are {count} tiles, and {} x {} beside the whole picture are said", tiles.rows, tiles.columns);
            return Err(ModelError::Inputs { reason });
        }
        Ok(tiles)
    }
}

impl Model for SmolVlm {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        self.prepared(frame, None)
    }

    fn preprocess_in_tiles(&self, frame: &Frame, tiles: usize) -> Result<Inputs, ModelError> {
        self.prepared(frame, Some(tiles))
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        let vision = self.config.vision.as_ref().ok_or(ModelError::Unsupported { what: "read pictures" })?;
        let count = inputs.tensor("pixel_values").and_then(|tensor| tensor.shape.get(1).copied()).unwrap_or(0);
        let size = (inputs.width, inputs.height);
        let tiles = self.tiles(&inputs, count)?;
        let pixels = inputs.into_pixels(&[1, count, 3, vision.tile, vision.tile]).map_err(|reason| ModelError::Inputs { reason })?;
        self.see(size, tiles, pixels.chunks_exact(3 * vision.tile.pow(2)).map(<[f32]>::to_vec))
    }

    fn encode(&self, frame: &Frame) -> Result<Encoded, ModelError> {
        self.seen(frame, None)
    }

    fn encode_in_tiles(&self, frame: &Frame, tiles: usize) -> Result<Encoded, ModelError> {
        self.seen(frame, Some(tiles))
    }

    fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.codec.encode(text, true)
    }

    fn set_adapter(&mut self, adapter: Option<&Adapter>) -> Result<(), ModelError> {
        blocks::adapt(&mut self.network, adapter, &self.device)?;
        // What was read was read without it.
        self.session = RefCell::default();
        Ok(())
    }

    fn captioner(&self) -> Option<&dyn Captioner> {
        self.config.vision.is_some().then_some(self)
    }

    fn answerer(&self) -> Option<&dyn Answerer> {
        Some(self)
    }
}

impl Captioner for SmolVlm {
    fn caption(&self, encoded: &Encoded, options: &CaptionOptions, listener: &mut dyn Listener) -> Result<Caption, ModelError> {
        if let Some(task) = &options.task {
            return Err(ModelError::Option { option: "task", reason: format!("{task:?}: this model has none; say it in a --prompt") });
        }
        let asked = caption_prompt(options.prompt.as_deref());
        let written = self.ask(&[encoded], &asked, &options.generate, listener)?;
        let text = written.text.trim().to_owned();
        Ok(Caption::new(Generation { text, ..written }, Vec::new()))
    }

    fn follow(&self, encoded: &Encoded, tokens: &[u32]) -> Result<Vec<u32>, ModelError> {
        let Some((_, before)) = tokens.split_last() else { return Ok(Vec::new()) };
        let words = self.words(&[encoded], &caption_prompt(None))?;
        let x = self.forced(&words, before)?;
        let count = x.dims()[1];
        let likeliest = self.network.text.logits(x.narrow(1, count - tokens.len(), tokens.len())).argmax(2);
        Ok(likeliest.into_data().iter::<i64>().map(|id| id as u32).collect())
    }
}

fn refused(error: PrepareError) -> ModelError {
    ModelError::Compute { stage: "preprocess", reason: error.to_string() }
}

/// What the model is asked for a caption.
fn caption_prompt(asked: Option<&str>) -> Prompt {
    let text = Part::Text(asked.unwrap_or(CAPTION).to_owned());
    Prompt::Messages(vec![Message { role: Role::User, parts: vec![Part::Picture, text] }])
}

impl Answerer for SmolVlm {
    fn ask(
        &self,
        pictures: &[&Encoded],
        prompt: &Prompt,
        options: &GenerateOptions,
        listener: &mut dyn Listener,
    ) -> Result<Generation, ModelError> {
        self.write(&self.words(pictures, prompt)?, options, listener)
    }
}
