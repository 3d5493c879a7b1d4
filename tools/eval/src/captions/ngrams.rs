//! Counts of n-grams.

use std::collections::HashMap;

/// Longest n-gram any metric counts.
pub const LONGEST: usize = 4;

/// Words as numbers, so that n-grams are cheap to compare.
#[derive(Debug, Default)]
pub struct Vocabulary<'a> {
    ids: HashMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    /// The number of each word; new words get the next one.
    pub fn ids(&mut self, words: &'a [String]) -> Vec<u32> {
        words
            .iter()
            .map(|word| {
                let next = self.ids.len() as u32;
                *self.ids.entry(word).or_insert(next)
            })
            .collect()
    }
}

/// An n-gram: its words, the rest filled with [`u32::MAX`].
pub type Gram = [u32; LONGEST];

/// How often each n-gram of 1 to 4 words occurs, by length: `counts[n - 1]`.
pub fn count(ids: &[u32]) -> [HashMap<Gram, u32>; LONGEST] {
    std::array::from_fn(|i| {
        let mut counts = HashMap::new();
        for window in ids.windows(i + 1) {
            let mut gram = [u32::MAX; LONGEST];
            gram[..=i].copy_from_slice(window);
            *counts.entry(gram).or_default() += 1;
        }
        counts
    })
}
