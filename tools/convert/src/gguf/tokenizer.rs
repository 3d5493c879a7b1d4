//! The tokenizer: metadata to a Hugging Face `tokenizer.json` that gives llama.cpp's ids,
//! <https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp>.
//!
//! `gpt2` is byte-level BPE: words by the regular expressions that `tokenizer.ggml.pre` names, then the merges. `llama` is sentencepiece:
//! pieces with scores, of which llama.cpp joins the two neighbours whose piece has the highest, whether they were trained as BPE or unigram.
//! With a merge for every two pieces that make a third, in the order of scores, that is BPE again.
//!
//! What llama.cpp has besides, by the names of models (spaces taken off around some special tokens of Phi-3 and Jina), is left out.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::error::GgufError;
use super::value::{Array, Metadata, Value};

/// Most tokens: four times what the largest vocabularies have.
pub const MAX_TOKENS: usize = 1 << 20;
/// Most merges.
pub const MAX_MERGES: usize = 1 << 21;
/// Longest piece of sentencepiece that takes part in merges, in bytes.
const MAX_PIECE_BYTES: usize = 512;

/// The first part of the tokenizer's keys.
const PREFIX: &str = "tokenizer.ggml";

/// Words of byte-level BPE. Each expression parts what those before it have left.
struct Words {
    /// What `tokenizer.ggml.pre` says.
    names: &'static [&'static str],
    expressions: &'static [&'static str],
    /// Whether a word that is a token is one, whatever the merges say.
    whole: bool,
    /// Whether texts begin with the start token unless the metadata say otherwise.
    start: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expressions that are known.
const WORDS: [Words; 8] = [
    Words {
        names: &["default", ""],
        expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        whole: false,
        start: false,
    },
    Words {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        expressions: &[r"\p{N}", GPT2],
        whole: false,
        start: false,
    },
    Words {
        names: &["gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "phi-2", "gigachat", "exaone4"],
        expressions: &[GPT2],
        whole: false,
        start: false,
    },
    Words {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        expressions: &[LLAMA3],
        whole: true,
        start: true,
    },
    Words { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], expressions: &[LLAMA3], whole: false, start: false },
    Words { names: &["glm4"], expressions: &[LLAMA3], whole: true, start: false },
    Words {
        names: &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "solar-open"],
        expressions: &[QWEN2],
        whole: false,
        start: false,
    },
    Words { names: &["falcon"], expressions: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"], whole: false, start: false },
];

/// Which tokens have a role, and what is put around a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles {
    /// Begins a text.
    pub start: Option<u32>,
    /// Ends a text.
    pub end: Option<u32>,
    /// Fills a batch.
    pub pad: Option<u32>,
    /// Stands for what is unknown.
    pub unknown: Option<u32>,
    /// Whether the start is put before a text.
    pub add_start: bool,
    /// Whether the end is put behind a text.
    pub add_end: bool,
    /// Tokens at which generation stops: the end of a text or of a turn.
    pub stops: Vec<u32>,
    /// Stands for a picture.
    pub image: Option<u32>,
}

/// What ends a turn, whatever the metadata say.
const STOPS: [&str; 7] = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<end_of_utterance>", "<|end_of_text|>"];

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
}

/// The tokens, and what the metadata say of them.
pub(super) struct Vocabulary<'a> {
    metadata: &'a Metadata,
    /// `llama`; else `gpt2`.
    pieces: bool,
    words: Option<&'static Words>,
    tokens: Vec<String>,
    kinds: Vec<Kind>,
}

