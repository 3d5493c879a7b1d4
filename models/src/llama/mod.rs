//! Decoder-only language models of Llama's kind (Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>): SmolLM, and the text half of
//! SmolVLM.

pub mod config;
pub mod decoder;
pub mod session;
pub mod tensors;

pub use config::DecoderConfig;
pub use decoder::Decoder;
