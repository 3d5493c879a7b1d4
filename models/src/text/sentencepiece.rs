//! sentencepiece's model file (<https://github.com/google/sentencepiece/blob/v0.2.0/src/sentencepiece_model.proto>) as a `tokenizer.json`.
//!
//! Of the protobuf message only the fields that decide on tokens are read. Ids are those of transformers' classes on top of sentencepiece.
//! What differs is rare, and stands here so that nobody looks for it: a character with a replacement and an accent behind it that has no
//! composed form (the `tokenizers` crate maps grapheme by grapheme, sentencepiece the longest match), and unknown characters or punctuation
//! right behind a special token that was typed into the text.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::build::BuildError;
use super::charsmap;
use super::protobuf::{Field, Fields};

/// Longest piece, in bytes: sentencepiece trains none of more than 16 characters unless it is told to.
const MAX_PIECE_BYTES: usize = 512;
/// Most pieces: four times Gemma's.
const MAX_PIECES: usize = 1 << 20;

/// What stands beside the model file.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Texts are put into lower case.
    pub lower: bool,
    /// The token before a text, if any.
    pub start: Option<String>,
    /// The token behind a text; `Some(None)`: the usual one.
    pub end: Option<Option<String>>,
    /// For what is not in the vocabulary.
    pub unknown: String,
    /// With what texts are padded, if that is said.
    pub pad: Option<String>,
}

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Byte,
    Unused,
}

#[derive(Debug)]
struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

/// The fields that are read.
#[derive(Debug)]
struct Model {
    pieces: Vec<Piece>,
    /// Byte-pair encoding; else unigram.
    pairs: bool,
    byte_fallback: bool,
    charsmap: Vec<u8>,
    dummy_prefix: bool,
    one_space: bool,
}

/// transformers' `SiglipTokenizer`: texts in lower case, without punctuation, with one space between words; the end behind them.
pub(super) fn siglip(file: &[u8], facts: &Facts) -> Result<Value, BuildError> {
    let model = Model::read(file)?;
    let end = facts.end.clone().flatten().unwrap_or_else(|| "</s>".to_owned());
    let ids = model.ids();
    let mut special = vec![end.clone(), facts.unknown.clone()];
    special.extend(facts.pad.clone());
    special.dedup();
    let added = special.iter().filter_map(|token| Some(added(*ids.get(token.as_str())?, token, true)));
    let added: Vec<Value> = added.collect();

    const PUNCTUATION: &str = r"!-/:-@\[-`{-~";
    // What Python takes for space.
    const SPACE: &str = r"\s\x1c-\x1f";
    let mut steps = vec![replace("▁", " ")];
    if facts.lower {
        // Python knows of the sigma at a word's end.
        steps.push(replace_regex(r"(?<=[\p{L}\p{M}])Σ(?![\p{L}\p{M}])", "ς"));
        steps.push(json!({"type": "Lowercase"}));
    }
    // What is left out at the beginning leaves the mark of a word's beginning in its place, which Metaspace would put only at offset 0.
    steps.push(replace_regex(&format!("^[{PUNCTUATION}{SPACE}]+"), "▁"));
    steps.push(replace_regex(&format!("[{PUNCTUATION}]"), ""));
    steps.push(replace_regex(&format!("[{SPACE}]+"), " "));
    steps.extend(model.mapped());
    steps.extend([replace(" ", "▁"), replace_regex("▁{2,}", "▁"), replace_regex("▁+$", "")]);
    let words = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    model.tokenizer(added, steps, Some(words), (None, Some(end)))
}

