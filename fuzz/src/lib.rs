//! What is fuzzed: each function takes any bytes at all and must come back.
//!
//! An error is as good as a result; a panic, an endless loop, or memory that a file only claims to need is a defect.

use std::path::Path;

use ocelli_bundle::Bundle;
use ocelli_convert::checkpoint::Checkpoint;
use ocelli_convert::gguf::Gguf;
use ocelli_convert::source::Weights;
use ocelli_flow::FrameMeta;
use ocelli_models::plan::{Declared, Format, TextPlan, TokenizerFacts};
use ocelli_models::registry;
use ocelli_models::text::PromptTokenizer;
use ocelli_models::text::build::TokenizerFiles;
use ocelli_pipeline::picture::decode_bytes;
use ocelli_preprocess::{Recipe, Size};
use serde_json::{Value, json};

/// Takes any bytes and comes back.
type Target = fn(&[u8]);

/// The functions by the names of their seeds' folders.
pub const TARGETS: [(&str, Target); 7] = [
    ("safetensors", safetensors),
    ("pytorch_bin", pytorch_bin),
    ("tokenizer_files", tokenizer_files),
    ("config", config),
    ("bundle", bundle),
    ("picture", picture),
    ("gguf", gguf),
];

/// Opens a file of weights and reads every tensor that is not larger than the file.
fn weights(data: &[u8], name: &str) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join(name);
    if std::fs::write(&path, data).is_err() {
        return;
    }
    let Ok(checkpoint) = Checkpoint::open(&Weights::File(path)) else { return };
    let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
    for tensor in names.iter().filter_map(|name| checkpoint.get(name)) {
        // The importer reads none that does not have the shape it expects.
        let elements = tensor.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if let Some(elements) = elements.filter(|&elements| elements <= data.len())
            && let Ok(loaded) = tensor.load()
        {
            let mut values = Vec::new();
            loaded.append(0..elements, &mut values);
            assert!(values.len() == elements || !tensor.element.is_read());
        }
    }
}

/// The bytes of a safetensors file.
pub fn safetensors(data: &[u8]) {
    weights(data, "model.safetensors");
}

/// The bytes of a PyTorch file.
pub fn pytorch_bin(data: &[u8]) {
    weights(data, "pytorch_model.bin");
}

/// A byte that says which, and the files of a tokenizer: `0` SigLIP's model, `1` Gemma's, `2` vocab.json, a zero byte, merges.txt,
/// `3` tokenizer.json.
pub fn tokenizer_files(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
    let none = TokenizerFiles::default();
    let files = match kind {
        b'0' => TokenizerFiles { sentencepiece: Some(data.to_vec()), config: json!({"tokenizer_class": "SiglipTokenizer"}), ..none },
        b'1' => TokenizerFiles { sentencepiece: Some(data.to_vec()), config: json!({"tokenizer_class": "Siglip2Tokenizer"}), ..none },
        b'2' => {
            let at = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
            let (vocabulary, merges) = data.split_at(at);
            TokenizerFiles { vocabulary: text(vocabulary), merges: text(merges.get(1..).unwrap_or_default()), ..none }
        }
        _ => TokenizerFiles { tokenizer_json: text(data), ..none },
    };
    let plan = TextPlan { max_tokens: Some(16), padded: *kind != b'2', vocabulary: 1 << 16 };
    let Ok(json) = files.build(&plan) else { return };
    let Ok(tokenizer) = PromptTokenizer::from_json(&json, plan.vocabulary, 16) else { return };
    for text in ["a photo of a cat", "Straße 東京 e\u{301} \u{fb01} \u{200b}!?", "<unk></s><|endoftext|> \u{1f431}\u{200d}"] {
        if let Ok(prompt) = tokenizer.encode(text) {
            assert!(prompt.ids.len() <= 16 && prompt.ids.len() == prompt.attended.len());
        }
    }
}

/// A configuration, and an image processor's in the same object.
pub fn config(data: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Value>(data) else { return };
    for format in [Format::Transformers, Format::OpenClip] {
        let declared =
            Declared { tokens: Some(TokenizerFacts { attention_mask: true, ..Default::default() }), ..Declared::new(&config, format) };
        if let Ok(plan) = registry::plan(&declared) {
            assert!(!plan.rows.is_empty() && plan.rows.len() < 1 << 20);
        }
    }
    for recipe in [Recipe::from_processor(&config), Recipe::open_clip(&config, Size::square(224))].into_iter().flatten() {
        assert!(recipe.validate().is_ok());
    }
}

/// The bytes of a bundle.
pub fn bundle(data: &[u8]) {
    let Ok(bundle) = Bundle::from_bytes(data.to_vec().into()) else { return };
    for tensor in bundle.tensors() {
        assert_eq!(tensor.bytes.len(), tensor.elements() * tensor.dtype.size());
    }
    // Whatever it says, it says so.
    let _ = bundle.verify();
}

/// The bytes of a picture.
pub fn picture(data: &[u8]) {
    if let Ok(frame) = decode_bytes(data, Path::new("fuzzed"), FrameMeta::still("fuzzed")) {
        assert_eq!(frame.rgb().len(), 3 * frame.width() as usize * frame.height() as usize);
    }
}

/// The bytes of a GGUF file.
pub fn gguf(data: &[u8]) {
    let Ok(file) = Gguf::from_bytes(&data.to_vec().into()) else { return };
    // Whatever these say, they say so.
    let _ = (file.config(), file.config_with(&file), file.preprocessing(), file.roles(), file.chat_template(), file.about());
    for (name, tensor) in file.tensors() {
        let (stored, rows) = (&tensor.stored, 0..tensor.stored.rows());
        let elements: usize = tensor.shape.iter().product();
        // No type has less than a bit a value.
        assert!(elements == rows.len() * stored.columns() && elements <= 8 * data.len());
        let mut values = vec![0.0; elements];
        assert_eq!(file.rows(name, rows.clone(), &mut values).is_ok(), stored.kind().is_read());
        let Ok(Some(integers)) = file.integers(name, rows) else { continue };
        let same = |(at, value): (usize, &f32)| f32::from(integers.values[at]) * integers.scales[at / 32].to_f32() == *value;
        assert!(values.iter().enumerate().all(same) && integers.pack().is_ok());
    }
    let Ok(Some(json)) = file.tokenizer_json() else { return };
    let Ok(tokenizer) = PromptTokenizer::from_json(&json, 1 << 16, 64) else { return };
    for text in ["a photo of ab cats, 2024", "<image><s>ab Straße\n\n 東京 e\u{301}!?"] {
        let _ = tokenizer.encode(text);
    }
}
