//! The checkpoint's tokenizer, as one `tokenizer.json` for the bundle.

use std::path::PathBuf;

use ocelli_models::plan::TextPlan;
use ocelli_models::text::PromptTokenizer;
use ocelli_models::text::build::{MAX_TOKENIZER_BYTES, TokenizerFiles};
use serde_json::Value;

use crate::ImportError;
use crate::source::Source;

/// Files of tokenizers that are read, and whose digests go into the bundle.
const SENTENCEPIECE: [&str; 3] = ["spiece.model", "tokenizer.model", "sentencepiece.model"];

/// A tokenizer's files and where they are.
pub struct Found {
    /// What they hold.
    pub files: TokenizerFiles,
    /// Those that were read.
    pub paths: Vec<PathBuf>,
}

/// The tokenizer of a folder, if it has one.
pub fn find(source: &Source) -> Result<Option<Found>, ImportError> {
    let mut paths = Vec::new();
    let mut there = |name: &str, is: bool| {
        // What a GGUF file holds is no file of its own.
        if is && source.gguf.is_none() {
            paths.push(source.folder.join(name));
        }
    };
    let tokenizer_json = source.text("tokenizer.json", MAX_TOKENIZER_BYTES)?;
    there("tokenizer.json", tokenizer_json.is_some());
    let vocabulary = source.text("vocab.json", MAX_TOKENIZER_BYTES)?;
    there("vocab.json", vocabulary.is_some());
    let merges = source.text("merges.txt", MAX_TOKENIZER_BYTES)?;
    there("merges.txt", merges.is_some());
    let mut sentencepiece = None;
    for name in SENTENCEPIECE {
        sentencepiece = source.bytes(name, MAX_TOKENIZER_BYTES)?;
        if sentencepiece.is_some() {
            there(name, true);
            break;
        }
    }
    let mut json = |name: &str| -> Result<Value, ImportError> {
        let value = source.json(name)?;
        there(name, value.is_some());
        Ok(value.unwrap_or_default())
    };
    let files = TokenizerFiles {
        config: json("tokenizer_config.json")?,
        special_tokens: json("special_tokens_map.json")?,
        model_type: source.config["model_type"].as_str().map(str::to_owned),
        tokenizer_json,
        vocabulary,
        merges,
        sentencepiece,
    };
    Ok(files.is_any().then_some(Found { files, paths }))
}

/// The text of the bundle's entry `tokenizer.json`.
///
/// # Errors
/// Where there is no tokenizer, it cannot be read, or it is another model's.
pub fn build(source: &Source, found: Option<&Found>, plan: &TextPlan) -> Result<String, ImportError> {
    let Some(Found { files, paths }) = found else {
        let needs = "tokenizer.json, or vocab.json with merges.txt, or spiece.model";
        return Err(ImportError::absent(&source.folder, format!("no tokenizer here, and the model reads texts; download {needs}, too")));
    };
    let path = || paths.first().unwrap_or(&source.folder).clone();
    let json = files.build(plan).map_err(|error| ImportError::Tokenizer { path: source.folder.clone(), source: error })?;
    match PromptTokenizer::from_json(&json, plan.vocabulary, plan.max_tokens.unwrap_or(usize::MAX)) {
        Ok(_) => Ok(json),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.strip_prefix("the bundle's tokenizer.json: ").unwrap_or(&reason);
            let reason = format!("{reason}; download the model's own tokenizer");
            Err(ImportError::ForeignTokenizer { path: path(), reason })
        }
    }
}