/// A tokenizer of sentencepiece without a class of its own, such as Gemma's.
pub(super) fn gemma(file: &[u8], facts: &Facts) -> Result<Value, BuildError> {
    let model = Model::read(file)?;
    let ids = model.ids();
    let kept = |piece: &&Piece| matches!(piece.kind, Kind::Control | Kind::UserDefined);
    let added = model.pieces.iter().filter(kept).filter_map(|piece| {
        let id = *ids.get(piece.text.as_str())?;
        let mut token = added(id, &piece.text, piece.kind == Kind::Control);
        token["lstrip"] = Value::Bool(false);
        token["rstrip"] = Value::Bool(false);
        Some(token)
    });
    let added: Vec<Value> = added.collect();
    let mut steps = model.mapped();
    if model.one_space {
        steps.extend([replace_regex(" {2,}", " "), json!({"type": "Strip", "strip_left": true, "strip_right": true})]);
    }
    if model.dummy_prefix {
        steps.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    steps.push(replace(" ", "▁"));
    let usual = ["<eos>", "</s>"].into_iter().find(|token| ids.contains_key(token)).map(str::to_owned);
    let end = facts.end.clone().and_then(|end| end.filter(|end| ids.contains_key(end.as_str())).or(usual));
    let start = facts.start.clone().filter(|start| ids.contains_key(start.as_str()));
    model.tokenizer(added, steps, None, (start, end))
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
}

fn replace_regex(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

/// A token that is found in a text before anything else, and takes the space around it.
fn added(id: usize, token: &str, special: bool) -> Value {
    json!({"id": id, "content": token, "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": special})
}

pub(super) fn damaged(reason: impl Into<String>) -> BuildError {
    BuildError::Damaged { file: "the sentencepiece model", reason: reason.into() }
}

impl Model {
    /// Reads the message.
    fn read(file: &[u8]) -> Result<Self, BuildError> {
        let mut model =
            Self { pieces: Vec::new(), pairs: false, byte_fallback: false, charsmap: Vec::new(), dummy_prefix: true, one_space: true };
        for field in Fields::new(file) {
            match field? {
                (1, Field::Bytes(piece)) => {
                    if model.pieces.len() == MAX_PIECES {
                        return Err(damaged(format!("has more than {MAX_PIECES} pieces")));
                    }
                    let read = Piece::read(piece)?;
                    model.pieces.push(read);
                }
                (2, Field::Bytes(trainer)) => {
                    for field in Fields::new(trainer) {
                        match field? {
                            (3, Field::Number(1)) => model.pairs = false,
                            (3, Field::Number(2)) => model.pairs = true,
                            (3, Field::Number(other)) => {
                                return Err(damaged(format!("is of type {other}, and only unigram (1) and BPE (2) are read")));
                            }
                            (35, Field::Number(number)) => model.byte_fallback = number != 0,
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in Fields::new(normalizer) {
                        match field? {
                            (2, Field::Bytes(map)) => model.charsmap = map.to_vec(),
                            (3, Field::Number(number)) => model.dummy_prefix = number != 0,
                            (4, Field::Number(number)) => model.one_space = number != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err(damaged("has no pieces, and so is none"));
        }
        if !model.charsmap.is_empty() {
            charsmap::check(&model.charsmap).map_err(|reason| damaged(format!("cannot be used: {reason}")))?;
        }
        Ok(model)
    }

    fn ids(&self) -> HashMap<&str, usize> {
        self.pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect()
    }

    /// The model's own map of characters, as steps.
    fn mapped(&self) -> Vec<Value> {
        if self.charsmap.is_empty() {
            return Vec::new();
        }
        // Where the map composes letters, they are composed before: the crate knows one replacement a grapheme.
        let composed = charsmap::composes(&self.charsmap).then(|| json!({"type": "NFC"}));
        let map = json!({"type": "Precompiled", "precompiled_charsmap": charsmap::encode(&self.charsmap)});
        composed.into_iter().chain([map]).collect()
    }

    fn tokenizer(
        &self,
        added: Vec<Value>,
        steps: Vec<Value>,
        words: Option<Value>,
        (start, end): (Option<String>, Option<String>),
    ) -> Result<Value, BuildError> {
        let ids = self.ids();
        if ids.len() != self.pieces.len() {
            return Err(damaged("has a piece twice"));
        }
        let mut single = Vec::new();
        let mut specials = serde_json::Map::new();
        let mut special = |token: Option<String>, single: &mut Vec<Value>| -> Result<(), BuildError> {
            let Some(token) = token else { return Ok(()) };
            let id = ids.get(token.as_str()).ok_or_else(|| damaged(format!("has no piece {token:?}, which every text needs")))?;
            single.push(json!({"SpecialToken": {"id": token, "type_id": 0}}));
            specials.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
            Ok(())
        };
        special(start, &mut single)?;
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        special(end, &mut single)?;
        let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]);
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": steps},
            "pre_tokenizer": words,
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            ]},
            "model": if self.pairs { self.pairs(&ids)? } else { self.unigram()? },
        }))
    }

    fn unknown(&self) -> Result<usize, BuildError> {
        let unknown = self.pieces.iter().position(|piece| piece.kind == Kind::Unknown);
        unknown.ok_or_else(|| damaged("has no piece for what is unknown"))
    }

    fn unigram(&self) -> Result<Value, BuildError> {
        let normal = self.pieces.iter().filter(|piece| piece.kind == Kind::Normal).map(|piece| piece.score);
        let (least, most) = normal.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), score| (least.min(score), most.max(score)));
        let score = |piece: &Piece| match piece.kind {
            // As sentencepiece prefers them (`unigram_model.cc`, `EncodeOptimized`).
            Kind::UserDefined => piece.text.len() as f32 * most - 0.1,
            // Never chosen: farther away than anything unknown.
            Kind::Control | Kind::Unused | Kind::Byte => least - 1e4,
            Kind::Normal | Kind::Unknown => piece.score,
        };
        let vocabulary: Vec<Value> = self.pieces.iter().map(|piece| json!([piece.text, f64::from(score(piece))])).collect();
        Ok(json!({"type": "Unigram", "unk_id": self.unknown()?, "vocab": vocabulary, "byte_fallback": self.byte_fallback}))
    }

    /// The pairs that make each piece, the highest score first, as transformers derives them (`generate_merges`).
    fn pairs(&self, ids: &HashMap<&str, usize>) -> Result<Value, BuildError> {
        let mut pairs: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
        for piece in &self.pieces {
            let mut own: Vec<(usize, usize, &str, &str)> = Vec::new();
            for (at, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(at);
                if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                    own.push((left_id, right_id, left, right));
                }
            }
            own.sort_unstable();
            pairs
                .extend(own.into_iter().map(|(_, _, left, right)| (piece.score, left.chars().count(), right.chars().count(), left, right)));
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
        let merges: Vec<Value> = pairs.iter().map(|(.., left, right)| json!([left, right])).collect();
        let unknown = &self.pieces[self.unknown()?].text;
        Ok(json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": self.byte_fallback, "ignore_merges": false, "vocab": ids, "merges": merges,
        }))
    }
}

impl Piece {
    fn read(message: &[u8]) -> Result<Self, BuildError> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: Kind::Normal };
        for field in Fields::new(message) {
            match field? {
                (1, Field::Bytes(text)) => {
                    if text.len() > MAX_PIECE_BYTES {
                        return Err(damaged(format!("has a piece of {} bytes, and {MAX_PIECE_BYTES} are the limit", text.len())));
                    }
                    std::str::from_utf8(text).map_err(|_| damaged("has a piece that is no UTF-8"))?.clone_into(&mut piece.text);
                }
                (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
                (3, Field::Number(kind)) => {
                    piece.kind = match kind {
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        _ => Kind::Normal,
                    }
                }
                _ => {}
            }
        }
        if piece.text.is_empty() || !piece.score.is_finite() {
            return Err(damaged(format!("has a piece {:?} with score {}", piece.text, piece.score)));
        }
        Ok(piece)
    }
}
