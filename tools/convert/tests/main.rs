//! Checkpoints of every form become bundles, and what is wrong with one is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]
#![allow(missing_docs)]

#[path = "../../../tests/command/checkpoints.rs"]
mod checkpoints;

/// What is in the bundle, whatever form the checkpoint had.
mod forms;
/// GGUF: blocks, names and tokenizers as llama.cpp and transformers have them, and every way to be wrong.
mod gguf;
/// Its files, written byte by byte.
mod gguf_file;
/// Bundles in other forms, and recipes that do not fit.
mod quantized;
/// Files and checkpoints that are broken, hostile, or of another model.
mod refused;
