//! How tokens are chosen: a checkpoint's defaults, and what a user asks for.

use ocelli_flow::{GenerateOptions, ModelError, Sampling};
use serde::{Deserialize, Serialize};

use super::beam::{BeamSettings, EarlyStopping};

/// Widest beam that a user may ask for.
pub const MAX_BEAMS: usize = 64;
/// How many tokens are written where nobody says.
const MAX_TOKENS: usize = 64;

/// What `generation_config.json` of a checkpoint says, as a family's configuration keeps it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Defaults {
    /// Tokens that end a text.
    pub end: Vec<u32>,
    /// Longest sequence, prompt included.
    pub max_length: Option<usize>,
    /// Most tokens to generate.
    pub max_new_tokens: Option<usize>,
    /// Shortest sequence, prompt included: until then no end.
    pub min_length: usize,
    /// Beam width.
    pub beams: Option<usize>,
    /// Of the beams' comparison.
    pub length_penalty: Option<f32>,
    /// When a beam search is over.
    pub early_stopping: EarlyStopping,
    /// Of tokens that are there already.
    pub repetition_penalty: Option<f32>,
    /// Length of sequences that may not come twice.
    pub no_repeat_ngram: usize,
    /// The token that must come first.
    pub forced_first: Option<u32>,
    /// The token that must come where the length is reached.
    pub forced_last: Option<u32>,
    /// Tokens that never come.
    pub suppressed: Vec<u32>,
    /// Tokens that do not come first.
    pub suppressed_first: Vec<u32>,
    /// Sequences that never come.
    pub bad_words: Vec<Vec<u32>>,
}

/// How tokens are chosen, in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// At most so many tokens, the end token counted.
    pub max_tokens: usize,
    /// No end before so many.
    pub min_tokens: usize,
    /// Tokens that end a text.
    pub end: Vec<u32>,
    /// Which one to take.
    pub strategy: Strategy,
    /// 1 changes nothing.
    pub repetition_penalty: f32,
    /// 0 forbids nothing.
    pub no_repeat_ngram: usize,
    /// See [`Defaults::forced_first`].
    pub forced_first: Option<u32>,
    /// See [`Defaults::forced_last`].
    pub forced_last: Option<u32>,
    /// See [`Defaults::suppressed`].
    pub suppressed: Vec<u32>,
    /// See [`Defaults::suppressed_first`].
    pub suppressed_first: Vec<u32>,
    /// See [`Defaults::bad_words`].
    pub bad_words: Vec<Vec<u32>>,
}

impl Settings {
    /// Whether the token after `generated` ones and a prompt of `prompt` is forced: how likely a model finds it says nothing then.
    pub(super) fn forces(&self, generated: usize, prompt: usize) -> bool {
        self.forced_first.is_some() && generated == 0 && prompt == 1 || self.forced_last.is_some() && generated + 1 == self.max_tokens
    }
}

/// Which token to take.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// The likeliest.
    Greedy,
    /// One that is drawn.
    Sample(Sampling),
    /// Those of the best sequence.
    Beams(BeamSettings),
}

impl Defaults {
    /// With what a user asks for, after a prompt of `prompt` tokens and with room for `room` more.
    ///
    /// # Errors
    /// Names the option that is out of range or does not go with another.
    pub fn settings(&self, asked: &GenerateOptions, prompt: usize, room: usize) -> Result<Settings, ModelError> {
        let wrong = |option: &'static str, reason: String| ModelError::Option { option, reason };
        let own = self.max_new_tokens.or(self.max_length.map(|most| most.saturating_sub(prompt).max(1)));
        let max_tokens = match asked.max_tokens {
            Some(0) => return Err(wrong("max-tokens", "0 leaves no room for a word; give at least 1".into())),
            Some(asked) => asked,
            None => own.unwrap_or(MAX_TOKENS),
        };
        if room == 0 {
            return Err(wrong("prompt", format!("its {prompt} tokens fill the model's context; make it shorter")));
        }
        let width = asked.beams.unwrap_or(if asked.sampling.is_some() { 1 } else { self.beams.unwrap_or(1) });
        if !(1..=MAX_BEAMS).contains(&width) {
            return Err(wrong("beams", format!("{width} is not within 1 to {MAX_BEAMS}")));
        }
        let repetition_penalty = asked.repetition_penalty.or(self.repetition_penalty).unwrap_or(1.0);
        if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
            return Err(wrong("repetition-penalty", format!("{repetition_penalty} is not above 0; 1 changes nothing")));
        }
        let strategy = match asked.sampling {
            Some(_) if width > 1 => return Err(wrong("beams", "a beam search draws nothing; leave out --temperature or --beams".into())),
            Some(sampling) => Strategy::Sample(checked(sampling)?),
            None if width == 1 => Strategy::Greedy,
            None => Strategy::Beams(BeamSettings {
                width,
                length_penalty: asked.length_penalty.or(self.length_penalty).unwrap_or(1.0),
                early_stopping: self.early_stopping,
            }),
        };
        Ok(Settings {
            max_tokens: max_tokens.min(room),
            min_tokens: self.min_length.saturating_sub(prompt),
            end: self.end.clone(),
            strategy,
            repetition_penalty,
            no_repeat_ngram: asked.no_repeat_ngram.unwrap_or(self.no_repeat_ngram),
            forced_first: self.forced_first,
            forced_last: self.forced_last,
            suppressed: self.suppressed.clone(),
            suppressed_first: self.suppressed_first.clone(),
            bad_words: self.bad_words.clone(),
        })
    }
}

fn checked(sampling: Sampling) -> Result<Sampling, ModelError> {
    let Sampling { temperature, top_k, top_p, min_p, .. } = sampling;
    let wrong = |option: &'static str, reason: String| Err(ModelError::Option { option, reason });
    if !(temperature > 0.0 && temperature.is_finite()) {
        return wrong("temperature", format!("{temperature} is not above 0; leave it out to take the likeliest token"));
    }
    if top_k == Some(0) {
        return wrong("top-k", "0 leaves no token; give at least 1".into());
    }
    if let Some(p) = top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
        return wrong("top-p", format!("{p} is not above 0 and at most 1"));
    }
    if let Some(p) = min_p.filter(|p| !(0.0..=1.0).contains(p)) {
        return wrong("min-p", format!("{p} is not within 0 to 1"));
    }
    Ok(sampling)
}
