//! Text: tokenizers, text towers, and the decode engine. The only place that knows the `tokenizers` crate.

pub mod build;
pub mod cache;
mod charsmap;
pub mod chat;
pub mod codec;
pub mod encoder;
pub mod generate;
pub mod grammar;
pub mod prompt;
mod protobuf;
mod sentencepiece;
pub mod tokenizer;
mod tokenizer_json;
pub mod tower;
pub mod transformer;
pub mod writer;

pub use cache::PromptCache;
pub use chat::ChatTemplate;
pub use codec::Codec;
pub use encoder::{TextConfig, TextEncoder};
pub use generate::{Hypothesis, Start, StepDecoder};
pub use grammar::TokenBytes;
pub use prompt::{Prompt, PromptTokenizer};
pub use tokenizer::Tokenizer;
pub use tower::{TextTower, TextTowerConfig};
pub use transformer::{TextTransformer, TextTransformerConfig};
pub use writer::{write, write_about, write_as};
