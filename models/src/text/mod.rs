//! Text: the tokenizer, the text tower, and beam search. The only place that knows the `tokenizers` crate.

pub mod beam;
pub mod tokenizer;
pub mod tower;

pub use beam::{BeamOptions, Hypothesis, Specials, StepDecoder, candidates};
pub use tokenizer::Tokenizer;
pub use tower::{TextTower, TextTowerConfig};
