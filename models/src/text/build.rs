//! A `tokenizer.json` for a bundle, of whatever files a checkpoint has.
//!
//! | files | what they are |
//! |---|---|
//! | `tokenizer.json` | it is taken as it is |
//! | `vocab.json`, `merges.txt` | byte-pair encoding: CLIP's, GPT-2's, RoBERTa's |
//! | `spiece.model`, `tokenizer.model` | sentencepiece, unigram and BPE |
//!
//! What the checkpoint's processor does besides is put into the file: texts are cut, and padded where the model was trained so. The tokens are
//! those of transformers 5.23, where <https://github.com/huggingface/transformers/tree/v5.23.0/src/transformers/models> has the classes named
//! here.

use serde_json::{Value, json};
use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{AddedToken, NormalizerWrapper, PaddingDirection, PaddingParams, PaddingStrategy, TruncationDirection, TruncationParams};

use super::{sentencepiece, tokenizer_json};
use crate::plan::{TextPlan, TokenizerFacts};

/// Longest file of a tokenizer that is read, in bytes: four times Gemma's.
pub const MAX_TOKENIZER_BYTES: u64 = 1 << 27;

/// The files of a checkpoint's tokenizer.
#[derive(Debug, Clone, Default)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer_json: Option<String>,
    /// `vocab.json`.
    pub vocabulary: Option<String>,
    /// `merges.txt`.
    pub merges: Option<String>,
    /// `spiece.model` or `tokenizer.model`.
    pub sentencepiece: Option<Vec<u8>>,
    /// `tokenizer_config.json`; null where there is none.
    pub config: Value,
    /// `special_tokens_map.json`; null where there is none.
    pub special_tokens: Value,
    /// `model_type` of the model's configuration.
    pub model_type: Option<String>,
}

/// Files that are no tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file that is damaged, or of another kind.
    #[error("{file} {reason}; download it again")]
    Damaged {
        /// Its usual name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Files that do not make a tokenizer.
    #[error("{0}")]
    Incomplete(String),
}

/// The tokenizers that need more than their files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// SigLIP's: texts are made plain before sentencepiece sees them.
    Siglip,
    /// SigLIP 2's: Gemma's, in lower case.
    Siglip2,
    /// Florence-2's: BART's, with tokens for places.
    Florence,
    /// Any other.
    Other,
}

impl TokenizerFiles {
    /// Whether there is a tokenizer at all.
    pub fn is_any(&self) -> bool {
        self.tokenizer_json.is_some() || self.vocabulary.is_some() || self.sentencepiece.is_some()
    }

    /// Whether the processor hands the model an attention mask.
    pub fn attention_mask(&self) -> bool {
        // Every class does unless its configuration says otherwise.
        self.config["model_input_names"].as_array().is_none_or(|names| names.iter().any(|name| name == "attention_mask"))
    }

