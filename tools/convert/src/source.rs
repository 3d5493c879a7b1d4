//! What lies in a folder: which weights there are, and whose configuration describes them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ocelli_models::plan::Format;
use serde_json::Value;

use crate::ImportError;
use crate::gguf::folder::{self, Folder};

/// Longest configuration or index that is read, in bytes: hundreds of times what any has.
pub const MAX_JSON_BYTES: u64 = 1 << 24;

/// A checkpoint's place.
#[derive(Debug, Clone)]
pub struct Source {
    /// The folder.
    pub folder: PathBuf,
    /// The weights: one file, or an index of several.
    pub weights: Weights,
    /// Whose form the configuration has.
    pub format: Format,
    /// The file it is from.
    pub config_file: PathBuf,
    /// It.
    pub config: Value,
    /// Of a GGUF file: what stands in it for the other files of a folder.
    pub gguf: Option<Folder>,
}

/// Where the weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// One file.
    File(PathBuf),
    /// A language model and its projector, two GGUF files.
    Pair(PathBuf, PathBuf),
    /// `*.index.json`, which says which tensor is in which file beside it.
    Index(PathBuf),
}

impl Weights {
    /// The file that was found.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Pair(path, _) | Self::Index(path) => path,
        }
    }
}

const CONFIG: &str = "config.json";
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";

/// Names of weights beside `config.json`, the preferred first.
const TRANSFORMERS_WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Names of weights beside `open_clip_config.json`.
const OPEN_CLIP_WEIGHTS: [&str; 3] = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.safetensors"];

impl Source {
    /// Finds the checkpoint in a folder, or that of one file of weights.
    ///
    /// Where a folder holds the same model in both forms, as LAION's do, transformers' is taken; name the other file to have that.
    ///
    /// # Errors
    /// Where there are no weights or no configuration.
    pub fn find(path: &Path) -> Result<Self, ImportError> {
        let metadata = std::fs::metadata(path).map_err(ImportError::io(path))?;
        match (metadata.is_dir(), is_gguf(path)) {
            (true, _) => Self::of_folder(path),
            (false, true) => Self::of_gguf(path, None),
            (false, false) => Self::of_file(path),
        }
    }

    /// A GGUF language model, with its projector where it has one.
    ///
    /// # Errors
    /// Where a file cannot be read, is damaged or of another kind, or the two do not belong together.
    pub fn of_gguf(language: &Path, projector: Option<&Path>) -> Result<Self, ImportError> {
        if !is_gguf(language) {
            let reason = "not a GGUF file by its name; --mmproj goes with a language model in one file that ends in .gguf";
            return Err(ImportError::absent(language, reason));
        }
        let folder = folder::of(language, projector)?;
        Ok(Self {
            folder: language.parent().unwrap_or(Path::new(".")).to_owned(),
            weights: match projector {
                Some(projector) => Weights::Pair(language.to_owned(), projector.to_owned()),
                None => Weights::File(language.to_owned()),
            },
            format: Format::Transformers,
            config_file: language.to_owned(),
            config: folder.config.clone(),
            gguf: Some(folder),
        })
    }

    fn of_folder(folder: &Path) -> Result<Self, ImportError> {
        let forms = [(CONFIG, Format::Transformers, &TRANSFORMERS_WEIGHTS[..]), (OPEN_CLIP_CONFIG, Format::OpenClip, &OPEN_CLIP_WEIGHTS)];
        let described: Vec<_> = forms.into_iter().filter(|(config, ..)| folder.join(config).is_file()).collect();
        for (config, format, names) in &described {
            if let Some(name) = names.iter().find(|name| folder.join(name).is_file()) {
                return Self::new(folder, weights(folder.join(name)), *format, config);
            }
        }
        Err(ImportError::absent(
            folder,
            match described.first() {
                None => format!("no {CONFIG} (nor {OPEN_CLIP_CONFIG}) here; give a model's folder as it is on Hugging Face"),
                Some((config, _, names)) => {
                    format!("{config}, but no weights here; download one of {}, or name the file", names.join(", "))
                }
            },
        ))
    }

    fn of_file(path: &Path) -> Result<Self, ImportError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let known = [".safetensors", ".gguf", ".bin", ".pt", ".pth", ".index.json"];
        if !known.iter().any(|ending| name.ends_with(ending)) {
            let reason = format!("not a file of weights by its name; give a folder, or a file that ends in {}", known.join(", "));
            return Err(ImportError::absent(path, reason));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let there = |config: &str| folder.join(config).is_file();
        let open_clip = there(OPEN_CLIP_CONFIG) && (name.starts_with("open_clip") || !there(CONFIG));
        let (config, format) = if open_clip { (OPEN_CLIP_CONFIG, Format::OpenClip) } else { (CONFIG, Format::Transformers) };
        if !there(config) {
            return Err(ImportError::absent(path, format!("there is no {CONFIG} (nor {OPEN_CLIP_CONFIG}) beside it; put it there")));
        }
        Self::new(folder, weights(path.to_owned()), format, config)
    }

    fn new(folder: &Path, weights: Weights, format: Format, config: &str) -> Result<Self, ImportError> {
        let config_file = folder.join(config);
        let config = read_json(&config_file)?;
        if !config.is_object() {
            return Err(ImportError::json(&config_file, "is no JSON object"));
        }
        Ok(Self { folder: folder.to_owned(), weights, format, config_file, config, gguf: None })
    }

    /// A JSON file of the folder, if it is there.
    pub fn json(&self, name: &str) -> Result<Option<Value>, ImportError> {
        if let Some(gguf) = &self.gguf {
            let text = gguf.files.get(name).map(|text| serde_json::from_str(text));
            return text.transpose().map_err(|error| ImportError::json(&self.config_file, format!("has no {name} in it: {error}")));
        }
        let path = self.folder.join(name);
        if path.is_file() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// A file of the folder, if it is there: its bytes, `limit` of them at most.
    pub fn bytes(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ImportError> {
        if let Some(gguf) = &self.gguf {
            return Ok(gguf.files.get(name).map(|text| text.clone().into_bytes()));
        }
        let path = self.folder.join(name);
        if path.is_file() { read(&path, limit).map(Some) } else { Ok(None) }
    }

    /// A text file of the folder, if it is there.
    pub fn text(&self, name: &str, limit: u64) -> Result<Option<String>, ImportError> {
        let Some(bytes) = self.bytes(name, limit)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| ImportError::json(&self.folder.join(name), "is not UTF-8 text"))
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn weights(path: PathBuf) -> Weights {
    if path.extension().is_some_and(|extension| extension == "json") { Weights::Index(path) } else { Weights::File(path) }
}

/// Reads a JSON file of at most [`MAX_JSON_BYTES`].
pub(crate) fn read_json(path: &Path) -> Result<Value, ImportError> {
    let bytes = read(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| ImportError::json(path, format!("is not JSON: {error}")))
}

/// Reads a file that may have `limit` bytes, and no more of it than that.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ImportError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ImportError::io(path))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(ImportError::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(ImportError::json(path, format!("has more than {limit} bytes, and no such file needs as many")));
    }
    Ok(bytes)
}
