//! GGUF files: language models of llama.cpp's, and the `mmproj` files that let them see.
//!
//! | module | what |
//! |---|---|
//! | [`reader`] | the file: header, metadata, tensors, none of it believed |
//! | [`value`] | metadata |
//! | [`blocks`] | quantized values: as floats, and as the integers that they are |
//! | [`stored`] | rows of a tensor, in transformers' order |
//! | [`architecture`] | configuration and names, as transformers has them |
//! | [`tokenizer`] | `tokenizer.json` from the metadata |
//! | [`folder`] | all that as the files of a folder |
//! | [`error`] | [`GgufError`]: what, where, and what to do |

pub mod architecture;
pub mod blocks;
pub mod error;
pub mod folder;
pub mod reader;
pub mod stored;
pub mod tokenizer;
pub mod value;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::ImportError;
use architecture::{Content, Names};
use blocks::{BlockType, Integers};
use reader::Contents;
use stored::Stored;
use tokenizer::{Roles, Vocabulary};
use value::Metadata;

pub use error::GgufError;

/// A GGUF file, opened: its tensors under transformers' names.
#[derive(Debug)]
pub struct Gguf {
    contents: Contents,
    content: Content,
    tensors: BTreeMap<String, GgufTensor>,
}

/// A tensor under transformers' name.
#[derive(Debug, Clone)]
pub struct GgufTensor {
    /// Its name in the file.
    pub own_name: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Its values.
    pub stored: Stored,
}

/// What a file says of its model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// `general.name`.
    pub name: String,
    /// `general.license.name`, or the short `general.license`.
    pub licence: String,
    /// Where it is said to be from: the repository or address of it, or of what it was made of.
    pub origin: String,
}

