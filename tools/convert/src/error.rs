//! What can be wrong with a checkpoint: which file, what in it, and what to do.

use std::path::{Path, PathBuf};

use ocelli_bundle::BundleError;
use ocelli_models::plan::PlanError;
use ocelli_models::text::build::BuildError;
use ocelli_preprocess::RecipeError;

use crate::gguf::GgufError;
use crate::lora::AdapterError;

/// Why a checkpoint could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is needed is not there.
    #[error("{}: {reason}", path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
        /// What is missing and what to do.
        reason: String,
    },
    /// A configuration that cannot be read.
    #[error("{}: {reason}; download the file again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of weights that is damaged, hostile, or of another kind.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        reason: String,
    },
    /// A GGUF file that is damaged, hostile, or of a model that is not read.
    #[error("{}: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// A class that no family imports, or a configuration that its family does not do.
    #[error("{}: {source}", path.display())]
    Plan {
        /// The configuration.
        path: PathBuf,
        /// What is wrong with it.
        source: PlanError,
    },
    /// Tensors that the model needs and the checkpoint does not have as they should be.
    #[error("{}: {reason}; the weights and {config} are of different models, or the download is incomplete", path.display())]
    Tensors {
        /// The weights.
        path: PathBuf,
        /// Which tensors, and what is wrong with them.
        reason: String,
        /// The configuration's name.
        config: String,
    },
    /// A weight that is no finite number.
    #[error("{}: tensor {tensor} has {value} at index {index}; the checkpoint is broken, get another copy", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Of the first such value, row by row.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A weight that is too large for half precision.
    #[error("{}: tensor {tensor} has {value} at index {index}, which f16 cannot hold; import it with --dtype f32", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Of the first such value, row by row.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The tokenizer.
    #[error("{}: {source}", path.display())]
    Tokenizer {
        /// The folder of its files.
        path: PathBuf,
        /// What is wrong.
        source: BuildError,
    },
    /// A tokenizer that does not fit the model.
    #[error("{}: {reason}", path.display())]
    ForeignTokenizer {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// The description of how pictures are made ready.
    #[error("{}: {source}", path.display())]
    Pictures {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RecipeError,
    },
    /// An adapter that cannot be read, or that is of another model.
    #[error("{}: {source}", path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AdapterError,
    },
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl ImportError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn absent(path: &Path, reason: impl Into<String>) -> Self {
        Self::Absent { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn json(path: &Path, reason: impl Into<String>) -> Self {
        Self::Json { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn weights(path: &Path, reason: impl Into<String>) -> Self {
        Self::Weights { path: path.to_owned(), reason: reason.into() }
    }
}
