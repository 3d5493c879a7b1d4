//! A GGUF file as the folder that it would be on Hugging Face: its configuration, tokenizer, chat template and processor as the files that the
//! importer reads there.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::{Content, Gguf, GgufError};
use crate::ImportError;

/// What a folder would hold beside the weights.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// `config.json`
    pub config: Json,
    /// Other files by their names.
    pub files: BTreeMap<&'static str, String>,
    /// The model's name, as the file has it; empty where it has none.
    pub name: String,
    /// Its licence, likewise.
    pub licence: String,
}

/// The folder of a language model, with its projector where it has one.
///
/// # Errors
/// Where a file cannot be read, is of another kind, or the two do not belong together.
pub fn of(language: &Path, projector: Option<&Path>) -> Result<Folder, ImportError> {
    let gguf = |path: &Path| Gguf::open(path);
    let (text, seen) = (gguf(language)?, projector.map(gguf).transpose()?);
    let place = |source: GgufError| ImportError::Gguf { path: language.to_owned(), source };
    if text.content() == Content::Projector {
        let reason = "is an mmproj file; give the language model first, and this with --mmproj".to_owned();
        return Err(place(GgufError::Architecture(reason)));
    }
    read(&text, seen.as_ref()).map_err(place)
}

fn read(text: &Gguf, seen: Option<&Gguf>) -> Result<Folder, GgufError> {
    let config = match seen {
        Some(seen) => text.config_with(seen)?,
        None => text.config()?,
    };
    let mut files = BTreeMap::new();
    if let Some(tokenizer) = text.tokenizer_json()? {
        files.insert("tokenizer.json", tokenizer);
    }
    let roles = text.roles()?.unwrap_or_default();
    let token = |id: Option<u32>| -> Result<Json, GgufError> { Ok(id.map(|id| text.token(id)).transpose()?.flatten().into()) };
    let mut tokenizer = Map::new();
    for (role, id) in [("bos_token", roles.start), ("eos_token", roles.end), ("pad_token", roles.pad), ("unk_token", roles.unknown)] {
        tokenizer.insert(role.to_owned(), token(id)?);
    }
    tokenizer.insert("chat_template".to_owned(), text.chat_template()?.into());
    files.insert("tokenizer_config.json", Json::Object(tokenizer).to_string());
    files.insert("generation_config.json", json!({"eos_token_id": roles.stops}).to_string());
    if let Some(seen) = seen {
        files.insert("preprocessor_config.json", seen.preprocessing()?.to_string());
    }
    let about = text.about();
    Ok(Folder { config, files, name: about.name, licence: about.licence })
}