    /// The `tokenizer.json` of a bundle.
    ///
    /// # Errors
    /// Where the files are no tokenizer, or lack a token that is needed.
    pub fn build(&self, plan: &TextPlan) -> Result<String, BuildError> {
        let class = self.class();
        let made = |json: &Value| parse("the tokenizer", &json.to_string());
        let mut tokenizer = match (&self.tokenizer_json, &self.sentencepiece, &self.vocabulary, &self.merges) {
            // transformers reads this class's spiece.model even where there is a tokenizer.json.
            (_, Some(model), ..) if class == Class::Siglip => made(&sentencepiece::siglip(model, &self.sentencepiece_facts())?)?,
            (Some(json), ..) => parse("tokenizer.json", json)?,
            (None, Some(model), ..) => made(&sentencepiece::gemma(model, &self.sentencepiece_facts())?)?,
            (None, None, Some(vocabulary), Some(merges)) => made(&self.byte_pairs(vocabulary, merges)?)?,
            (None, None, Some(_), None) => return Err(BuildError::Incomplete("vocab.json without merges.txt; download that, too".into())),
            _ => return Err(BuildError::Incomplete("no tokenizer.json, vocab.json or spiece.model".into())),
        };
        if class != Class::Siglip {
            // As transformers has it, a special token is found in a text before anything else is done with it: with OWL-ViT, whose padding
            // is an exclamation mark, every one in a phrase.
            let roles = ["bos_token", "eos_token", "unk_token", "pad_token"];
            let known = roles.iter().filter_map(|role| self.special(role)).filter(|token| tokenizer.token_to_id(token).is_some());
            let special: Vec<AddedToken> = known.map(|token| AddedToken::from(token, true)).collect();
            tokenizer.add_special_tokens(special).map_err(|error| BuildError::Incomplete(error.to_string()))?;
        }
        if class == Class::Florence && tokenizer.token_to_id("<loc_0>").is_none() {
            // Microsoft's repositories have BART's tokenizer, to which their processor adds these.
            let added: Vec<AddedToken> = florence_tokens().map(|token| AddedToken::from(token, true)).collect();
            tokenizer.add_special_tokens(added).map_err(|error| BuildError::Incomplete(error.to_string()))?;
        }
        if class == Class::Siglip2 && !is_lowered(tokenizer.get_normalizer()) {
            let mut steps = vec![NormalizerWrapper::Lowercase(Lowercase)];
            steps.extend(tokenizer.get_normalizer().cloned());
            let lowered = NormalizerWrapper::Sequence(Sequence::new(steps));
            tokenizer.with_normalizer(Some(lowered)).map_err(|error| BuildError::Incomplete(error.to_string()))?;
        }
        let cut = plan.max_tokens.map(|max_length| TruncationParams {
            max_length,
            direction: TruncationDirection::Right,
            ..TruncationParams::default()
        });
        let wrong = |reason: String| BuildError::Incomplete(reason);
        tokenizer.with_truncation(cut).map_err(|error| wrong(format!("texts cannot be cut to {:?}: {error}", plan.max_tokens)))?;
        let padding = if let (true, Some(length)) = (plan.padded, plan.max_tokens) {
            let token = self.special("pad_token").unwrap_or_else(|| if class == Class::Siglip { "</s>" } else { "<pad>" }.to_owned());
            let id = tokenizer
                .token_to_id(&token)
                .ok_or_else(|| wrong(format!("the vocabulary has no {token:?}, with which texts are padded")))?;
            let left = self.config["padding_side"].as_str().map_or(class == Class::Siglip2, |side| side == "left");
            Some(PaddingParams {
                strategy: PaddingStrategy::Fixed(length),
                direction: if left { PaddingDirection::Left } else { PaddingDirection::Right },
                pad_id: id,
                pad_token: token,
                ..PaddingParams::default()
            })
        } else {
            None
        };
        tokenizer.with_padding(padding);
        tokenizer.to_string(false).map_err(|error| wrong(error.to_string()))
    }

    /// What a model must know of it.
    pub fn facts(&self) -> TokenizerFacts {
        TokenizerFacts { attention_mask: self.attention_mask(), start: self.special("bos_token"), end: self.special("eos_token") }
    }

    fn class(&self) -> Class {
        let named = self.config["tokenizer_class"].as_str().map(|name| name.trim_end_matches("Fast"));
        match (named, self.model_type.as_deref()) {
            (Some("SiglipTokenizer"), _) => Class::Siglip,
            (Some("Siglip2Tokenizer"), _) => Class::Siglip2,
            // transformers puts the class right here, whatever its configuration says.
            (_, Some("siglip2")) => Class::Siglip2,
            (None, Some("siglip")) => Class::Siglip,
            (_, Some("florence2")) => Class::Florence,
            _ => Class::Other,
        }
    }

    /// A special token by its role.
    fn special(&self, role: &str) -> Option<String> {
        let token = |tokens: &Value| {
            let token = tokens.get(role)?;
            token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
        };
        token(&self.config).or_else(|| token(&self.special_tokens))
    }

    fn sentencepiece_facts(&self) -> sentencepiece::Facts {
        let flag = |name: &str, default: bool| self.config[name].as_bool().unwrap_or(default);
        sentencepiece::Facts {
            lower: flag("do_lower_case", true),
            start: flag("add_bos_token", false).then(|| self.special("bos_token").unwrap_or_else(|| "<bos>".to_owned())),
            end: flag("add_eos_token", true).then(|| self.special("eos_token")),
            unknown: self.special("unk_token").unwrap_or_else(|| "<unk>".to_owned()),
            pad: self.special("pad_token"),
        }
    }

    /// A byte-pair encoding, whose tokens say whose it is.
    fn byte_pairs(&self, vocabulary: &str, merges: &str) -> Result<Value, BuildError> {
        let damaged = |file, reason: String| BuildError::Damaged { file, reason };
        let vocabulary: Value =
            serde_json::from_str(vocabulary).map_err(|error| damaged("vocab.json", format!("cannot be read: {error}")))?;
        let lines = merges.lines().enumerate().filter(|(i, line)| !line.trim().is_empty() && (*i > 0 || !line.starts_with("#version")));
        let pairs: Result<Vec<Value>, BuildError> = lines
            .map(|(i, line)| match line.trim().split(' ').collect::<Vec<_>>()[..] {
                [left, right] => Ok(json!([left, right])),
                _ => Err(damaged("merges.txt", format!("has no pair of tokens in line {}", i + 1))),
            })
            .collect();
        let made = if vocabulary["<|startoftext|>"].is_u64() {
            clip(vocabulary, pairs?)
        } else if vocabulary["</s>"].is_u64() {
            self.roberta(vocabulary, pairs?)
        } else {
            self.gpt2(vocabulary, pairs?)
        };
        made.map_err(|token| damaged("vocab.json", format!("has no {token}, and so is neither CLIP's, nor RoBERTa's, nor GPT-2's")))
    }

