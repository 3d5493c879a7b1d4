//! What can be wrong with a GGUF file: what, where, and what to do.

/// Why a GGUF file is not read, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Another kind of file.
    #[error("not a GGUF file: {0}")]
    Foreign(String),
    /// A version that is not read.
    #[error("GGUF version {version}, and only 2 and 3 are read: convert the model again with a recent llama.cpp")]
    Version {
        /// As the file has it.
        version: u32,
    },
    /// Numbers with their high bytes first.
    #[error(
        "a GGUF file for big-endian machines (its version is written as {version:#010x}); take the little-endian one, or turn it with \
         gguf-convert-endian"
    )]
    BigEndian {
        /// The version's bytes, read as little-endian.
        version: u32,
    },
    /// It ends too early, or says that something is longer than the file.
    #[error("cut short: {what} at byte {at} needs {needs} bytes, and {has} follow; download the file again")]
    CutShort {
        /// What is read.
        what: String,
        /// Where it begins.
        at: u64,
        /// Bytes that it needs at least.
        needs: u64,
        /// Bytes that there are from there on.
        has: u64,
    },
    /// More of something than any model has.
    #[error("it is said to have {count} {what} (at byte {at}), and {limit} are the limit; the file is damaged, download it again")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Where that is said.
        at: u64,
        /// How many are claimed.
        count: u64,
        /// How many may be.
        limit: u64,
    },
    /// Metadata that no GGUF file has.
    #[error("its metadata are damaged: {what} at byte {at} {reason}; download the file again")]
    Damaged {
        /// Which part.
        what: String,
        /// Where it begins.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// A key of the metadata that is missing or has another value than it should.
    #[error("its metadata's {key} {reason}")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A tensor that cannot be where or as it is said to be.
    #[error("tensor {name} (described at byte {at}) {reason}; the file is damaged, download it again")]
    Tensor {
        /// Its name.
        name: String,
        /// Where its description begins.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// A tensor of a type that is unknown, or known and not read.
    #[error("tensor {name} is of type {kind}, which is not read ({}); take a file with one of these", super::blocks::read_names())]
    Type {
        /// The tensor.
        name: String,
        /// The type's name or number.
        kind: String,
    },
    /// A tensor that is not there, or a part that it does not have.
    #[error("tensor {name} {reason}")]
    Request {
        /// The tensor.
        name: String,
        /// What is wrong with what was asked for.
        reason: String,
    },
    /// A tokenizer that cannot be put together.
    #[error("its tokenizer {0}")]
    Tokenizer(String),
    /// A model that is not read.
    #[error("{0}")]
    Architecture(String),
}

impl GgufError {
    pub(super) fn metadata(key: &str, reason: impl Into<String>) -> Self {
        Self::Metadata { key: key.to_owned(), reason: reason.into() }
    }

    pub(super) fn request(name: &str, reason: impl Into<String>) -> Self {
        Self::Request { name: name.to_owned(), reason: reason.into() }
    }
}