impl<'a> Vocabulary<'a> {
    /// Reads it; `None`: the file has none.
    pub fn read(metadata: &'a Metadata) -> Result<Option<Self>, GgufError> {
        let key = |name: &str| format!("{PREFIX}.{name}");
        let Some(model) = metadata.text(&key("model"))? else { return Ok(None) };
        let pieces = match model {
            "gpt2" => false,
            "llama" => true,
            "no_vocab" | "none" => return Ok(None),
            other => return Err(wrong(format!("is of type {other:?}, and only gpt2 and llama are read; take another model"))),
        };
        let pre = metadata.text(&key("pre"))?.unwrap_or_default();
        let words = WORDS.iter().find(|words| words.names.contains(&pre));
        if !pieces && words.is_none() {
            let known = WORDS.iter().flat_map(|words| words.names).filter(|name| !name.is_empty()).copied().collect::<Vec<_>>().join(", ");
            return Err(wrong(format!("parts words as {pre:?} does, and these are known: {known}; take another model")));
        }
        let listed = key("tokens");
        let list = metadata.need(&listed, metadata.array(&listed))?;
        let tokens = strings(list, &listed, MAX_TOKENS)?.enumerate().map(|(id, token)| {
            let token = token?;
            // As llama.cpp names them.
            Ok(if token.is_empty() { format!("[EMPTY_{id}]") } else { token })
        });
        let tokens = tokens.collect::<Result<Vec<_>, GgufError>>()?;
        if tokens.is_empty() {
            return Err(wrong("has no tokens; convert the model again".to_owned()));
        }
        let kinds = match metadata.array(&key("token_type"))? {
            None => vec![Kind::Normal; tokens.len()],
            Some(kinds) => {
                let kinds: Vec<Kind> = kinds.iter().take(tokens.len()).map(|kind| kind_of(&kind)).collect();
                if kinds.len() < tokens.len() {
                    let reason =
                        format!("has types for {} of {} tokens; the file is damaged, download it again", kinds.len(), tokens.len());
                    return Err(wrong(reason));
                }
                kinds
            }
        };
        Ok(Some(Self { metadata, pieces, words: if pieces { None } else { words }, tokens, kinds }))
    }

    /// Which tokens have a role.
    pub fn roles(&self) -> Result<Roles, GgufError> {
        let id = |name: &str, default: Option<u32>| -> Result<Option<u32>, GgufError> {
            let found = self.metadata.count(&format!("{PREFIX}.{name}_token_id"))?;
            // As llama.cpp does, an id beyond the vocabulary is not taken.
            let found = found.and_then(|id| u32::try_from(id).ok()).or(default);
            Ok(found.filter(|&id| (id as usize) < self.tokens.len()))
        };
        let flag = |name: &str| self.metadata.flag(&format!("{PREFIX}.add_{name}_token"));
        // What sentencepiece has where nothing is said.
        let usual = |id| self.pieces.then_some(id);
        let (start, end) = (id("bos", usual(1))?, id("eos", usual(2))?);
        let text = |id: Option<u32>| id.and_then(|id| self.tokens.get(id as usize));
        let stops = [end, id("eot", None)?, id("eom", None)?].into_iter().flatten();
        let by_text = self.tokens.iter().enumerate().filter(|(_, token)| STOPS.contains(&token.as_str())).map(|(id, _)| id as u32);
        let mut stops: Vec<u32> = stops.chain(by_text).collect();
        stops.sort_unstable();
        stops.dedup();
        let image = self.tokens.iter().position(|token| token == "<image>").map(|id| id as u32);
        let roles = Roles {
            start,
            end,
            pad: id("padding", None)?,
            unknown: id("unknown", usual(0))?,
            add_start: flag("bos")?.unwrap_or(self.pieces || self.words.is_some_and(|words| words.start)),
            add_end: flag("eos")?.unwrap_or(false),
            stops,
            image,
        };
        for (wanted, id, what) in [(roles.add_start, start, "bos"), (roles.add_end, end, "eos")] {
            if wanted && text(id).is_none() {
                let key = format!("{PREFIX}.{what}_token_id");
                return Err(GgufError::metadata(
                    &key,
                    "is missing or beyond the vocabulary, and every text needs it; convert the model again",
                ));
            }
        }
        Ok(roles)
    }

