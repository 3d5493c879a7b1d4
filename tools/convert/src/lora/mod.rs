//! LoRA adapters as PEFT writes them (<https://huggingface.co/docs/peft/developer_guides/checkpoint>): merged while a checkpoint is
//! imported, or put beside a bundle.
//!
//! | module | what |
//! |---|---|
//! | `config` | `adapter_config.json`: ranks, scales, and what is asked for that is not done |
//! | `file` | the tensors of an adapter, in pairs of A and B |
//! | `place` | which tensors of a model they are about |

mod config;
mod file;
mod place;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use ocelli_bundle::Manifest;
use ocelli_flow::{Adapter, LowRank};
use ocelli_models::registry;
use ocelli_models::table::Row;

use crate::ImportError;
use file::AdapterFile;
use place::Placed;

/// An adapter, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The folder that PEFT wrote.
    pub folder: PathBuf,
    /// What it adds is multiplied by this, beside the scale of its own.
    pub scale: f32,
}

impl FromStr for Lora {
    type Err = String;

    /// `DIR` or `DIR:scale`.
    fn from_str(typed: &str) -> Result<Self, String> {
        let whole = || Self { folder: typed.into(), scale: 1.0 };
        if typed.is_empty() {
            return Err("name the adapter's folder".to_owned());
        }
        match typed.rsplit_once(':') {
            // A colon may be part of a name.
            Some((folder, scale)) if !folder.is_empty() && !Path::new(typed).exists() => match scale.parse::<f32>() {
                Ok(scale) if scale.is_finite() => Ok(Self { folder: folder.into(), scale }),
                Ok(_) => Err(format!("{scale} is no scale; give a number as 0.5")),
                Err(_) => Ok(whole()),
            },
            _ => Ok(whole()),
        }
    }
}

/// What can be wrong with an adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// Something of PEFT's that is not done here.
    #[error("{what}; only plain LoRA is read: merge it with PEFT's merge_and_unload() and import the result")]
    Unsupported {
        /// What it is, and where it stands.
        what: String,
    },
    /// A setting that is none.
    #[error("{setting} is {value}, and {needs} is needed")]
    Setting {
        /// Its name.
        setting: String,
        /// As it is said.
        value: String,
        /// What would do.
        needs: &'static str,
    },
    /// One of a pair is not there.
    #[error("{module} has no {missing}; the file is incomplete, get another copy")]
    Half {
        /// The layer.
        module: String,
        /// `lora_A` or `lora_B`.
        missing: &'static str,
    },
    /// No tensor of LoRA's at all.
    #[error("it has no tensors lora_A and lora_B; it is no adapter of LoRA's")]
    Nothing,
    /// A pair that disagrees with itself, or with the configuration.
    #[error("{module}: {reason}")]
    Rank {
        /// The layer.
        module: String,
        /// Which sizes.
        reason: String,
    },
    /// A layer that the model does not have.
    #[error("{module} is no linear layer of this model; {near}")]
    Unknown {
        /// The layer.
        module: String,
        /// Names that are like it.
        near: String,
    },
    /// A layer of another size.
    #[error(
        "{module} takes {inputs} channels and gives {outputs} in the adapter, and the model's {tensor} has shape {shape:?}; the adapter is of another model"
    )]
    Shape {
        /// The layer.
        module: String,
        /// Input channels in the adapter.
        inputs: usize,
        /// Output channels there.
        outputs: usize,
        /// The model's tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A value that is no finite number.
    #[error("tensor {tensor} has {value} at index {index}; the adapter is broken, get another copy")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Of the first such value, row by row.
        index: usize,
        /// The value.
        value: f32,
    },
}

/// Adapters, and what of a model's table they are about.
#[derive(Debug, Default)]
pub(crate) struct Adapters(Vec<Placed>);

