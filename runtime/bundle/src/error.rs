//! What can be wrong with a bundle: which file, which part of it, at which offset, and what to do.

use std::fmt;

/// A part of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The header and the metadata: manifest, texts, tensor descriptors.
    Head,
    /// A tensor's data.
    Tensor(String),
    /// The zeros before a tensor.
    PaddingBefore(String),
    /// The last 64 bytes.
    Seal,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => write!(f, "the header or manifest"),
            Self::Tensor(name) => write!(f, "tensor `{name}`"),
            Self::PaddingBefore(name) => write!(f, "the padding before `{name}`"),
            Self::Seal => write!(f, "the seal"),
        }
    }
}

/// Why a bundle cannot be opened, read, verified or written. `bundle` is the file's path, or says that it is embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file system said no.
    #[error("{bundle}: {source}")]
    Io {
        /// The file.
        bundle: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is some other file.
    #[error("{bundle}: not an ocelli bundle: {reason}; give a file that `ocelli` or `ocelli-train` wrote")]
    NotABundle {
        /// The file.
        bundle: String,
        /// How that shows.
        reason: String,
    },
    /// The file ends too early.
    #[error("{bundle}: cut short: {reason}; copy or download the file again")]
    Truncated {
        /// The file.
        bundle: String,
        /// What is missing.
        reason: String,
    },
    /// A later version wrote it.
    #[error(
        "{bundle}: {what} version {found}, and this build reads up to {supported}; update ocelli, or convert the model with this version"
    )]
    UnsupportedVersion {
        /// The file.
        bundle: String,
        /// Of the container, or of the manifest.
        what: &'static str,
        /// What the file says.
        found: u32,
        /// What this build reads.
        supported: u32,
    },
    /// The bytes are what was written, and yet not a bundle's.
    #[error("{bundle}: {place}: {reason}; the program that wrote the file is at fault, write it again with `ocelli`")]
    Malformed {
        /// The file.
        bundle: String,
        /// A metadata key, or a tensor with its offset.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// Bytes changed after the file was written.
    #[error("{bundle}: {part} is damaged (bytes {offset} to {end} of the file); copy or download the file again")]
    Damaged {
        /// The file.
        bundle: String,
        /// What is damaged.
        part: Part,
        /// Where the damaged part starts, in bytes from the start of the file.
        offset: u64,
        /// Where it ends.
        end: u64,
    },
    /// A tensor that is not there.
    #[error("{bundle}: no tensor `{tensor}`; the file is of another model or version than the code that reads it")]
    MissingTensor {
        /// The file.
        bundle: String,
        /// Its name.
        tensor: String,
    },
    /// Embedded bytes at an address that numbers cannot be read from in place.
    #[error("{bundle}: starts at an address that is not a multiple of {required}; embed it with `ocelli_bundle::include_aligned!`")]
    Unaligned {
        /// The file.
        bundle: String,
        /// The alignment needed, in bytes.
        required: usize,
    },
    /// The writer was given something that a bundle cannot hold.
    #[error("cannot put `{entry}` into a bundle: {reason}")]
    Rejected {
        /// The tensor or text.
        entry: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Writing failed.
    #[error("{bundle}: cannot write: {reason}")]
    Write {
        /// The file.
        bundle: String,
        /// What happened.
        reason: String,
    },
}
