//! What a decoder has read, kept from one request to the next: a prompt that begins like the last one is not read again from its beginning.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use ocelli_flow::ModelError;

use super::Decoder;
use crate::blocks::DecoderCache;

/// Places that are read at once: many enough that layers are as fast as they can be, and what they need of memory meanwhile does not grow with
/// the prompt.
const AT_ONCE: usize = 256;

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

    /// Reads what it has not read of a prompt: `vectors(places)` are those of these places, `[1, places, d]`. Gives the cache, with room for
    /// `more` tokens, and the logits of the next; [`Session::keep`] takes the cache back.
    ///
    /// # Errors
    /// Where the prompt is longer than the decoder's context, or vectors cannot be had.
    pub fn read(
        &mut self,
        decoder: &Decoder,
        prompt: &[Place],
        more: usize,
        device: &Device,
        vectors: impl Fn(Range<usize>) -> Result<Tensor<3>, ModelError>,
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
        let mut first = shared;
        loop {
            let next = prompt.len().min(first + AT_ONCE);
            let x = decoder.forward(vectors(first..next)?, &mut cache)?;
            if next == prompt.len() {
                let logits = decoder.last_logits(x)?;
                return Ok((cache, logits));
            }
            first = next;
        }
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

#[cfg(test)]
mod tests {
    use super::super::DecoderConfig;
    use super::*;

    #[test]
    fn a_prompt_that_is_read_in_pieces_is_read_as_at_once() {
        let device = Device::flex();
        let config = DecoderConfig {
            vocabulary: 90,
            width: 16,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            head: 8,
            hidden: 24,
            context: 2 * AT_ONCE + 40,
            ..DecoderConfig::smollm2_135m()
        };
        let decoder = Decoder::init(&config, &device);
        for count in [AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 7] {
            let ids: Vec<u32> = (0..count as u32).map(|i| i * i % 89).collect();
            let places: Vec<Place> = ids.iter().copied().map(Place::Token).collect();
            let mut cache = decoder.cache(1, count, &device);
            let at_once = decoder.read(&ids, &mut cache, &device).unwrap();
            let mut session = Session::default();
            let (cache, in_pieces) = session.read(&decoder, &places, 8, &device, |places| decoder.embed(&ids[places], &device)).unwrap();
            assert_eq!(cache.tokens(), count);
            assert!(at_once.iter().zip(&in_pieces).all(|(a, b)| (a - b).abs() < 1e-5), "{count}: {at_once:?} {in_pieces:?}");
        }
    }
}
