//! From a checkpoint of Hugging Face's or open_clip's to a bundle.
//!
//! What is done with a checkpoint is said by the family of its class: [`ocelli_models::registry::plan`] reads the configuration and gives the
//! bundle's table of tensors. Here the files are read, the table is filled, and the bundle is written, a block of rows at a time: however
//! large the checkpoint is, a few megabytes of heap are enough for it (of a PyTorch file, as many as its largest tensor has). The tokenizer
//! comes on top: 40 MB for CLIP's 49 408 tokens, a quarter of a gigabyte for Gemma's 256 000.
//!
//! | module | what |
//! |---|---|
//! | [`source`] | what lies in a folder: which weights, whose configuration |
//! | [`checkpoint`] | names, shapes and values of tensors: safetensors, PyTorch, shards, GGUF |
//! | [`gguf`] | what else a GGUF file holds: configuration, tokenizer, integers |
//! | `names` | prefixes that some checkpoints have |
//! | `fill` | a row of the table from its pieces, a block at a time |
//! | [`import`](mod@import) | all of it, in order |
//! | `tokenizer`, `pictures`, `provenance` | what else goes into a bundle |
//! | [`quantize`](mod@quantize) | a bundle's weights in another form, and what that changes |
//! | [`recipe`] | which form, from a file |
//! | [`lora`] | adapters that are added to the weights, now or later |
//! | [`goldens`] | a written bundle with golden vectors added |
//! | [`error`] | [`ImportError`]: what, where, and what to do |
//!
//! # Limits
//!
//! Nothing is allocated because a file says how long it is. A header of safetensors has at most
//! [`MAX_HEADER_BYTES`](checkpoint::MAX_HEADER_BYTES), a configuration [`MAX_JSON_BYTES`](source::MAX_JSON_BYTES), a tokenizer
//! [`MAX_TOKENIZER_BYTES`](ocelli_models::text::build::MAX_TOKENIZER_BYTES); a tensor is read only if it has the shape that the table gives it.
//! A PyTorch file is unpickled without running anything, and one that holds anything but tensors and plain values is refused.
#![forbid(unsafe_code)]

mod chat;
pub mod checkpoint;
pub mod error;
mod fill;
pub mod gguf;
pub mod goldens;
pub mod import;
pub mod lora;
mod names;
mod pictures;
mod provenance;
pub mod quantize;
pub mod recipe;
pub mod source;
mod tokenizer;

pub use error::ImportError;
pub use import::{Options, Report, import};
pub use lora::{AdapterError, Lora};
pub use quantize::{QuantizeError, quantize};
