//! A Hugging Face `tokenizer.json`, read from its text into the `tokenizers` crate's structures at once.
//!
//! The crate's own way to read a tokenizer of any kind puts the model into trees of values first, twice, and the merges of byte pairs a third
//! time: for 49,152 tokens that is several times what the tokenizer takes in the end. Where the kind of model is known no tree is needed, so
//! it is looked up first; on that pass what the crate takes on trust is checked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::tokenizer::{
    DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Result as TokenizersResult, Token, TokenizerImpl,
};

use super::charsmap;

/// A tokenizer that was read.
pub(super) struct Read {
    /// It.
    pub tokenizer: tokenizers::Tokenizer,
    /// The largest id that it has a token for.
    pub largest: u32,
}

/// Reads a `tokenizer.json`.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn read(json: &str) -> Result<Read, String> {
    let outline: Outline<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    charsmap::check_steps(&outline.normalizer)?;
    outline.model.check()?;
    let known = match outline.model.kind.as_deref() {
        Some("BPE") => typed::<BytePairs>(json).ok(),
        Some("WordPiece") => typed::<WordPiece>(json).ok(),
        Some("Unigram") => typed::<Unigram>(json).ok(),
        _ => None,
    };
    // A file with fields that its kind does not have, or an older one, is read the long way; which also says what is wrong.
    let tokenizer = match known {
        Some(tokenizer) => tokenizer,
        None => tokenizers::Tokenizer::from_bytes(json.as_bytes()).map_err(|error| error.to_string())?,
    };
    let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
    let largest = added.keys().copied().fold(outline.model.vocab.largest, u32::max);
    Ok(Read { tokenizer, largest })
}

type Typed<M> = TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

fn typed<M: Model + DeserializeOwned + Into<ModelWrapper>>(json: &str) -> Result<tokenizers::Tokenizer, serde_json::Error> {
    serde_json::from_str::<Typed<M>>(json).map(Into::into)
}

/// [`BPE`] with its merges as pairs, as they are written today. The crate reads pairs and lines, and to do so keeps both as a tree.
struct BytePairs(BPE);

impl<'de> Deserialize<'de> for BytePairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            dropout: Option<f32>,
            unk_token: Option<String>,
            continuing_subword_prefix: Option<String>,
            end_of_word_suffix: Option<String>,
            fuse_unk: Option<bool>,
            byte_fallback: Option<bool>,
            ignore_merges: Option<bool>,
            vocab: Vocab,
            merges: Vec<(String, String)>,
        }
        let fields = Fields::deserialize(deserializer)?;
        let mut builder = BPE::builder().vocab_and_merges(fields.vocab, fields.merges);
        if let Some(dropout) = fields.dropout {
            builder = builder.dropout(dropout);
        }
        if let Some(unknown) = fields.unk_token {
            builder = builder.unk_token(unknown);
        }
        if let Some(prefix) = fields.continuing_subword_prefix {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = fields.end_of_word_suffix {
            builder = builder.end_of_word_suffix(suffix);
        }
        let builder = builder
            .fuse_unk(fields.fuse_unk.unwrap_or_default())
            .byte_fallback(fields.byte_fallback.unwrap_or_default())
            .ignore_merges(fields.ignore_merges.unwrap_or_default());
        builder.build().map(Self).map_err(serde::de::Error::custom)
    }
}

impl From<BytePairs> for ModelWrapper {
    fn from(model: BytePairs) -> Self {
        model.0.into()
    }
}

impl Model for BytePairs {
    type Trainer = BpeTrainer;

    fn tokenize(&self, sequence: &str) -> TokenizersResult<Vec<Token>> {
        self.0.tokenize(sequence)
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }
    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab()
    }
    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size()
    }
    fn save(&self, folder: &Path, prefix: Option<&str>) -> TokenizersResult<Vec<PathBuf>> {
        self.0.save(folder, prefix)
    }
    fn get_trainer(&self) -> BpeTrainer {
        self.0.get_trainer()
    }
}

/// What is looked up first. The vocabulary and the merges are walked through, not kept.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(default)]
    normalizer: Value,
    #[serde(borrow, default)]
    model: ModelOutline<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ModelOutline<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    continuing_subword_prefix: Option<Cow<'a, str>>,
    vocab: Tokens,
    merges: Merges,
}

impl ModelOutline<'_> {
    /// The crate joins both sides of a merge, the right one without its prefix, in a buffer as long as the longest token.
    fn check(&self) -> Result<(), String> {
        let prefix = self.continuing_subword_prefix.as_deref().map_or(0, str::len);
        if self.merges.shortest_right.is_some_and(|right| right < prefix) {
            return Err(format!("the right side of one of its merges is shorter than its continuing_subword_prefix, {prefix} bytes"));
        }
        let joined = self.merges.longest.saturating_sub(prefix);
        if joined > self.vocab.longest {
            return Err(format!("one of its merges makes a token of {joined} bytes, and its longest has {}", self.vocab.longest));
        }
        Ok(())
    }
}