    /// The `tokenizer.json`.
    pub fn json(&self) -> Result<String, GgufError> {
        let roles = self.roles()?;
        let mut ids: HashMap<&str, u32> = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token, id as u32) {
                return Err(wrong(format!("has the token {token:?} twice, as {first} and {id}; convert the model again")));
            }
        }
        let (normalizer, words, decoder, model) = if self.pieces { self.sentencepiece(&ids, &roles)? } else { self.bytes(&ids)? };
        let file = File {
            version: "1.0",
            truncation: None,
            padding: None,
            added_tokens: self.added(),
            normalizer,
            pre_tokenizer: words,
            post_processor: self.around(&roles),
            decoder,
            model,
        };
        serde_json::to_string(&file).map_err(|error| wrong(format!("cannot be written: {error}")))
    }

    /// Tokens that are found in a text before it is parted into words.
    fn added(&self) -> Vec<Json> {
        let found = self.tokens.iter().zip(&self.kinds).enumerate().filter(|(_, (_, kind))| **kind != Kind::Normal);
        let added = found.map(|(id, (token, kind))| {
            let special = *kind != Kind::UserDefined;
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
        });
        added.collect()
    }

    /// Start and end.
    fn around(&self, roles: &Roles) -> Json {
        let mut specials = serde_json::Map::new();
        let mut special = |wanted: bool, id: Option<u32>| {
            let token = id.filter(|_| wanted).and_then(|id| Some((id, self.tokens.get(id as usize)?)));
            token.map(|(id, token)| {
                specials.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
                json!({"SpecialToken": {"id": token, "type_id": 0}})
            })
        };
        let (start, end) = (special(roles.add_start, roles.start), special(roles.add_end, roles.end));
        let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
        let single: Vec<Json> = start.into_iter().chain([text("A")]).chain(end).collect();
        json!({"type": "TemplateProcessing", "single": single, "pair": [text("A"), text("B")], "special_tokens": specials})
    }

    /// Byte-level BPE.
    fn bytes(&self, ids: &HashMap<&str, u32>) -> Result<Parts<'_>, GgufError> {
        let key = format!("{PREFIX}.merges");
        let list = self.metadata.need(&key, self.metadata.array(&key))?;
        let mut merges = Vec::new();
        for (number, merge) in strings(list, &key, MAX_MERGES)?.enumerate() {
            let merge = merge?;
            // A pair of tokens; the left one may begin with a space.
            let space = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ').map(|(at, _)| at);
            let pair = space.map(|at| (&merge[..at], &merge[at + 1..]));
            let pair = pair.filter(|(left, right)| [*left, *right, &format!("{left}{right}")].iter().all(|token| ids.contains_key(token)));
            let Some((left, right)) = pair else {
                let reason =
                    format!("has merge {number}, {merge:?}, which is no pair of tokens that make a third; convert the model again");
                return Err(wrong(reason));
            };
            merges.push((left.to_owned(), right.to_owned()));
        }
        let split = |expression: &&str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        let words = self.words.unwrap_or(&WORDS[0]);
        let steps: Vec<Json> = words.expressions.iter().map(split).chain([level.clone()]).collect();
        let model = self.model(merges, None, false, words.whole);
        Ok((Json::Null, json!({"type": "Sequence", "pretokenizers": steps}), level, model))
    }

    /// Sentencepiece.
    fn sentencepiece(&self, ids: &HashMap<&str, u32>, roles: &Roles) -> Result<Parts<'_>, GgufError> {
        let key = format!("{PREFIX}.scores");
        let scores: Vec<f32> = match self.metadata.array(&key)? {
            Some(scores) => scores.iter().take(self.tokens.len()).map(|score| score.number().unwrap_or(f64::NAN) as f32).collect(),
            None => vec![0.0; self.tokens.len()],
        };
        if scores.len() < self.tokens.len() || scores.iter().any(|score| score.is_nan()) {
            return Err(GgufError::metadata(&key, format!("should be {} numbers; convert the model again", self.tokens.len())));
        }
        // Every two pieces that make a third; of equal scores the longer left one first.
        let mut pairs: Vec<(f32, usize, &str, &str)> = Vec::new();
        for (token, score) in self.tokens.iter().zip(&scores).filter(|(token, _)| token.len() <= MAX_PIECE_BYTES) {
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if ids.contains_key(left) && ids.contains_key(right) {
                    pairs.push((*score, at, left, right));
                }
            }
            if pairs.len() > MAX_MERGES {
                return Err(wrong(format!("has pieces that make more than {MAX_MERGES} pairs; no model has as many, download it again")));
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        let merges = pairs.iter().map(|(_, _, left, right)| ((*left).to_owned(), (*right).to_owned())).collect();
        let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        // The space before the first word, and before what follows a special token.
        let space = self.metadata.flag(&format!("{PREFIX}.add_space_prefix"))?.unwrap_or(true);
        let prefix = space.then(|| json!({"type": "Prepend", "prepend": "▁"}));
        let steps: Vec<Json> = prefix.into_iter().chain([replace(" ", "▁")]).collect();
        let mut decoders = vec![replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
        if space {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let unknown = roles.unknown.and_then(|id| self.tokens.get(id as usize)).map(String::as_str);
        let model = self.model(merges, unknown, true, false);
        let normalizer = json!({"type": "Sequence", "normalizers": steps});
        Ok((normalizer, Json::Null, json!({"type": "Sequence", "decoders": decoders}), model))
    }

    fn model<'b>(&'b self, merges: Vec<(String, String)>, unknown: Option<&'b str>, bytes: bool, whole: bool) -> Model<'b> {
        Model {
            kind: "BPE",
            dropout: None,
            unk_token: unknown,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: bytes,
            byte_fallback: bytes,
            ignore_merges: whole,
            vocab: Ids(&self.tokens),
            merges,
        }
    }
}

/// Normalizer, parting into words, decoder, and model.
type Parts<'a> = (Json, Json, Json, Model<'a>);

