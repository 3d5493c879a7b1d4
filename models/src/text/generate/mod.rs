//! The decode engine: from a decoder's logits to the tokens of a text.
//!
//! | module | what |
//! |---|---|
//! | [`settings`] | how tokens are chosen: what the checkpoint says, changed by what the user says |
//! | [`processors`] | what changes logits before a choice: penalties, forbidden and forced tokens |
//! | [`sample`] | which tokens may be drawn, and the drawing |
//! | [`single`] | one sequence: greedy or drawn |
//! | [`beam`] | several at once |
//! | [`watch`] | who hears of tokens, and may stop them: text as it grows, texts to stop at |
//!
//! A family implements [`StepDecoder`] and computes a [`Start`] from its prompt; everything here is numbers on slices, the same for every family.
//! The semantics are those of transformers' `generate` (<https://github.com/huggingface/transformers>, `generation/utils.py` at 5.23): processors
//! act on logits where one sequence is followed, and on log-probabilities where beams are.

pub mod beam;
pub mod processors;
pub mod sample;
pub mod settings;
pub mod single;
pub mod watch;

use ocelli_flow::{Finish, ModelError};

pub use beam::{BeamSettings, EarlyStopping, beams};
pub use processors::{Context, LogitsProcessor};
pub use settings::{Defaults, Settings, Strategy};
pub use watch::{Ending, Watch};

/// A decoder with a cache: it sees the last token of every row and remembers the rest in its state.
pub trait StepDecoder {
    /// What it remembers, a row a sequence.
    type State;

    /// Logits of the token after `tokens[row]`, row by row: `tokens.len() * vocabulary` values.
    fn step(&self, tokens: &[u32], state: &mut Self::State) -> Result<Vec<f32>, ModelError>;

    /// Row `i` becomes what row `rows[i]` was; there may be more rows than before.
    fn reorder(&self, state: &mut Self::State, rows: &[usize]);
}

/// What a decoder made of its prompt.
#[derive(Debug)]
pub struct Start<'a, S> {
    /// The state after the prompt, a row a source; afterwards it is that of what was written.
    pub state: &'a mut S,
    /// Logits of the first token to generate: `sources * vocabulary`.
    pub logits: Vec<f32>,
    /// The prompt's tokens, which penalties count; a start token alone in encoder-decoders.
    pub prompt: Vec<u32>,
}

/// A sequence of tokens and how likely the decoder finds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Generated ids, without prompt and end.
    pub tokens: Vec<u32>,
    /// The log-probability of each as the decoder says it, unchanged by processors, and 0 of a forced one; the end token's, too, where one came.
    pub logprobs: Vec<f32>,
    /// Beams: what they are compared by. Else the sum of `logprobs`.
    pub score: f32,
    /// Why it ends there.
    pub finish: Finish,
}

impl Hypothesis {
    /// Sum of the log-probabilities.
    pub fn logprob(&self) -> f32 {
        self.logprobs.iter().sum()
    }
}

/// One text from one prompt.
///
/// # Errors
/// The decoder's, a grammar's, and options that do not go together.
pub fn generate<D: StepDecoder>(
    decoder: &D,
    start: Start<'_, D::State>,
    settings: &Settings,
    processors: Vec<Box<dyn LogitsProcessor + '_>>,
    watch: &mut dyn Watch,
) -> Result<Hypothesis, ModelError> {
    match &settings.strategy {
        Strategy::Greedy => single::single(decoder, start, settings, None, processors, watch),
        Strategy::Sample(sampling) => single::single(decoder, start, settings, Some(sampling), processors, watch),
        Strategy::Beams(search) => {
            if !processors.is_empty() {
                let reason = "a grammar follows one sequence; leave out --beams, or give --beams 1".into();
                return Err(ModelError::Option { option: "beams", reason });
            }
            let found = beams(decoder, start, 1, settings, search, watch)?.into_iter().flatten().next();
            found.ok_or(ModelError::Compute { stage: "decode", reason: "the search found no sequence".into() })
        }
    }
}

/// Replaces every row of `width` logits by their log-probabilities.
fn log_softmax(rows: &mut [f32], width: usize) {
    ocelli_ops::log_softmax_rows(rows, width);
}