    /// RoBERTa's and BART's tokenizer, as transformers' `RobertaTokenizer` puts it together.
    fn roberta(&self, vocabulary: Value, merges: Vec<Value>) -> Made {
        let token = |role: &str, usual: &str| self.special(role).unwrap_or_else(|| usual.to_owned());
        let (start, end) = (token("cls_token", "<s>"), token("sep_token", "</s>"));
        let special = [start.clone(), token("pad_token", "<pad>"), end.clone(), token("unk_token", "<unk>"), token("mask_token", "<mask>")];
        let ends = |token: String| id(&vocabulary, &token).map(|id| json!([token, id]));
        let around = json!({
            "type": "RobertaProcessing", "sep": ends(end)?, "cls": ends(start)?, "trim_offsets": true, "add_prefix_space": self.prefix_space(),
        });
        self.byte_level(vocabulary, merges, &special, around)
    }

    /// GPT-2's, as transformers' `GPT2Tokenizer` puts it together.
    fn gpt2(&self, vocabulary: Value, merges: Vec<Value>) -> Made {
        self.byte_level(vocabulary, merges, &["<|endoftext|>".to_owned()], Value::Null)
    }

    /// Pairs of bytes, a word with the blank before it; `around` puts tokens around texts.
    fn byte_level(&self, vocabulary: Value, merges: Vec<Value>, special: &[String], around: Value) -> Made {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": self.prefix_space(), "trim_offsets": true, "use_regex": true});
        let special: Result<Vec<Value>, String> = special.iter().map(|token| added(&vocabulary, token)).collect();
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": special?,
            "normalizer": null,
            "pre_tokenizer": bytes,
            "post_processor": around,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges,
            },
        }))
    }

    fn prefix_space(&self) -> bool {
        self.config["add_prefix_space"].as_bool().unwrap_or(false)
    }
}

/// A `tokenizer.json`, or the token that the vocabulary lacks.
type Made = Result<Value, String>;

fn id(vocabulary: &Value, token: &str) -> Result<u64, String> {
    vocabulary[token].as_u64().ok_or_else(|| token.to_owned())
}

/// A special token of a `tokenizer.json`.
fn added(vocabulary: &Value, token: &str) -> Made {
    let mut added = json!({"id": id(vocabulary, token)?, "content": token, "special": true});
    for flag in ["single_word", "lstrip", "rstrip", "normalized"] {
        added[flag] = Value::Bool(false);
    }
    Ok(added)
}

/// CLIP's tokenizer, as transformers' `CLIPTokenizer` puts it together.
fn clip(vocabulary: Value, merges: Vec<Value>) -> Made {
    let (start, end) = ("<|startoftext|>", "<|endoftext|>");
    let (start_id, end_id) = (id(&vocabulary, start)?, id(&vocabulary, end)?);
    let special = [added(&vocabulary, start)?, added(&vocabulary, end)?];
    let words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {
            "type": "RobertaProcessing", "sep": [end, end_id], "cls": [start, start_id], "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": end, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges,
        },
    }))
}

fn parse(file: &'static str, json: &str) -> Result<tokenizers::Tokenizer, BuildError> {
    let damaged = |reason: String| BuildError::Damaged { file, reason: format!("cannot be read: {reason}") };
    tokenizer_json::read(json).map(|read| read.tokenizer).map_err(damaged)
}

/// The tokens that Florence-2's processor adds, in its order; the spelling of `region_to_desciption` is its own.
fn florence_tokens() -> impl Iterator<Item = String> {
    let pair = |name: &str| [format!("<{name}>"), format!("</{name}>")];
    let places = (0..1000).map(|place| format!("<loc_{place}>"));
    let before = ["od", "ocr"].into_iter().flat_map(pair);
    let kinds = ["cap", "ncap", "dcap", "grounding", "seg"].into_iter().flat_map(pair);
    let more = ["region_cap", "region_to_desciption", "proposal", "poly"].into_iter().flat_map(pair);
    before.chain(places).chain(kinds).chain(["<sep>".to_owned()]).chain(more).chain(["<and>".to_owned()])
}

/// Whether a normalizer makes texts lower case.
fn is_lowered(normalizer: Option<&NormalizerWrapper>) -> bool {
    match normalizer {
        Some(NormalizerWrapper::Lowercase(_)) => true,
        Some(NormalizerWrapper::Sequence(steps)) => steps.as_ref().iter().any(|step| is_lowered(Some(step))),
        _ => false,
    }
}
