//! Tokenizers of every kind that is imported, against transformers and sentencepiece (`tools/reference/prompt_tokenizers.py`).

use std::collections::BTreeMap;
use std::fs;

use ocelli_models::plan::TextPlan;
use ocelli_models::text::build::TokenizerFiles;
use ocelli_models::text::{Codec, PromptTokenizer};
use serde_json::{Value, json};

use crate::root;

fn read(name: &str) -> Vec<u8> {
    fs::read(root().join("tests/goldens/prompts").join(name)).unwrap()
}

fn text(name: &str) -> Option<String> {
    Some(String::from_utf8(read(name)).unwrap())
}

/// The files of a tokenizer, and what its model reads.
fn files(kind: &str) -> (TokenizerFiles, TextPlan) {
    let padded = TextPlan { max_tokens: Some(64), padded: true, vocabulary: 1000 };
    let sentencepiece = |class: &str, model: &str| TokenizerFiles {
        sentencepiece: Some(read(model)),
        config: json!({ "tokenizer_class": class, "padding_side": "right" }),
        ..TokenizerFiles::default()
    };
    match kind {
        "siglip_unigram" => (sentencepiece("SiglipTokenizer", "siglip_unigram.model"), padded),
        "siglip_bpe" => (sentencepiece("SiglipTokenizer", "siglip_bpe.model"), padded),
        "gemma" => (sentencepiece("Siglip2Tokenizer", "gemma.model"), padded),
        "clip" => {
            let files =
                TokenizerFiles { vocabulary: text("clip.vocab.json"), merges: text("clip.merges.txt"), ..TokenizerFiles::default() };
            (files, TextPlan { max_tokens: Some(77), padded: false, vocabulary: 1000 })
        }
        other => panic!("no tokenizer {other}"),
    }
}

fn tokenizer(kind: &str) -> PromptTokenizer {
    let (files, plan) = files(kind);
    let json = files.build(&plan).unwrap_or_else(|error| panic!("{kind}: {error}"));
    PromptTokenizer::from_json(&json, plan.vocabulary, plan.max_tokens.unwrap()).unwrap()
}

#[test]
fn ids_are_those_of_the_reference() {
    let mut tokenizers = BTreeMap::new();
    let mut counts = BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    for line in text("cases.jsonl").unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (kind, text) = (case["tokenizer"].as_str().unwrap(), case["text"].as_str().unwrap());
        let tokenizer = tokenizers.entry(kind.to_owned()).or_insert_with(|| tokenizer(kind));
        let ids: Vec<u32> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        *counts.entry(kind.to_owned()).or_default() += 1;
        // A text of spaces is refused rather than tokenized.
        if text.trim().is_empty() {
            continue;
        }
        match tokenizer.encode(text) {
            Ok(prompt) if prompt.ids == ids => {}
            Ok(prompt) => wrong.push(format!("{kind}: {text:?}\n  is  {:?}\n  not {ids:?}", prompt.ids)),
            Err(error) => wrong.push(format!("{kind}: {text:?}: {error}")),
        }
    }
    assert_eq!(counts.len(), 4);
    assert!(counts.values().all(|&count| count > 100), "{counts:?}");
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
}

#[test]
fn padding_is_not_attended_and_falls_where_it_belongs() {
    let prompt = tokenizer("gemma").encode("a cat").unwrap();
    let length = prompt.attended.iter().filter(|&&attended| attended).count();
    assert!(prompt.ids.len() == 64 && length < 10 && prompt.attended[..length].iter().all(|&attended| attended));
    let (mut files, plan) = files("gemma");
    files.config["padding_side"] = Value::Null;
    let left = PromptTokenizer::from_json(&files.build(&plan).unwrap(), 1000, 64).unwrap().encode("a cat").unwrap();
    assert!(!left.attended[0] && left.attended[63], "the class pads on the left unless it is told otherwise");
    assert_eq!(left.ids[64 - length..], prompt.ids[..length]);
}

