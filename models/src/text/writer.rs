//! What a decoder and a tokenizer write together.

use burn::tensor::Tensor;
use ocelli_flow::{GenerateOptions, Generation, Listener, ModelError};

use super::generate::watch::{Detokenizer, Ending};
use super::generate::{Defaults, LogitsProcessor, Settings, Start, StepDecoder, generate};
use super::{Codec, TextTransformer};

/// The text that a decoder writes after its prompt, heard by a listener as it grows.
///
/// # Errors
/// The decoder's, and options that do not go together.
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
    write_as(decoder, start, settings, processors, codec, &asked.stop, listener)
}

/// [`write()`] with processors of the caller's, in words of the caller's.
///
/// # Errors
/// The decoder's, and options that do not go together.
pub fn write_as<D: StepDecoder>(
    decoder: &D,
    start: Start<'_, D::State>,
    settings: &Settings,
    processors: Vec<Box<dyn LogitsProcessor>>,
    detokenizer: &dyn Detokenizer,
    stops: &[String],
    listener: &mut dyn Listener,
) -> Result<Generation, ModelError> {
    let mut ending = Ending::new(detokenizer, stops, listener);
    let found = generate(decoder, start, settings, processors, &mut ending)?;
    let text = ending.finish(&found.tokens);
    Ok(Generation { text, tokens: found.tokens, token_logprobs: found.logprobs, score: found.score, finish: found.finish })
}

/// What a transformer writes about a memory `[1, tokens, memory]` after a prompt of token ids.
///
/// # Errors
/// As of [`write()`], and where the prompt leaves no room.
pub fn write_about(
    decoder: &TextTransformer,
    memory: &Tensor<3>,
    prompt: Vec<u32>,
    defaults: &Defaults,
    codec: &Codec,
    asked: &GenerateOptions,
    listener: &mut dyn Listener,
) -> Result<Generation, ModelError> {
    let room = decoder.max_tokens().saturating_sub(prompt.len());
    let settings = defaults.settings(asked, prompt.len(), room)?;
    let (mut state, logits) = decoder.start(memory, &prompt, settings.max_tokens)?;
    write(decoder, Start { state: &mut state, logits, prompt }, &settings, codec, asked, listener)
}
