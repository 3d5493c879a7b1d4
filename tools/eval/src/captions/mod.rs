//! Metrics that compare a generated caption with what people wrote.
//!
//! All of them work on words as [`tokenize`] makes them, and follow coco-caption
//! (Chen et al. 2015, <https://arxiv.org/abs/1504.00325>; code: `pycocoevalcap`), whose values they equal on the same words.

mod bleu;
mod cider;
mod ngrams;
mod rouge;
mod tokenizer;

pub use bleu::bleu;
pub use cider::{CiderD, Consensus, cider_d};
pub use rouge::rouge_l;
pub use tokenizer::tokenize;

/// A generated caption with what people wrote about the same picture, both tokenized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Words of the generated caption.
    pub candidate: Vec<String>,
    /// Words of each reference.
    pub references: Vec<Vec<String>>,
}

impl Sample {
    /// Tokenizes a caption and its references.
    pub fn new<S: AsRef<str>>(candidate: &str, references: impl IntoIterator<Item = S>) -> Self {
        let references = references.into_iter().map(|text| tokenize(text.as_ref())).collect();
        Self { candidate: tokenize(candidate), references }
    }
}
