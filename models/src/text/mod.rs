//! Text: tokenizers, text towers, and beam search. The only place that knows the `tokenizers` crate.

pub mod beam;
pub mod build;
pub mod cache;
mod charsmap;
pub mod encoder;
pub mod prompt;
mod protobuf;
mod sentencepiece;
pub mod tokenizer;
pub mod tower;

pub use beam::{BeamOptions, Hypothesis, Specials, StepDecoder, candidates};
pub use cache::PromptCache;
pub use encoder::{TextConfig, TextEncoder};
pub use prompt::{Prompt, PromptTokenizer};
pub use tokenizer::Tokenizer;
pub use tower::{TextTower, TextTowerConfig};