/// `vocab`: a map of tokens to ids, or a list whose places are the ids.
#[derive(Default)]
struct Tokens {
    largest: u32,
    /// Bytes of the longest token of a map.
    longest: usize,
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Tokens;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a vocabulary: a map of tokens to ids, or a list of tokens")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
                let mut tokens = Tokens::default();
                while let Some((Length(token), id)) = map.next_entry::<Length, u32>()? {
                    tokens.largest = tokens.largest.max(id);
                    tokens.longest = tokens.longest.max(token);
                }
                Ok(tokens)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tokens, A::Error> {
                let mut count = 0u32;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count = count.saturating_add(1);
                }
                Ok(Tokens { largest: count.saturating_sub(1), longest: 0 })
            }
        }
        deserializer.deserialize_any(Walk)
    }
}

/// `merges`: pairs, or both sides in a text with a blank between them.
#[derive(Default)]
struct Merges {
    /// Bytes of the longest pair, both sides together.
    longest: usize,
    /// Bytes of the shortest right side.
    shortest_right: Option<usize>,
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Merges;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
                let mut merges = Merges::default();
                while let Some(Pair(pair)) = seq.next_element()? {
                    let Some((left, right)) = pair else { continue };
                    merges.longest = merges.longest.max(left.saturating_add(right));
                    merges.shortest_right = Some(merges.shortest_right.map_or(right, |shortest| shortest.min(right)));
                }
                Ok(merges)
            }
        }
        deserializer.deserialize_seq(Walk)
    }
}

/// Bytes of a text.
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Measure;
        impl Visitor<'_> for Measure {
            type Value = Length;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a token")
            }
            fn visit_str<E>(self, text: &str) -> Result<Length, E> {
                Ok(Length(text.len()))
            }
        }
        deserializer.deserialize_str(Measure)
    }
}

/// Bytes of a merge's left and right side; none where it is a remark, or not two sides, which the crate refuses.
struct Pair(Option<(usize, usize)>);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Measure;
        impl<'de> Visitor<'de> for Measure {
            type Value = Pair;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a merge: two tokens")
            }
            fn visit_str<E>(self, text: &str) -> Result<Pair, E> {
                let sides = text.split_once(' ').filter(|_| !text.starts_with("#version"));
                Ok(Pair(sides.map(|(left, right)| (left.len(), right.len()))))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pair, A::Error> {
                let (left, right) = (seq.next_element::<Length>()?, seq.next_element::<Length>()?);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Pair(left.zip(right).map(|(Length(left), Length(right))| (left, right))))
            }
        }
        deserializer.deserialize_any(Measure)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bpe(model: &Value) -> String {
        let mut whole = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": null, "added_tokens": [{"id": 4, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}],
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3}, "merges": [["a", "b"], ["ab", "ab"]]},
        });
        for (key, value) in model.as_object().unwrap() {
            whole["model"][key] = value.clone();
        }
        whole.to_string()
    }

    #[test]
    fn both_ways_give_the_same_tokenizer() {
        for model in [json!({}), json!({"merges": ["#version: 0.2", "a b", "ab ab"]}), json!({"unheard_of": [1, {"of": 2}]})] {
            let json = bpe(&model);
            let read = read(&json).unwrap();
            let long = tokenizers::Tokenizer::from_bytes(&json).unwrap();
            assert_eq!(read.largest, 4);
            assert_eq!(read.tokenizer.to_string(false).unwrap(), long.to_string(false).unwrap());
            assert_eq!(read.tokenizer.encode("ababab<end>", false).unwrap().get_ids(), [3, 2, 4]);
        }
        // The short way is the one that is taken.
        assert!(typed::<BytePairs>(&bpe(&json!({}))).is_ok());
    }

    #[test]
    fn merges_that_would_not_fit_are_refused() {
        for (model, reason) in [
            (json!({"merges": [["ab", "abab"]]}), "one of its merges makes a token of 6 bytes, and its longest has 4"),
            (json!({"merges": ["abab abab"]}), "one of its merges makes a token of 8 bytes, and its longest has 4"),
            (json!({"continuing_subword_prefix": "##"}), "shorter than its continuing_subword_prefix, 2 bytes"),
        ] {
            assert!(read(&bpe(&model)).err().unwrap().contains(reason), "{model}");
        }
        for wrong in [
            json!({"vocab": 7}),
            json!({"vocab": {"a": "b"}}),
            json!({"merges": [[1, 2]]}),
            json!({"merges": ["ab"]}),
            json!({"merges": {}}),
        ] {
            assert!(read(&bpe(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_of_tokens_is_counted() {
        let json = json!({"version": "1.0", "added_tokens": [], "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -2.0]]}});
        let read = read(&json.to_string()).unwrap();
        assert_eq!((read.largest, read.tokenizer.get_vocab_size(true)), (2, 3));
    }
}
