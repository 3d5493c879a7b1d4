//! Florence-2 behind the traits of `ocelli_flow`.

use std::fmt::Write;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ocelli_bundle::Bundle;
use ocelli_flow::{
    Caption, CaptionOptions, Captioner, Detection, Encoded, Frame, GenerateOptions, Generation, GroundOptions, Grounder, Inputs, Listener,
    Model, ModelError, PhraseSet,
};

use super::forward::Florence;
use super::regions::{self, Region, Rules};
use super::tasks::{self, Answer, Task};
use super::{FAMILY, FlorenceConfig, tensors};
use crate::pictures::{Pictures, read_picture};
use crate::text::generate::watch::Detokenizer;
use crate::text::generate::{Start, StepDecoder};
use crate::text::{Codec, write_as};
use crate::{LoadError, table, weights};

/// Names of locations: `<loc_0>` to `<loc_999>`.
const LOCATIONS: usize = 1000;

/// The model.
pub struct Florence2 {
    name: String,
    config: FlorenceConfig,
    network: Florence,
    words: Words,
    pictures: Pictures,
    device: Device,
}

/// What [`Florence2`] keeps of a picture: its tokens, `[1, tokens, width]`.
struct Seen(Tensor<3>);

/// Prompts of phrases, as ids.
struct Queries(Vec<Vec<u32>>);

/// The tokenizer, and what it says of tokens.
struct Words {
    codec: Codec,
    /// Sorted ids of locations.
    locations: Vec<u32>,
}

/// The text of an answer. Without `lines` it is only that; with them, a line ends where locations stand.
struct Spoken<'a> {
    words: &'a Words,
    lines: bool,
}

impl Florence2 {
    /// Loads a bundle onto a device.
    pub fn load(bundle: &Bundle, device: &Device) -> Result<Self, LoadError> {
        let config = FlorenceConfig::from_json(&bundle.manifest().config)?;
        table::check(bundle, &tensors::rows(&config))?;
        Ok(Self {
            name: bundle.manifest().name.clone(),
            network: weights::open(Florence::init(&config, device), "", bundle, device)?,
            words: Words::new(Codec::of_bundle(bundle, FAMILY, config.text.vocabulary)?)?,
            pictures: Pictures::of_square(bundle, config.vision.side)?,
            config,
            device: device.clone(),
        })
    }

    /// The ids of a prompt as they follow on a picture's tokens.
    fn prompt(&self, prompt: &str) -> Result<Vec<u32>, ModelError> {
        let ids = self.words.codec.encode(&format!("<s>{prompt}</s>"), false)?;
        let refuse = |reason: String| Err(ModelError::Text { text: prompt.chars().take(40).collect(), reason });
        if self.config.image_token.is_some_and(|image| ids.contains(&image)) {
            return refuse("the token of a picture stands in it; the picture comes by itself".into());
        }
        let room = self.network.text.max_tokens() - self.config.vision.tokens();
        if ids.len() > room {
            return refuse(format!("it has {} tokens, and there is room for {room} beside the picture", ids.len()));
        }
        Ok(ids)
    }

    /// What the model writes of a picture after a prompt.
    fn write(
        &self,
        seen: &Seen,
        prompt: &[u32],
        options: &GenerateOptions,
        detokenizer: &dyn Detokenizer,
        listener: &mut dyn Listener,
    ) -> Result<Generation, ModelError> {
        if options.grammar.is_some() {
            return Err(ModelError::Unsupported { what: "keep to a grammar" });
        }
        let text = &self.network.text;
        let start = self.config.text.start;
        let settings = self.config.generate.settings(options, 1, text.max_tokens() - 1)?;
        // Of what was read, its keys and values are all that is kept.
        let mut state = text.cache(&self.network.read(seen.0.clone(), prompt), 1 + settings.max_tokens);
        let logits = text.step(&[start], &mut state)?;
        let begun = Start { state: &mut state, logits, prompt: vec![start] };
        let mut written = write_as(text, begun, &settings, Vec::new(), detokenizer, &options.stop, listener)?;
        // A forced first token is a second start token, and nothing that the model wrote.
        if settings.forced_first.is_some() && written.tokens.first() == settings.forced_first.as_ref() {
            written.tokens.remove(0);
            written.token_logprobs.remove(0);
        }
        Ok(written)
    }

    /// The places in what was written. Florence-2 gives them no scores; theirs are [`regions::score`]'s.
    fn regions(&self, generation: &Generation, answer: Answer, seen: &Encoded) -> Result<Vec<Detection>, ModelError> {
        let written = self.words.codec.decode_whole(&generation.tokens)?;
        let rules = Rules { size: [seen.width, seen.height], banned: &self.config.banned_phrases, least_area: self.config.least_text_area };
        let each = generation.tokens.iter().zip(&generation.token_logprobs);
        let logprobs: Vec<f32> = each.filter(|(id, _)| self.words.is_location(**id)).map(|(_, logprob)| *logprob).collect();
        let detection = |region: Region| Detection {
            score: regions::score(&region, &written, &logprobs),
            phrase: Arc::from(region.label),
            bbox: region.bbox,
            objectness: None,
        };
        Ok(regions::regions(&written, answer, &rules).into_iter().map(detection).collect())
    }
}

