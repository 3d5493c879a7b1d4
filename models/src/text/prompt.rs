//! The tokenizer of a model that reads prompts: a `tokenizer.json` that adds the special tokens, cuts and pads by itself.

use std::fmt;

use ocelli_bundle::Bundle;
use ocelli_flow::ModelError;

use super::TextConfig;
use super::tokenizer::{check_text, parse_for};
use crate::LoadError;

/// A text as a text tower reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, special ones and padding included.
    pub ids: Vec<u32>,
    /// Which of them are no padding.
    pub attended: Vec<bool>,
}

/// Text to token ids.
pub struct PromptTokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
}

impl fmt::Debug for PromptTokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PromptTokenizer").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}

impl PromptTokenizer {
    /// The entry `tokenizer.json` of a bundle.
    pub fn of_bundle(bundle: &Bundle, family: &'static str, config: &TextConfig) -> Result<Self, LoadError> {
        let json = bundle.text("tokenizer.json").ok_or_else(|| LoadError::Entry { key: "tokenizer.json".to_owned(), family })?;
        Self::from_json(json, config.vocabulary, config.max_tokens)
    }

    /// Reads a `tokenizer.json` for a token table of `vocabulary` rows and a tower that reads `max_tokens`.
    ///
    /// # Errors
    /// Where it is none, or has an id that the table has no row for: then it belongs to another model.
    pub fn from_json(json: &str, vocabulary: usize, max_tokens: usize) -> Result<Self, LoadError> {
        let inner = parse_for(json, vocabulary)?;
        Ok(Self { inner, max_tokens })
    }

    /// The ids of `text`, with the special tokens, cut and padded as the tokenizer says.
    ///
    /// # Errors
    /// Where it is blank, longer than [`MAX_TEXT_BYTES`](super::tokenizer::MAX_TEXT_BYTES), or cannot be tokenized.
    pub fn encode(&self, text: &str) -> Result<Prompt, ModelError> {
        let refuse = check_text(text)?;
        let encoding = self.inner.encode(text, true).map_err(|error| refuse(format!("it cannot be tokenized: {error}")))?;
        let mut ids = encoding.get_ids().to_vec();
        let mut attended: Vec<bool> = encoding.get_attention_mask().iter().map(|&bit| bit != 0).collect();
        if ids.is_empty() {
            return Err(refuse("nothing is left of it after normalisation; give at least one word".into()));
        }
        ids.truncate(self.max_tokens);
        attended.truncate(self.max_tokens);
        Ok(Prompt { ids, attended })
    }
}