impl Gguf {
    /// Maps a file and reads all but the tensors' values.
    ///
    /// # Errors
    /// Where it cannot be read, is no GGUF file, is damaged, or describes what cannot be.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        // A folder is no file everywhere, and an empty file cannot be mapped everywhere.
        let bytes = ocelli_bundle::map(path).map_err(ImportError::io(path))?;
        Self::from_bytes(&bytes).map_err(|source| ImportError::Gguf { path: path.to_owned(), source })
    }

    /// [`open`](Self::open) of what a file holds.
    ///
    /// # Errors
    /// As there.
    pub fn from_bytes(file: &Bytes) -> Result<Self, GgufError> {
        let contents = reader::read(file)?;
        let content = architecture::content(&contents.metadata)?;
        let names = Names::of(&contents, content)?;
        let mut tensors: BTreeMap<String, GgufTensor> = BTreeMap::new();
        for raw in &contents.tensors {
            let (name, order) = names.name(&raw.name);
            let stored = Stored::new(raw, order).map_err(|reason| GgufError::request(&raw.name, reason))?;
            let tensor = GgufTensor { own_name: raw.name.clone(), shape: raw.shape.clone(), stored };
            if let Some(other) = tensors.insert(name, tensor) {
                let reason = format!("is the same as {}, by another name; the file is damaged, download it again", other.own_name);
                return Err(GgufError::request(&raw.name, reason));
            }
        }
        Ok(Self { contents, content, tensors })
    }

    /// What the file is of.
    pub fn content(&self) -> Content {
        self.content
    }

    /// Keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.contents.metadata
    }

    /// The configuration, as transformers' `config.json` has it: a `LlamaForCausalLM`'s, or those parts of an
    /// `Idefics3ForConditionalGeneration`'s that a projector decides on.
    ///
    /// # Errors
    /// Where it is of a model that is not read, or lacks something that the configuration needs.
    pub fn config(&self) -> Result<Json, GgufError> {
        architecture::config(&self.contents, self.content)
    }

    /// The configuration of this language model with a projector: an `Idefics3ForConditionalGeneration`'s.
    ///
    /// # Errors
    /// Where either has none, or the two do not belong together.
    pub fn config_with(&self, projector: &Self) -> Result<Json, GgufError> {
        let wrong = |what: &str| GgufError::Architecture(what.to_owned());
        if self.content != Content::Language {
            return Err(wrong("no language model of Llama's kind; give that first and the mmproj file second"));
        }
        if projector.content != Content::Projector {
            return Err(wrong("no mmproj file of Idefics 3 or SmolVLM; give the one that belongs to the language model"));
        }
        architecture::joined(&self.config()?, &projector.config()?, self.roles()?.and_then(|roles| roles.image))
    }

    /// What is done with pictures, as transformers' `preprocessor_config.json` has it; null of a file that reads none.
    ///
    /// # Errors
    /// Where the file should say and does not.
    pub fn preprocessing(&self) -> Result<Json, GgufError> {
        if self.content == Content::Projector { architecture::preprocessing(self.metadata()) } else { Ok(Json::Null) }
    }

    /// The tensors under transformers' names, in the order of these. What transformers has no name for keeps its own.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &GgufTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensors under the names that they have in a model that reads pictures, too: `model.text_model.layers.0` and so on.
    pub fn tensors_within(&self) -> impl ExactSizeIterator<Item = (String, &GgufTensor)> {
        let language = self.content == Content::Language;
        self.tensors.iter().map(move |(name, tensor)| (if language { architecture::within(name) } else { name.clone() }, tensor))
    }

    /// A tensor by transformers' name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn tensor(&self, name: &str) -> Result<&GgufTensor, GgufError> {
        self.tensors.get(name).ok_or_else(|| GgufError::request(name, "is missing; the file is of another model, or incomplete"))
    }

    /// The floats of some rows (of the first axis), as many as `out` has room for.
    ///
    /// # Errors
    /// Where there is no such tensor, it has no such rows or is of a type that is not read, or `out` is of another length.
    pub fn rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), GgufError> {
        let tensor = self.tensor(name)?;
        let stored = &tensor.stored;
        readable(tensor, &rows)?;
        let mut values = Vec::with_capacity(out.len());
        stored.append(rows.start * stored.columns()..rows.end * stored.columns(), &mut values);
        if values.len() != out.len() {
            return Err(GgufError::request(
                name,
                format!("has {} values in those rows, and there is room for {}", values.len(), out.len()),
            ));
        }
        out.copy_from_slice(&values);
        Ok(())
    }

    /// The integers of some rows, exactly as they are in the file; `None` where they are not in groups of 32 with an f16 scale, as Q8_0's,
    /// Q5_0's and Q4_0's are.
    ///
    /// # Errors
    /// Where there is no such tensor, or it has no such rows.
    pub fn integers(&self, name: &str, rows: Range<usize>) -> Result<Option<Integers>, GgufError> {
        let tensor = self.tensor(name)?;
        readable(tensor, &rows)?;
        Ok(tensor.stored.integers(rows))
    }

    /// The tokenizer, as a Hugging Face `tokenizer.json`; `None`: the file has none.
    ///
    /// # Errors
    /// Where it is of a kind that is not read, or damaged.
    pub fn tokenizer_json(&self) -> Result<Option<String>, GgufError> {
        Vocabulary::read(self.metadata())?.map(|vocabulary| vocabulary.json()).transpose()
    }

    /// Which of its tokens have a role; `None`: the file has no tokenizer.
    ///
    /// # Errors
    /// As of [`tokenizer_json`](Self::tokenizer_json).
    pub fn roles(&self) -> Result<Option<Roles>, GgufError> {
        Vocabulary::read(self.metadata())?.map(|vocabulary| vocabulary.roles()).transpose()
    }

    /// A token as it is written; `None` where there is none of this id.
    ///
    /// # Errors
    /// Where the file's tokens are no array.
    pub fn token(&self, id: u32) -> Result<Option<String>, GgufError> {
        let tokens = self.metadata().array("tokenizer.ggml.tokens")?;
        Ok(tokens.and_then(|tokens| tokens.iter().nth(id as usize)).and_then(|token| token.text().map(str::to_owned)))
    }

    /// How a conversation is written down, as a Jinja template.
    ///
    /// # Errors
    /// Where it is no text.
    pub fn chat_template(&self) -> Result<Option<&str>, GgufError> {
        self.metadata().text("tokenizer.chat_template")
    }

    /// What the file says of its model. What is no text says nothing.
    pub fn about(&self) -> About {
        let first = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| self.metadata().text(key).ok().flatten().filter(|text| !text.is_empty()));
            found.unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(200).collect()
        };
        About {
            name: first(&["general.name", "general.basename"]),
            licence: first(&["general.license.name", "general.license"]),
            origin: first(&[
                "general.repo_url",
                "general.source.repo_url",
                "general.source.url",
                "general.url",
                "general.base_model.0.repo_url",
            ]),
        }
    }
}

/// An error unless a tensor has such rows and is of a type that is read.
fn readable(tensor: &GgufTensor, rows: &Range<usize>) -> Result<(), GgufError> {
    let kind: &BlockType = tensor.stored.kind();
    if !kind.is_read() {
        return Err(GgufError::Type { name: tensor.own_name.clone(), kind: kind.name.to_owned() });
    }
    if rows.start > rows.end || rows.end > tensor.stored.rows() {
        let reason = format!("has {} rows, and rows {} to {} were asked for", tensor.stored.rows(), rows.start, rows.end);
        return Err(GgufError::request(&tensor.own_name, reason));
    }
    Ok(())
}
