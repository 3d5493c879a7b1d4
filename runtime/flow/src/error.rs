//! What can go wrong with what comes from outside: each error says what, where, and what to do.

use std::path::PathBuf;

/// A frame source failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a picture that can be decoded.
    #[error("{path}: {reason}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A folder or pattern without a picture in it.
    #[error("{path}: no pictures here (looked for {extensions})")]
    Empty {
        /// The folder or pattern.
        path: PathBuf,
        /// The endings that count as pictures.
        extensions: &'static str,
    },
    /// The camera.
    #[error("{device}: {reason}")]
    Camera {
        /// The device, `/dev/video0`.
        device: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// A result could not be handed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Writing failed.
    #[error("{place}: {source}")]
    Io {
        /// The file, or `standard output`.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The picture could not be encoded.
    #[error("{place}: {reason}")]
    Encode {
        /// The file.
        place: String,
        /// What was wrong.
        reason: String,
    },
}

/// A model could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A text that cannot be encoded.
    #[error("text {text:?}: {reason}")]
    Text {
        /// The beginning of the text.
        text: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A prompt that cannot be made, or that does not fit the pictures or the model.
    #[error("{reason}")]
    Prompt {
        /// What is wrong and what to do.
        reason: String,
    },
    /// An option out of range.
    #[error("{option}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Something that this model cannot do.
    #[error("this model cannot {what}; choose another with -m, `ocelli inspect` says what a model can do")]
    Unsupported {
        /// What it was asked for.
        what: &'static str,
    },
    /// Prepared tensors that do not fit the model.
    #[error("prepared pixels: {reason}; write them with `ocelli preprocess` and this model")]
    Inputs {
        /// What is there, and what is needed.
        reason: String,
    },
    /// An adapter of another model.
    #[error("adapter {name}: {reason}")]
    Adapter {
        /// The adapter.
        name: String,
        /// Which part does not fit, and how.
        reason: String,
    },
    /// Features of another model.
    #[error("these features come from another model; encode the frame with the model that reads them")]
    ForeignFeatures,
    /// The computation failed.
    #[error("{stage}: {reason}")]
    Compute {
        /// Where: `encode`, `ground`, …
        stage: &'static str,
        /// What happened.
        reason: String,
    },
}
