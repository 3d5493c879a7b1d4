//! What the networks are.
//!
//! | module | what |
//! |---|---|
//! | [`registry`] | from a bundle to a model: the one place that knows all families |
//! | [`weights`] | from a bundle's tensors to a module's parameters, and back |
//! | [`blocks`] | layers that more than one model is built of |
//! | [`text`] | tokenizer, text tower, beam search |
//! | [`nano`] | the embedded default model |
//! | [`golden`] | what a model made of a few pictures, computed anew |
//!
//! No module here names a backend: a device comes in, tensors live on it.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod error;
pub mod golden;
pub mod nano;
pub mod registry;
pub mod text;
pub mod weights;

pub use error::LoadError;
pub use registry::load;
