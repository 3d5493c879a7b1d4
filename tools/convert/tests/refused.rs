use std::fs;
use std::path::Path;

use ocelli_convert::checkpoint::MAX_HEADER_BYTES;
use ocelli_convert::{ImportError, Options, import};
use ocelli_models::table::Storage;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::checkpoints::{Checkpoint, pickle, pytorch_zip, safetensors, with_header};

/// The error of an import that leaves nothing behind.
fn error_of(path: &Path, storage: Storage) -> ImportError {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model.ocelli");
    let error = import(path, &output, &Options { storage, ..Options::default() }, &mut |_, _| {}).expect_err("it should be refused");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind: {error}");
    error
}

/// Asserts that it is refused with these words in one sentence.
fn refused(path: &Path, words: &[&str]) -> ImportError {
    let error = error_of(path, Storage::F32);
    let said = error.to_string();
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!said.contains('\n') && said.len() < 600, "{said}");
    error
}

/// A good folder, with its weights replaced.
fn with_weights(bytes: &[u8]) -> TempDir {
    let folder = tempdir().unwrap();
    Checkpoint::clip().describe(folder.path());
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

fn with_bin(bytes: &[u8]) -> TempDir {
    let folder = tempdir().unwrap();
    Checkpoint::clip().describe(folder.path());
    fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
    folder
}

#[test]
fn half_a_file() {
    let whole = safetensors(&Checkpoint::clip().tensors);
    refused(with_weights(&whole[..whole.len() / 2]).path(), &["model.safetensors", "cut short", "download"]);
    refused(with_weights(&whole[..100]).path(), &["cut short", "header"]);
    refused(with_weights(&whole[..5]).path(), &["5 bytes"]);
    refused(with_weights(b"").path(), &["0 bytes"]);
}

#[test]
fn a_header_that_claims_too_much() {
    for claim in [1u64 << 60, u64::MAX, MAX_HEADER_BYTES + 1] {
        let bytes = [claim.to_le_bytes().as_slice(), b"{}"].concat();
        refused(with_weights(&bytes).path(), &["model.safetensors", &claim.to_string(), &MAX_HEADER_BYTES.to_string()]);
    }
    refused(with_weights(b"version https://git-lfs.github.com/spec/v1\n").path(), &["git lfs pull"]);
}

#[test]
fn a_header_that_lies() {
    let lies = [
        (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}}"#, "w has 16 bytes"),
        (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,1152921504606846976]}}"#, "w ends at byte 1152921504606846976"),
        (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, "begin at byte 8"),
        (r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]}}"#, "w has 16 bytes"),
        (r#"{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, "damaged"),
        (r#"{"w":{"dtype":"F32","shape":[2]}}"#, "data_offsets"),
        (r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, "w twice"),
        ("[1, 2]", "damaged"),
        (r#"{"w""#, "damaged"),
    ];
    for (header, word) in lies {
        refused(with_weights(&with_header(header, &[0; 16])).path(), &["model.safetensors", word]);
    }
    let deep = format!("{{\"w\":{}", "[".repeat(100_000));
    refused(with_weights(&with_header(&deep, &[])).path(), &["damaged"]);
}

#[test]
fn tensors_that_do_not_fit() {
    let good = Checkpoint::clip();
    let changed = |change: &dyn Fn(&mut Checkpoint)| {
        let folder = tempdir().unwrap();
        let mut checkpoint = good.clone();
        change(&mut checkpoint);
        checkpoint.write(folder.path());
        folder
    };
    let name = "vision_model.encoder.layers.1.mlp.fc1.weight";
    let folder = changed(&|checkpoint| drop(checkpoint.tensors.remove(name)));
    let error = refused(folder.path(), &[name, "missing", "config.json"]);
    assert!(matches!(error, ImportError::Tensors { .. }));
    let folder = changed(&|checkpoint| checkpoint.tensors.retain(|name, _| name.starts_with("text_model")));
    refused(folder.path(), &["tensors are missing", "vision_model.embeddings", "more"]);
    let folder = changed(&|checkpoint| checkpoint.tensors.get_mut(name).unwrap().0.reverse());
    refused(folder.path(), &[name, "[40, 80]", "[80, 40]"]);
    let folder = changed(&|checkpoint| checkpoint.config["text_config"]["hidden_size"] = json!(64));
    refused(folder.path(), &["text_model.embeddings.token_embedding.weight", "64"]);
    let folder = changed(&|checkpoint| checkpoint.config["vision_config"]["num_hidden_layers"] = json!(3));
    refused(folder.path(), &["encoder.layers.2", "missing"]);
    // Integers where floats should be.
    let folder = tempdir().unwrap();
    let file = good.write(folder.path());
    let bytes = fs::read(&file).unwrap();
    let at = bytes.windows(3).position(|three| three == b"F32").unwrap();
    let integers = [&bytes[..at], b"I32", &bytes[at + 3..]].concat();
    fs::write(&file, integers).unwrap();
    refused(folder.path(), &["I32", "F64, F32, F16, BF16"]);
}

#[test]
fn weights_that_are_no_numbers() {
    let good = Checkpoint::clip();
    let with = |name: &str, at: usize, value: f32| {
        let folder = tempdir().unwrap();
        let mut checkpoint = good.clone();
        checkpoint.tensors.get_mut(name).unwrap().1[at] = value;
        checkpoint.write(folder.path());
        folder
    };
    let key = "text_model.encoder.layers.1.self_attn.v_proj.weight";
    refused(with(key, 77, f32::NAN).path(), &["model.safetensors", key, "NaN", "index 77"]);
    refused(with("logit_scale", 0, f32::INFINITY).path(), &["logit_scale", "inf", "index 0"]);
    let large = with(key, 5, 1e6);
    let said = error_of(large.path(), Storage::F16).to_string();
    assert!(said.contains(key) && said.contains("--dtype f32") && said.contains("1000000"), "{said}");
    import(large.path(), &tempdir().unwrap().path().join("x.ocelli"), &Options::default(), &mut |_, _| {}).unwrap();
    // A matrix that is turned on its way: the index is that in the file.
    let mut checkpoint = Checkpoint::open_clip();
    checkpoint.tensors.get_mut("visual.proj").unwrap().1[31] = f32::NAN;
    let folder = tempdir().unwrap();
    checkpoint.write(folder.path());
    refused(folder.path(), &["visual.proj", "index 31"]);
}

#[test]
fn classes_and_configurations_that_are_not_read() {
    let folder = tempdir().unwrap();
    let mut checkpoint = Checkpoint::clip();
    checkpoint.config["architectures"] = json!(["BertModel"]);
    checkpoint.write(folder.path());
    refused(folder.path(), &["config.json", "BertModel", "SiglipModel"]);
    checkpoint.config = json!({"architectures": ["CLIPModel"], "vision_config": {"hidden_size": 1u64 << 60}});
    checkpoint.describe(folder.path());
    refused(folder.path(), &["config.json", "width is 1152921504606846976"]);
    for text in ["", "{", "[]", "\"x\"", "\u{feff}{}"] {
        fs::write(folder.path().join("config.json"), text).unwrap();
        refused(folder.path(), &["config.json"]);
    }
    fs::write(folder.path().join("config.json"), "[".repeat(1 << 20)).unwrap();
    refused(folder.path(), &["config.json", "not JSON"]);
}

#[test]
fn folders_without_what_is_needed() {
    let folder = tempdir().unwrap();
    refused(folder.path(), &["config.json", "folder"]);
    refused(&folder.path().join("absent"), &["absent", "No such file"]);
    let checkpoint = Checkpoint::clip();
    checkpoint.describe(folder.path());
    refused(folder.path(), &["no weights", "model.safetensors"]);
    refused(&folder.path().join("config.json"), &["not a file of weights"]);
    let file = checkpoint.write(folder.path());
    let other = tempdir().unwrap();
    fs::copy(&file, other.path().join("model.safetensors")).unwrap();
    refused(&other.path().join("model.safetensors"), &["config.json", "beside"]);
    fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    refused(folder.path(), &["preprocessor_config.json", "missing"]);
    fs::write(folder.path().join("preprocessor_config.json"), r#"{"image_processor_type": "MagicProcessor"}"#).unwrap();
    refused(folder.path(), &["preprocessor_config.json", "MagicProcessor"]);
    checkpoint.describe(folder.path());
    fs::remove_file(folder.path().join("vocab.json")).unwrap();
    fs::remove_file(folder.path().join("merges.txt")).unwrap();
    refused(folder.path(), &["no tokenizer", "tokenizer.json"]);
}

#[test]
fn a_tokenizer_of_another_model() {
    let folder = tempdir().unwrap();
    let mut checkpoint = Checkpoint::clip();
    let (_, values) = checkpoint.tensors.get_mut("text_model.embeddings.token_embedding.weight").unwrap();
    values.truncate(32 * 500);
    checkpoint.tensors.get_mut("text_model.embeddings.token_embedding.weight").unwrap().0 = vec![500, 32];
    checkpoint.config["text_config"]["vocab_size"] = json!(500);
    checkpoint.write(folder.path());
    let error = refused(folder.path(), &["vocab.json", "514", "500 rows", "another model"]);
    assert!(matches!(error, ImportError::ForeignTokenizer { .. }));
    for (text, word) in [("{", "tokenizer.json"), ("{\"version\": \"1.0\"}", "tokenizer.json"), ("\u{0}", "tokenizer.json")] {
        fs::write(folder.path().join("tokenizer.json"), text).unwrap();
        refused(folder.path(), &[word]);
    }
}

#[test]
fn shards_that_are_missing_or_elsewhere() {
    let folder = tempdir().unwrap();
    let checkpoint = Checkpoint::clip();
    checkpoint.describe(folder.path());
    let index = |map: Value| {
        fs::write(folder.path().join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    };
    index(json!({"a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}));
    refused(folder.path(), &["model-00001-of-00002.safetensors", "missing", "2 tensors"]);
    for elsewhere in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ".."] {
        index(json!({ "a": elsewhere }));
        refused(folder.path(), &["index.json", elsewhere]);
    }
    fs::write(folder.path().join("part.safetensors"), safetensors(&checkpoint.tensors)).unwrap();
    index(json!({"not.there": "part.safetensors"}));
    refused(folder.path(), &["not.there", "part.safetensors"]);
    index(json!({"a": 7}));
    refused(folder.path(), &["tensor a"]);
    fs::write(folder.path().join("model.safetensors.index.json"), "{}").unwrap();
    refused(folder.path(), &["weight_map"]);
}

#[test]
fn a_pickle_with_code_in_it() {
    let tensors = Checkpoint::clip().tensors;
    let folder = tempdir().unwrap();
    let trace = folder.path().join("it-ran");
    let shell = [pickle::text(&format!("touch {}", trace.display()))];
    let bombs = [
        pickle::call(&pickle::global("os", "system"), &shell),
        pickle::call(&pickle::global("posix", "system"), &shell),
        pickle::call(&pickle::global("builtins", "eval"), &shell),
        pickle::call(&pickle::global("torch", "load"), &shell),
        pickle::global("os", "system"),
    ];
    for bomb in bombs {
        // Beside the tensors, within a list, and in place of everything.
        let list = [b"](".as_slice(), &bomb, b"e"].concat();
        for hidden in [bomb.clone(), list] {
            let file = with_bin(&pytorch_zip(&tensors, vec![(pickle::text("extra"), hidden)]));
            let error = refused(file.path(), &["pytorch_model.bin", "code"]);
            assert!(matches!(error, ImportError::Weights { .. }));
        }
        refused(with_bin(&pickle::whole(&bomb)).path(), &["pytorch_model.bin"]);
    }
    assert!(!trace.exists(), "nothing was run");
}

#[test]
fn pytorch_files_that_are_none() {
    let whole = pytorch_zip(&Checkpoint::clip().tensors, Vec::new());
    refused(with_bin(&whole[..whole.len() / 2]).path(), &["pytorch_model.bin", "download"]);
    for bytes in [&b""[..], b"x", &[0x80, 2, b'.'], &[0x80, 2, b'N', b'.'], b"PK\x03\x04", &safetensors(&Checkpoint::clip().tensors)] {
        refused(with_bin(bytes).path(), &["pytorch_model.bin"]);
    }
    // A string that claims four gigabytes.
    refused(with_bin(b"\x80\x02X\xff\xff\xff\xff").path(), &["pytorch_model.bin"]);
    // A storage that is shorter than its tensor.
    let mut tensors = Checkpoint::clip().tensors;
    let (_, values) = tensors.get_mut("logit_scale").unwrap();
    values.clear();
    refused(with_bin(&pytorch_zip(&tensors, Vec::new())).path(), &["pytorch_model.bin"]);
}

#[test]
fn the_checkpoint_is_not_overwritten() {
    let folder = tempdir().unwrap();
    let file = Checkpoint::clip().write(folder.path());
    let before = fs::read(&file).unwrap();
    let error = import(folder.path(), &file, &Options::default(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("another name"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);
}
