//! A folder in the data's format.
//!
//! ```text
//! folder/
//!   images/ or images.tar      the pictures; records name them "images/NAME.jpg"
//!   captions.jsonl[.gz]        {"file","captions":[…],"split"}
//!   entities.jsonl[.gz]        {"file","w","h","entities":[{"id","types","phrases","boxes":[[x,y,w,h]],"scene","nobox","label","head"}],"split"}
//!   boxes.jsonl[.gz]           {"file","w","h","boxes":[[x,y,w,h,"label"]],"captions"?:[…],"split"?}
//!   labels.jsonl[.gz]          {"file","label"}
//! ```
//!
//! Boxes are in pixels of a picture that is `w` wide and `h` high. A folder has those files that it has.

mod phrases;
mod pictures;
mod records;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;

pub use phrases::{Phrase, absent_phrases, entity_phrases, label_phrases};
pub use pictures::Pictures;
pub use records::{Boxed, Captioned, Entities, Entity, Labelled};

/// Why a folder could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file system.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A line that is not such a record.
    #[error("{}, line {line}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A file the folder does not have.
    #[error("{} has no {wanted}; {hint}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        wanted: String,
        /// What to do.
        hint: &'static str,
    },
}

/// A folder in the data's format.
#[derive(Debug, Clone)]
pub struct Dataset {
    folder: PathBuf,
}

impl Dataset {
    /// A folder; nothing is read yet, but it must be there.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, DataError> {
        let folder = folder.into();
        match fs::metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { folder }),
            Ok(_) => Err(DataError::Io { source: std::io::ErrorKind::NotADirectory.into(), path: folder }),
            Err(source) => Err(DataError::Io { path: folder, source }),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The pictures' files.
    pub fn pictures(&self) -> Result<Pictures, DataError> {
        Pictures::open(&self.folder)
    }

    /// Whether there is a file of records: `captions`, `entities`, `boxes` or `labels`.
    pub fn has(&self, kind: &str) -> bool {
        self.records_path(kind).is_some()
    }

    /// Pictures with captions, of one split or of all. Where there is no captions file, those in the boxes file. Pictures without captions are left out.
    pub fn captions(&self, split: Option<&str>) -> Result<Vec<Captioned>, DataError> {
        let mut records: Vec<Captioned> =
            if self.has("captions") || !self.has("boxes") { self.read("captions")? } else { self.read("boxes")? };
        records.retain(|record| !record.captions.is_empty() && in_split(split, record.split.as_deref()));
        Ok(records)
    }

    /// Pictures with entities: phrases, types and boxes.
    pub fn entities(&self, split: Option<&str>) -> Result<Vec<Entities>, DataError> {
        let mut records: Vec<Entities> = self.read("entities")?;
        records.retain(|record| in_split(split, record.split.as_deref()));
        Ok(records)
    }

    /// Pictures with labelled boxes.
    pub fn boxes(&self, split: Option<&str>) -> Result<Vec<Boxed>, DataError> {
        let mut records: Vec<Boxed> = self.read("boxes")?;
        records.retain(|record| in_split(split, record.split.as_deref()));
        Ok(records)
    }

    /// Pictures with one label each.
    pub fn labels(&self) -> Result<Vec<Labelled>, DataError> {
        self.read("labels")
    }

    fn records_path(&self, kind: &str) -> Option<PathBuf> {
        [format!("{kind}.jsonl"), format!("{kind}.jsonl.gz")].map(|name| self.folder.join(name)).into_iter().find(|path| path.exists())
    }

    fn read<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, DataError> {
        let path = self.records_path(kind).ok_or_else(|| DataError::Missing {
            folder: self.folder.clone(),
            wanted: format!("{kind}.jsonl or {kind}.jsonl.gz"),
            hint: "give a folder in the data's format",
        })?;
        read_jsonl(&path)
    }
}

/// Records whose split is not known belong to every split.
fn in_split(wanted: Option<&str>, split: Option<&str>) -> bool {
    match (wanted, split) {
        (Some(wanted), Some(split)) => wanted == split,
        _ => true,
    }
}

/// One record a line; gzipped where the name ends in `.gz`. Empty lines are skipped.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, DataError> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(io)?;
    let reader: Box<dyn Read> =
        if path.extension().is_some_and(|extension| extension == "gz") { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut records = Vec::new();
    for (i, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(io)?;
        if line.trim().is_empty() {
            continue;
        }
        records.push(serde_json::from_str(&line).map_err(|source| DataError::Record { path: path.to_owned(), line: i + 1, source })?);
    }
    Ok(records)
}
