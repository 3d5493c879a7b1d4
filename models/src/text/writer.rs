//! What a decoder and a tokenizer write together.

use ocelli_flow::{GenerateOptions, Generation, Listener, ModelError};

use super::Codec;
use super::generate::watch::{Ending, Watch};
use super::generate::{LogitsProcessor, Settings, Start, StepDecoder, generate};

/// The text that a decoder writes after its prompt, heard by a listener as it grows.
///
/// # Errors
/// The decoder's, and options that this way of writing does not have.
pub fn write<D: StepDecoder>(
    decoder: &D,
    start: Start<'_, D::State>,
    settings: &Settings,
    codec: &Codec,
    asked: &GenerateOptions,
    listener: &mut dyn Listener,
) -> Result<Generation, ModelError> {
    let grammar = asked.grammar.as_ref().map(|grammar| codec.processor(grammar, &settings.end)).transpose()?;
    let processors = grammar.into_iter().map(|grammar| grammar as Box<dyn LogitsProcessor>).collect();
    let mut ending = Ending::new(codec, &asked.stop, listener);
    let found = generate(decoder, start, settings, processors, &mut ending as &mut dyn Watch)?;
    let text = ending.finish(&found.tokens);
    Ok(Generation { text, tokens: found.tokens, token_logprobs: found.logprobs, score: found.score, finish: found.finish })
}
