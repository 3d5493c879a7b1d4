//! The tokenizer of a model that writes: text to token ids as they stand in a prompt, and generated ids to text.

use std::cell::OnceCell;
use std::fmt;

use ocelli_bundle::Bundle;
use ocelli_flow::{Grammar, ModelError};

use super::generate::LogitsProcessor;
use super::generate::watch::Detokenizer;
use super::grammar::TokenBytes;
use super::tokenizer::parse_for;
use crate::LoadError;

/// Longest prompt that is taken, in bytes.
pub const MAX_PROMPT_BYTES: usize = 1 << 20;

/// Text to token ids and back; nothing is cut, nothing is padded.
pub struct Codec {
    inner: tokenizers::Tokenizer,
    vocabulary: usize,
    /// The tokens' bytes: only a grammar needs them.
    bytes: OnceCell<TokenBytes>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Codec").field("vocabulary", &self.inner.get_vocab_size(true)).finish_non_exhaustive()
    }
}

impl Codec {
    /// The entry `tokenizer.json` of a bundle, for a token table of `vocabulary` rows.
    ///
    /// # Errors
    /// Where there is none, or it has an id that the table has no row for.
    pub fn of_bundle(bundle: &Bundle, family: &'static str, vocabulary: usize) -> Result<Self, LoadError> {
        let json = bundle.text("tokenizer.json").ok_or_else(|| LoadError::Entry { key: "tokenizer.json".to_owned(), family })?;
        Self::from_json(json, vocabulary)
    }

    /// Reads a `tokenizer.json` for a token table of `vocabulary` rows.
    ///
    /// # Errors
    /// Where it is none, or has an id that the table has no row for.
    pub fn from_json(json: &str, vocabulary: usize) -> Result<Self, LoadError> {
        let mut inner = parse_for(json, vocabulary)?;
        // Whatever the file says of texts for a tower: a prompt is taken as it is.
        let plain = inner.with_truncation(None).map(|_| ()).map_err(|error| LoadError::Tokenizer { reason: error.to_string() });
        plain?;
        inner.with_padding(None);
        Ok(Self { inner, vocabulary, bytes: OnceCell::new() })
    }

    /// The ids of `text`; special tokens that are written in it are found, and with `special` those come on top that the tokenizer puts around
    /// texts.
    ///
    /// # Errors
    /// Where it is longer than [`MAX_PROMPT_BYTES`], or cannot be tokenized.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError> {
        let refuse = |reason: String| ModelError::Text { text: text.chars().take(40).collect(), reason };
        if text.len() > MAX_PROMPT_BYTES {
            return Err(refuse(format!("it is {} bytes long; the limit is {MAX_PROMPT_BYTES}", text.len())));
        }
        let encoding = self.inner.encode(text, special).map_err(|error| refuse(format!("it cannot be tokenized: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens left out.
    ///
    /// # Errors
    /// Where the tokenizer has no text for them.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.decoded(ids, true)
    }

    /// The text of `ids`, special tokens written out.
    ///
    /// # Errors
    /// Where the tokenizer has no text for them.
    pub fn decode_whole(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.decoded(ids, false)
    }

    fn decoded(&self, ids: &[u32], skip_special: bool) -> Result<String, ModelError> {
        self.inner.decode(ids, skip_special).map_err(|error| ModelError::Compute { stage: "decode", reason: error.to_string() })
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The id of a token that the model cannot do without.
    ///
    /// # Errors
    /// Where there is no such token.
    pub fn needed(&self, token: &str) -> Result<u32, LoadError> {
        self.id(token).ok_or_else(|| LoadError::Tokenizer { reason: format!("it has no token {token}, which the model needs") })
    }

    /// What keeps a text within a grammar; `end` are the tokens that may end it.
    ///
    /// # Errors
    /// Where it is no grammar, or the tokenizer is of a kind that cannot follow one.
    pub fn processor(&self, grammar: &Grammar, end: &[u32]) -> Result<Box<dyn LogitsProcessor>, ModelError> {
        let last = end.first().copied().ok_or(ModelError::Unsupported { what: "follow a grammar: no token ends a text" })?;
        let bytes = match self.bytes.get() {
            Some(bytes) => bytes,
            None => {
                let made = TokenBytes::new(self, last, self.vocabulary)?;
                self.bytes.get_or_init(|| made)
            }
        };
        bytes.processor(grammar, end)
    }

    /// The library's tokenizer.
    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

impl Detokenizer for Codec {
    fn text(&self, tokens: &[u32]) -> String {
        self.decode(tokens).unwrap_or_default()
    }
}
