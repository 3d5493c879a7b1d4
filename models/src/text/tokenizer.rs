//! The tokenizer of a bundle: a Hugging Face `tokenizer.json`.

use ocelli_flow::ModelError;

use super::tokenizer_json;
use crate::LoadError;

/// Longest text that is taken, in bytes: far more than any model reads, and little enough to tokenize in no time.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Text to token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Id of `<pad>`.
    pub pad: u32,
    /// Id of `<start>`.
    pub start: u32,
    /// Id of `<end>`.
    pub end: u32,
}

/// A `tokenizer.json`.
fn parse(json: &str) -> Result<tokenizer_json::Read, LoadError> {
    tokenizer_json::read(json).map_err(|reason| LoadError::Tokenizer { reason })
}

/// A `tokenizer.json` for a table of `vocabulary` rows, which must have one for every id: else it belongs to another model.
pub(super) fn parse_for(json: &str, vocabulary: usize) -> Result<tokenizers::Tokenizer, LoadError> {
    let tokenizer_json::Read { tokenizer, largest } = parse(json)?;
    if largest as usize >= vocabulary {
        let reason = format!("its largest id is {largest}, but the model's table has {vocabulary} rows: it belongs to another model");
        return Err(LoadError::Tokenizer { reason });
    }
    Ok(tokenizer)
}

/// An error if `text` is blank or longer than [`MAX_TEXT_BYTES`]; else how to refuse it for another reason.
pub(super) fn check_text(text: &str) -> Result<impl Fn(String) -> ModelError + '_, ModelError> {
    let refuse = |reason: String| ModelError::Text { text: text.chars().take(40).collect(), reason };
    if text.trim().is_empty() {
        return Err(refuse("it is empty; give at least one word".into()));
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(refuse(format!("it is {} bytes long; the limit is {MAX_TEXT_BYTES}", text.len())));
    }
    Ok(refuse)
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. It must have the tokens `<pad>`, `<start>` and `<end>`.
    pub fn from_json(json: &str) -> Result<Self, LoadError> {
        let inner = parse(json)?.tokenizer;
        let wrong = |reason: String| LoadError::Tokenizer { reason };
        let id = |token: &str| inner.token_to_id(token).ok_or_else(|| wrong(format!("it has no token {token}")));
        let (pad, start, end) = (id("<pad>")?, id("<start>")?, id("<end>")?);
        Ok(Self { inner, pad, start, end })
    }

    /// Number of tokens, added ones included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of `text`, without start and end. An error if it is blank or longer than [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let refuse = check_text(text)?;
        let encoding = self.inner.encode(text, false).map_err(|error| refuse(format!("it cannot be tokenized: {error}")))?;
        let ids = encoding.get_ids().to_vec();
        if ids.is_empty() {
            return Err(refuse("nothing is left of it after normalisation; give at least one word".into()));
        }
        Ok(ids)
    }

    /// The text of `ids`, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner
            .decode(ids, true)
            .map(|text| text.trim().to_owned())
            .map_err(|error| ModelError::Compute { stage: "decode", reason: error.to_string() })
    }
}
