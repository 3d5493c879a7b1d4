//! nano's tokenizer against `tools/reference/tokenizer.py`, which shares no code with it.

use std::fs;

use ocelli_bundle::Bundle;
use ocelli_models::text::Tokenizer;
use serde_json::Value;

use crate::root;

fn tokenizer() -> Tokenizer {
    let bundle = Bundle::open(&root().join("models/nano/nano.ocelli")).unwrap();
    Tokenizer::from_json(bundle.text("tokenizer.json").unwrap()).unwrap()
}

#[test]
fn ids_and_texts_are_those_of_the_reference() {
    let tokenizer = tokenizer();
    let goldens = fs::read_to_string(root().join("tests/goldens/tokenizer.jsonl")).unwrap();
    assert!(goldens.lines().count() >= 20);
    for line in goldens.lines() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let text = golden["text"].as_str().unwrap();
        let ids: Vec<u32> = golden["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), golden["decoded"].as_str().unwrap(), "{text:?}");
    }
}

#[test]
fn what_cannot_be_tokenized_is_refused() {
    let tokenizer = tokenizer();
    for (text, why) in [("", "empty"), (" \t\n", "empty"), ("\u{200b}".repeat(5000).as_str(), "bytes long")] {
        let error = tokenizer.encode(text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