impl Adapters {
    /// Reads adapters, and finds the tensors of `rows` that they are about; values are read by [`Self::of_row`].
    pub fn open(loras: &[Lora], rows: &[Row]) -> Result<Self, ImportError> {
        let open = |lora: &Lora| {
            let file = AdapterFile::open(&lora.folder)?;
            Placed::new(file, lora.scale, rows)
        };
        Ok(Self(loras.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// What they add to a row.
    pub fn of_row(&self, row: &Row) -> Result<Vec<LowRank>, ImportError> {
        let mut parts = Vec::new();
        for placed in &self.0 {
            placed.add(row, &mut parts)?;
        }
        Ok(parts)
    }

    /// The folders and the files of each.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[PathBuf])> {
        self.0.iter().map(|placed| (placed.file.folder.as_path(), placed.file.files.as_slice()))
    }

    /// A sentence on each, for people.
    pub fn described(&self) -> Vec<String> {
        let said = |placed: &Placed| {
            let (layers, scale) = (placed.file.modules.len(), placed.scale);
            format!("{}, {layers} layers, at scale {scale}", crate::provenance::name(&placed.file.folder).0)
        };
        self.0.iter().map(said).collect()
    }
}

/// Adapters for the model of a bundle, to be put on with [`Model::set_adapter`](ocelli_flow::Model::set_adapter). Of several the sum is taken.
///
/// # Errors
/// Where an adapter cannot be read, or is of another model.
pub fn beside(loras: &[Lora], manifest: &Manifest) -> Result<Adapter, ImportError> {
    let name = loras.iter().map(|lora| crate::provenance::name(&lora.folder).0).collect::<Vec<_>>().join(" + ");
    let path = || loras.first().map(|lora| lora.folder.clone()).unwrap_or_default();
    let refused = |what: String| ImportError::Adapter { path: path(), source: AdapterError::Unsupported { what } };
    let rows = registry::rows(manifest).map_err(|error| refused(error.to_string()))?;
    let rows = rows.ok_or_else(|| refused(format!("models of family {:?} take no adapters", manifest.family)))?;
    let adapters = Adapters::open(loras, &rows)?;
    let mut parts = Vec::new();
    for row in &rows {
        parts.extend(adapters.of_row(row)?);
    }
    Ok(Adapter { name, parts })
}

/// Adds to a block of a stored matrix `[outputs, inputs]`, whose first row is output channel `first`, what adapters add to it.
pub(crate) fn merge(parts: &[LowRank], inputs: usize, first: usize, block: &mut [f32]) {
    for part in parts {
        for (o, row) in block.chunks_exact_mut(inputs.max(1)).enumerate() {
            if !part.outputs.contains(&(first + o)) {
                continue;
            }
            let at = (first + o - part.outputs.start) * part.rank;
            for (&b, a) in part.b[at..at + part.rank].iter().zip(part.a.chunks_exact(inputs)) {
                row.iter_mut().zip(a).for_each(|(value, &a)| *value += b * a);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_stands_behind_the_last_colon() {
        let read = |typed: &str| typed.parse::<Lora>().map(|lora| (lora.folder.to_string_lossy().into_owned(), lora.scale));
        assert_eq!(read("adapters/cat"), Ok(("adapters/cat".to_owned(), 1.0)));
        assert_eq!(read("adapters/cat:0.5"), Ok(("adapters/cat".to_owned(), 0.5)));
        assert_eq!(read("C:\\cat"), Ok(("C:\\cat".to_owned(), 1.0)));
        assert_eq!(read("C:\\cat:-2"), Ok(("C:\\cat".to_owned(), -2.0)));
        assert!(read("cat:inf").is_err() && read("").is_err());
    }

    #[test]
    fn only_rows_of_a_part_change() {
        let part = LowRank { tensor: "w".into(), outputs: 1..3, rank: 2, a: vec![1.0, 2.0, 3.0, 4.0], b: vec![1.0, 0.0, 0.5, 1.0] };
        let mut whole = vec![0.0; 8];
        merge(std::slice::from_ref(&part), 2, 0, &mut whole);
        assert_eq!(whole, [0.0, 0.0, 1.0, 2.0, 3.5, 5.0, 0.0, 0.0]);
        let mut block = vec![0.0; 4];
        merge(&[part], 2, 2, &mut block);
        assert_eq!(block, whole[4..]);
    }
}
