//! What a decoder has read, kept from one request to the next: a prompt that begins like the last one is not read again from its beginning.

use burn::tensor::{Device, Tensor};
use ocelli_flow::ModelError;

use super::Decoder;
use crate::blocks::DecoderCache;

/// What stands at a place of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A token.
    Token(u32),
    /// A picture's vector: the picture's number, and which of its vectors.
    Picture(u64, u32),
}

/// A cache and what it holds.
#[derive(Debug, Default)]
pub struct Session {
    places: Vec<Place>,
    cache: Option<DecoderCache>,
    shared: usize,
}

impl Session {
    /// How many places of a prompt it has read already; one at least is left to read, for its logits.
    pub fn shared(&self, prompt: &[Place]) -> usize {
        let same = self.places.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        same.min(prompt.len().saturating_sub(1))
    }

    /// Reads what it has not read of a prompt: `vectors(from)` are those of the places from `from` on, `[1, places, d]`. Gives the cache, with room
    /// for `more` tokens, and the logits of the next; [`Session::keep`] takes the cache back.
    ///
    /// # Errors
    /// Where the prompt is longer than the decoder's context, or vectors cannot be had.
    pub fn read(
        &mut self,
        decoder: &Decoder,
        prompt: &[Place],
        more: usize,
        device: &Device,
        vectors: impl FnOnce(usize) -> Result<Tensor<3>, ModelError>,
    ) -> Result<(DecoderCache, Vec<f32>), ModelError> {
        let shared = self.shared(prompt);
        let needed = prompt.len() + more;
        self.shared = shared;
        self.places.clear();
        let mut cache = match self.cache.take() {
            Some(cache) if cache.context() >= needed => cache,
            Some(cache) if shared > 0 => cache.grown(needed),
            _ => decoder.cache(1, needed, device),
        };
        cache.truncate(shared);
        let x = decoder.forward(vectors(shared)?, &mut cache)?;
        let logits = decoder.last_logits(x)?;
        Ok((cache, logits))
    }

    /// How many places of the last prompt were read already.
    pub fn shared_last(&self) -> usize {
        self.shared
    }

    /// Keeps a cache for the next request: it has read `places`.
    pub fn keep(&mut self, mut cache: DecoderCache, places: Vec<Place>) {
        cache.truncate(places.len());
        self.places = places;
        self.places.truncate(cache.tokens());
        self.cache = Some(cache);
    }
}