/// A `tokenizer.json`.
#[derive(Serialize)]
struct File<'a> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<Json>,
    normalizer: Json,
    pre_tokenizer: Json,
    post_processor: Json,
    decoder: Json,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: Option<f32>,
    unk_token: Option<&'a str>,
    continuing_subword_prefix: Option<&'a str>,
    end_of_word_suffix: Option<&'a str>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Ids<'a>,
    merges: Vec<(String, String)>,
}

/// Tokens as a map to their places.
struct Ids<'a>(&'a [String]);

impl Serialize for Ids<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().enumerate().map(|(id, token)| (token, id)))
    }
}

fn wrong(reason: String) -> GgufError {
    GgufError::Tokenizer(reason)
}

/// llama.cpp's types of tokens; those of bytes and those that are unused are found by nothing but the merges.
fn kind_of(kind: &Value) -> Kind {
    match kind.count() {
        Some(2) => Kind::Unknown,
        Some(3) => Kind::Control,
        Some(4) => Kind::UserDefined,
        _ => Kind::Normal,
    }
}

/// An array of strings.
fn strings<'a>(array: &'a Array, key: &'a str, limit: usize) -> Result<impl Iterator<Item = Result<String, GgufError>> + 'a, GgufError> {
    if !array.is_text() && !array.is_empty() {
        return Err(GgufError::metadata(key, "should be strings; convert the model again"));
    }
    if array.len() > limit {
        let reason = format!("has {} strings, and {limit} are the limit; the file is damaged, download it again", array.len());
        return Err(GgufError::metadata(key, reason));
    }
    let text = move |(at, value): (usize, Value)| {
        let broken = || GgufError::metadata(key, format!("has string {at}, which is no UTF-8; convert the model again"));
        value.text().map(str::to_owned).ok_or_else(broken)
    };
    Ok(array.iter().enumerate().map(text))
}
