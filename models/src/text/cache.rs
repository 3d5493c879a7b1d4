//! Texts that were encoded are not encoded again.

use std::collections::HashMap;

use burn::tensor::Tensor;
use ocelli_flow::{Embedding, ModelError};

use super::{PromptTokenizer, TextEncoder};

/// Texts that a tower reads in one go.
const BATCH: usize = 32;
/// Vectors that are kept; where there are more, all are forgotten and the cache begins anew.
const KEPT: usize = 16_384;

/// Vectors of texts, not normalised.
#[derive(Debug, Default)]
pub struct PromptCache {
    vectors: HashMap<String, Embedding>,
}

impl PromptCache {
    /// One vector a text, in order. Only texts that are not here yet are encoded, each once.
    pub fn get(&mut self, texts: &[&str], tokenizer: &PromptTokenizer, tower: &TextEncoder) -> Result<Vec<Embedding>, ModelError> {
        if self.vectors.len() + texts.len() > KEPT {
            self.vectors.clear();
        }
        let mut new: Vec<&str> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for &text in texts {
            if !self.vectors.contains_key(text) && seen.insert(text) {
                new.push(text);
            }
        }
        for batch in new.chunks(BATCH) {
            let prompts = batch.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
            let rows = tower.forward(&prompts);
            for (text, values) in batch.iter().zip(rows_of(rows)) {
                self.vectors.insert((*text).to_owned(), Embedding { values });
            }
        }
        texts.iter().map(|&text| self.vectors.get(text).cloned().ok_or_else(missing)).collect()
    }

    /// How many vectors are kept.
    pub fn len(&self) -> usize {
        self.vectors.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }
}

fn missing() -> ModelError {
    ModelError::Compute { stage: "text_encode", reason: "the tower gave fewer vectors than texts".into() }
}

fn rows_of(rows: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, d] = rows.dims();
    let values: Vec<f32> = rows.into_data().iter::<f32>().collect();
    values.chunks_exact(d).map(<[f32]>::to_vec).collect()
}