#[test]
fn a_tokenizer_json_is_taken_with_the_models_length() {
    let (files, plan) = files("clip");
    let whole = files.build(&plan).unwrap();
    let json = TokenizerFiles { tokenizer_json: Some(whole), ..TokenizerFiles::default() };
    let short = json.build(&TextPlan { max_tokens: Some(4), ..plan }).unwrap();
    let ids = PromptTokenizer::from_json(&short, 1000, 4).unwrap().encode("a photo of a cat on a couch").unwrap().ids;
    let all = tokenizer("clip").encode("a photo of a cat on a couch").unwrap().ids;
    assert_eq!((ids.len(), ids[0], ids[3]), (4, all[0], all[all.len() - 1]), "its beginning and its end are kept");
}

#[test]
fn files_that_are_no_tokenizer() {
    let error = |files: TokenizerFiles| {
        let plan = TextPlan { max_tokens: Some(64), padded: true, vocabulary: 1000 };
        files.build(&plan).expect_err("no tokenizer").to_string()
    };
    let (siglip, _) = files("siglip_unigram");
    let model = siglip.sentencepiece.clone().unwrap();
    for bytes in [model[..model.len() / 2].to_vec(), Vec::new(), b"{\"model\": 1}".to_vec(), vec![0xff; 64]] {
        assert!(error(TokenizerFiles { sentencepiece: Some(bytes), ..siglip.clone() }).contains("sentencepiece"));
    }
    let (clip, _) = files("clip");
    let only = TokenizerFiles { merges: None, ..clip.clone() };
    assert!(error(only).contains("merges.txt"));
    assert!(error(TokenizerFiles { vocabulary: Some("[]".into()), ..clip.clone() }).contains("<|endoftext|>"));
    assert!(error(TokenizerFiles { merges: Some("#version\na b c\n".into()), ..clip.clone() }).contains("line 2"));
    let json = TokenizerFiles { tokenizer_json: Some("{".into()), ..TokenizerFiles::default() };
    assert!(error(json).contains("tokenizer.json"));
    let pads = TokenizerFiles { config: json!({"pad_token": "<nothing>"}), ..clip };
    assert!(error(pads).contains("<nothing>"), "padded with what the vocabulary does not have");
    assert!(error(TokenizerFiles::default()).contains("no tokenizer.json"));
}

/// Checkpoints from before there was a tokenizer.json have the same pairs of bytes in two files.
#[test]
fn vocabulary_and_merges_do_what_the_whole_file_does() {
    let texts = [
        "a photo of a cat",
        "A Red BUS, near  the river!",
        "",
        " hey\n\tyou ",
        "caf\u{e9} \u{1f642} 10% it's",
        "a </s> b <|endoftext|> c<mask>",
    ];
    let plan = TextPlan { max_tokens: None, padded: false, vocabulary: 1000 };
    for (checkpoint, special) in [("vit_gpt2", &["<|endoftext|>"][..]), ("deit_trocr", &["<s>", "</s>", "<pad>", "<unk>", "<mask>"])] {
        let read = |name: &str| -> Value {
            let path = root().join("tests/goldens/encoder_decoder").join(checkpoint).join(name);
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
        };
        let whole = read("tokenizer.json");
        let pair = |pair: &Value| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        let merges: Vec<String> = whole["model"]["merges"].as_array().unwrap().iter().map(pair).collect();
        for config in [read("tokenizer_config.json"), Value::Null] {
            let files = TokenizerFiles {
                vocabulary: Some(whole["model"]["vocab"].to_string()),
                merges: Some(format!("#version: 0.2\n{}\n", merges.join("\n"))),
                config,
                ..TokenizerFiles::default()
            };
            let built = Codec::from_json(&files.build(&plan).unwrap(), 1000).unwrap();
            let theirs = Codec::from_json(&whole.to_string(), 1000).unwrap();
            for text in texts {
                for with_special in [false, true] {
                    let ids = theirs.encode(text, with_special).unwrap();
                    assert_eq!(built.encode(text, with_special).unwrap(), ids, "{checkpoint}: {text:?}");
                    assert_eq!(built.decode(&ids).unwrap(), theirs.decode(&ids).unwrap(), "{checkpoint}: {text:?}");
                }
            }
            for token in special {
                assert_eq!(built.decode(&[built.id(token).unwrap()]).unwrap(), "", "{checkpoint}: {token} is special");
            }
        }
    }
}