impl Words {
    fn new(codec: Codec) -> Result<Self, LoadError> {
        let mut locations = Vec::with_capacity(LOCATIONS);
        let mut name = String::new();
        for i in 0..LOCATIONS {
            name.clear();
            // Writing to a string cannot fail.
            let _ = write!(name, "<loc_{i}>");
            locations.push(codec.needed(&name)?);
        }
        locations.sort_unstable();
        Ok(Self { codec, locations })
    }

    fn is_location(&self, id: u32) -> bool {
        self.locations.binary_search(&id).is_ok()
    }
}

impl Detokenizer for Spoken<'_> {
    fn text(&self, tokens: &[u32]) -> String {
        let codec = &self.words.codec;
        if !self.lines {
            return codec.text(tokens).trim().to_owned();
        }
        let pieces = tokens.split(|&id| self.words.is_location(id)).map(|piece| codec.text(piece));
        let lines: Vec<String> = pieces.map(|piece| piece.trim().to_owned()).filter(|piece| !piece.is_empty()).collect();
        lines.join("\n")
    }
}

impl Model for Florence2 {
    fn name(&self) -> &str {
        &self.name
    }

    fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        self.pictures.prepare(frame)
    }

    fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
        let (width, height) = (inputs.width, inputs.height);
        let picture = read_picture(inputs, self.config.vision.side, &self.device)?;
        Ok(Encoded::new(width, height, Seen(self.network.see(picture))))
    }

    /// A task's token, alone or with a text, stands for its prompt. The picture's tokens come first where the tokenizer has one for them.
    fn prompt_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let picture = self.config.image_token.iter().flat_map(|&image| vec![image; self.config.vision.tokens()]);
        Ok(picture.chain(self.prompt(&tasks::expand(text)?)?).collect())
    }

    fn grounder(&self) -> Option<&dyn Grounder> {
        Some(self)
    }

    fn captioner(&self) -> Option<&dyn Captioner> {
        Some(self)
    }
}

impl Captioner for Florence2 {
    fn tasks(&self) -> &[&'static str] {
        &tasks::NAMES
    }

    /// The text of a task with places is its labels, one a line; the places are the caption's regions.
    fn caption(&self, encoded: &Encoded, options: &CaptionOptions, listener: &mut dyn Listener) -> Result<Caption, ModelError> {
        let seen: &Seen = encoded.features()?;
        let task = Task::named(options.task.as_deref())?;
        let prompt = self.prompt(&task.prompt(options.prompt.as_deref())?)?;
        let spoken = Spoken { words: &self.words, lines: task.answer != Answer::Text };
        let generation = self.write(seen, &prompt, &options.generate, &spoken, listener)?;
        let regions = self.regions(&generation, task.answer, encoded)?;
        Ok(Caption::new(generation, regions))
    }
}

impl Grounder for Florence2 {
    fn phrases(&self, phrases: &[&str]) -> Result<PhraseSet, ModelError> {
        if phrases.is_empty() {
            return Err(ModelError::Option { option: "phrase", reason: "there is none; give at least one".into() });
        }
        let prompts = phrases.iter().map(|phrase| self.prompt(&tasks::GROUNDING.prompt(Some(phrase))?)).collect::<Result<_, _>>()?;
        Ok(PhraseSet { phrases: phrases.iter().map(|&phrase| Arc::from(phrase)).collect(), features: Box::new(Queries(prompts)) })
    }

    /// Each phrase is asked for by itself, and whatever part of it the model finds a place for is a detection of the phrase.
    fn ground(&self, encoded: &Encoded, phrases: &PhraseSet, options: &GroundOptions) -> Result<Vec<Detection>, ModelError> {
        let seen: &Seen = encoded.features()?;
        let Queries(prompts) = phrases.features.downcast_ref().ok_or(ModelError::ForeignFeatures)?;
        let spoken = Spoken { words: &self.words, lines: true };
        let mut found = Vec::new();
        for (phrase, prompt) in phrases.phrases.iter().zip(prompts) {
            let generation = self.write(seen, prompt, &GenerateOptions::default(), &spoken, &mut ())?;
            let mut places = self.regions(&generation, Answer::Phrases, encoded)?;
            places.retain(|place| options.threshold.is_none_or(|threshold| place.score >= threshold));
            places.sort_by(|a, b| b.score.total_cmp(&a.score));
            let mut kept: Vec<Detection> = Vec::new();
            for place in places {
                let crowded = options.nms.is_some_and(|nms| nms < 1.0 && kept.iter().any(|one| one.bbox.iou(&place.bbox) > nms));
                if !crowded && options.top.is_none_or(|top| kept.len() < top) {
                    kept.push(Detection { phrase: phrase.clone(), ..place });
                }
            }
            found.extend(kept);
        }
        Ok(found)
    }
}
