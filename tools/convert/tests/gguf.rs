use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use ocelli_convert::ImportError;
use ocelli_convert::checkpoint::{Checkpoint, Element};
use ocelli_convert::gguf::architecture::Content;
use ocelli_convert::gguf::blocks::Integers;
use ocelli_convert::gguf::value::Value as Stored;
use ocelli_convert::gguf::{Gguf, GgufError};
use ocelli_convert::source::Weights;
use ocelli_models::text::PromptTokenizer;
use ocelli_ops::GroupBits;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::tempdir;

use crate::gguf_file::{self, File, Tensor, array, f32, flag, i32s, llama, projector, string, text, texts, u32};

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/goldens/gguf", name].iter().collect()
}

fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn open(name: &str) -> Gguf {
    Gguf::open(&golden(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn read(file: &File) -> Result<Gguf, GgufError> {
    Gguf::from_bytes(&Bytes::from(file.bytes()))
}

fn floats(file: &Gguf, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    let mut values = vec![f32::NAN; tensor.shape.iter().product()];
    file.rows(name, 0..tensor.stored.rows(), &mut values).unwrap();
    values
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_type_as_the_gguf_package_has_it() {
    let file = open("types.gguf");
    assert_eq!(file.content(), Content::Other);
    let expected = fs::read(golden("types.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    assert_eq!(file.tensors().len(), 13);
    for (name, wanted) in expected.tensors() {
        let wanted: Vec<f32> = wanted.data().as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        assert_eq!(bits(&floats(&file, &name)), bits(&wanted), "{name}");
    }
}

/// What is packed for the kernels means the same floats, to the bit.
#[test]
fn integers_lose_nothing() {
    let file = open("types.gguf");
    for (name, tensor) in file.tensors() {
        let rows = tensor.stored.rows();
        let integers = file.integers(name, 0..rows).unwrap();
        if !["Q4_0", "Q5_0", "Q8_0"].contains(&name) {
            assert!(integers.is_none(), "{name}");
            continue;
        }
        let packed = integers.unwrap().pack().unwrap();
        let view = packed.view();
        let wanted = floats(&file, name);
        for (at, wanted) in wanted.iter().enumerate() {
            let (row, column) = (at / tensor.stored.columns(), at % tensor.stored.columns());
            let found = f32::from(view.value(row, column)) * view.scale(row, column).to_f32();
            assert_eq!(found.to_bits(), wanted.to_bits(), "{name} at {row}, {column}");
        }
        let twice = Integers::joined(vec![integers_of(&file, "Q4_0"), integers_of(&file, name)]).unwrap();
        let bits = if name == "Q4_0" { GroupBits::Int4 } else { GroupBits::Int8 };
        assert_eq!((twice.bits, twice.rows, &twice.values[192..]), (bits, 6, integers_of(&file, name).values.as_slice()));
        // Of some rows alone.
        let last = file.integers(name, rows - 1..rows).unwrap().unwrap();
        assert_eq!((last.rows, last.values.len(), last.scales.len()), (1, 64, 2));
    }
}

fn integers_of(file: &Gguf, name: &str) -> Integers {
    file.integers(name, 0..file.tensor(name).unwrap().stored.rows()).unwrap().unwrap()
}

#[test]
fn a_block_that_the_kernels_cannot_hold_is_left_to_the_floats() {
    for (scale, value, exact) in [(0x3800u16, 127u8, true), (0x3800, 128, false), (0x7c00, 1, false), (0x7e00, 1, false)] {
        let tensor = Tensor { name: "w".into(), sides: vec![32, 1], kind: 8, offset: 0 };
        let data = [scale.to_le_bytes().as_slice(), &[value; 32]].concat();
        let file = File { tensors: vec![tensor], data, ..File::default() };
        let file = read(&file).unwrap();
        assert_eq!(file.integers("w", 0..1).unwrap().is_some(), exact, "{scale:x} {value}");
        assert_eq!(floats(&file, "w").len(), 32);
    }
}

/// Compares the tensors with their digests in a golden, and each row read alone with all of them.
fn compare(file: &Gguf, expected: &Value) {
    let expected = expected["tensors"].as_object().unwrap();
    assert_eq!(file.tensors().map(|(name, _)| name).collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(json!(tensor.shape), expected["shape"], "{name}");
        let values = floats(file, name);
        let digest = Sha256::digest(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(expected["sha256"], hex, "{name}: {:?} where {} is right", &values[..3], expected["first"]);
        let columns = tensor.stored.columns();
        for (row, wanted) in values.chunks(columns).enumerate() {
            let mut alone = vec![0.0; columns];
            file.rows(name, row..row + 1, &mut alone).unwrap();
            assert_eq!(alone, wanted, "{name}: row {row}");
            if let Some(integers) = file.integers(name, row..row + 1).unwrap() {
                let float = |at: usize| f32::from(integers.values[at]) * integers.scales[at / 32].to_f32();
                assert_eq!((0..columns).map(float).collect::<Vec<_>>(), wanted, "{name}: row {row}");
            }
        }
    }
}

#[test]
fn a_language_model_as_transformers_has_it() {
    let (file, expected) = (open("llama.gguf"), golden_json("llama.json"));
    assert_eq!(file.content(), Content::Language);
    let config = file.config().unwrap();
    for (key, wanted) in expected["config"].as_object().unwrap() {
        assert_eq!(&config[key], wanted, "{key}");
    }
    assert_eq!(config["rope_theta"].as_f64(), expected["rope_theta"].as_f64());
    assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
    assert!(config.get("rope_scaling").is_none());
    compare(&file, &expected);
    assert!(file.integers("model.layers.1.self_attn.q_proj.weight", 0..32).unwrap().is_some());
    assert_eq!(file.chat_template().unwrap(), expected["chat_template"].as_str());
    let about = file.about();
    assert_eq!((about.name.as_str(), about.licence.as_str(), about.origin.as_str()), ("Random Llama", "apache-2.0", ""));
    assert_eq!(file.preprocessing().unwrap(), Value::Null);
}

#[test]
fn a_projector_as_transformers_has_it() {
    let (file, expected) = (open("projector.gguf"), golden_json("projector.json"));
    assert_eq!(file.content(), Content::Projector);
    let config = file.config().unwrap();
    for (key, wanted) in expected["vision_config"].as_object().unwrap() {
        assert_eq!(&config["vision_config"][key], wanted, "{key}");
    }
    assert_eq!((&config["scale_factor"], &config["text_config"]["hidden_size"]), (&expected["scale_factor"], &expected["text_width"]));
    compare(&file, &expected);
    let pictures = file.preprocessing().unwrap();
    assert_eq!((&pictures["size"], &pictures["max_image_size"]), (&json!({"longest_edge": 32}), &json!({"longest_edge": 16})));
    assert_eq!(pictures["image_mean"], json!([0.5, 0.5, 0.5]));
    assert!(file.tokenizer_json().unwrap().is_none() && file.roles().unwrap().is_none());
}

#[test]
fn both_files_as_one_model() {
    let (language, projector) = (open("llama.gguf"), open("projector.gguf"));
    let config = language.config_with(&projector).unwrap();
    assert_eq!(config["architectures"], json!(["Idefics3ForConditionalGeneration"]));
    assert_eq!((&config["text_config"]["num_hidden_layers"], &config["vision_config"]["num_hidden_layers"]), (&json!(2), &json!(2)));
    assert_eq!((&config["image_token_id"], &config["tie_word_embeddings"]), (&json!(3), &json!(true)));
    let checkpoint = Checkpoint::open_pair(&golden("llama.gguf"), &golden("projector.gguf")).unwrap();
    for name in
        ["model.text_model.layers.0.mlp.up_proj.weight", "model.text_model.embed_tokens.weight", "model.vision_model.post_layernorm.bias"]
    {
        assert!(checkpoint.get(name).is_some(), "{name}");
    }
    assert_eq!(checkpoint.names().len(), language.tensors().len() + projector.tensors().len());
    assert_eq!(checkpoint.files.len(), 2);
    // The wrong way round, and two that do not belong together.
    assert!(projector.config_with(&language).unwrap_err().to_string().contains("first"));
    assert!(language.config_with(&language).unwrap_err().to_string().contains("mmproj"));
    let other = read(&gguf_file::projector().with("clip.vision.projection_dim", u32(64))).unwrap();
    assert!(language.config_with(&other).unwrap_err().to_string().contains("width 64, and this one has 32"));
    assert!(Checkpoint::open_pair(&golden("llama.gguf"), &golden("llama.gguf")).unwrap_err().to_string().contains("mmproj"));
}

#[test]
fn as_a_checkpoint() {
    let (file, checkpoint) = (open("llama.gguf"), Checkpoint::open(&Weights::File(golden("llama.gguf"))).unwrap());
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), file.tensors().map(|(name, _)| name).collect::<Vec<_>>());
    let name = "model.layers.0.self_attn.q_proj.weight";
    let tensor = checkpoint.get(name).unwrap();
    assert!(tensor.element.is_read() && matches!(tensor.element, Element::Blocks(kind) if kind.name == "Q4_0"));
    assert_eq!(checkpoint.get("model.norm.weight").unwrap().element, Element::F32);
    let loaded = tensor.load().unwrap();
    let mut values = Vec::new();
    loaded.append(64..1024, &mut values);
    assert_eq!(values, floats(&file, name)[64..]);
    let integers = loaded.integers(64..128).unwrap();
    assert_eq!(integers, file.integers(name, 2..4).unwrap().unwrap());
    assert!(loaded.integers(64..100).is_none(), "no whole rows");
    assert!(checkpoint.get("model.norm.weight").unwrap().load().unwrap().integers(0..32).is_none());
}

#[test]
fn texts_become_the_ids_that_llama_cpp_makes_of_them() {
    let cases = fs::read_to_string(golden("ids.jsonl")).unwrap();
    let mut files: std::collections::BTreeMap<String, (PromptTokenizer, usize)> = Default::default();
    let mut wrong = Vec::new();
    for case in cases.lines() {
        let case: Value = serde_json::from_str(case).unwrap();
        let name = case["file"].as_str().unwrap();
        let (tokenizer, count) = files.entry(name.to_owned()).or_insert_with(|| {
            let json = open(name).tokenizer_json().unwrap().unwrap();
            (PromptTokenizer::from_json(&json, 1 << 16, 4096).unwrap_or_else(|error| panic!("{name}: {error}")), 0)
        });
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text).unwrap().ids;
        if json!(ids) != case["ids"] {
            wrong.push(format!("{name}: {text:?}\n  {ids:?}\n  {}", case["ids"]));
        }
        *count += 1;
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert_eq!(files.len(), 7);
    assert!(files.values().all(|(_, count)| *count > 40));
}

#[test]
fn roles_of_tokens() {
    let roles = open("words-smollm.gguf").roles().unwrap().unwrap();
    assert_eq!((roles.start, roles.end, roles.pad, roles.image), (Some(1), Some(2), Some(2), Some(3)));
    assert_eq!((roles.add_start, roles.add_end, roles.stops), (false, false, vec![0, 2]));
    assert!(open("words-llama-bpe.gguf").roles().unwrap().unwrap().add_start);
    let roles = open("pieces.gguf").roles().unwrap().unwrap();
    assert_eq!((roles.start, roles.end, roles.pad, roles.unknown, roles.add_start), (Some(2), Some(1), Some(0), Some(3), true));
}

/// Asserts that it is refused with these words in one sentence.
fn refused(bytes: &[u8], words: &[&str]) -> GgufError {
    let error = Gguf::from_bytes(&Bytes::copy_from_slice(bytes)).expect_err("it should be refused");
    said(&error, words);
    error
}

fn said(error: &GgufError, words: &[&str]) {
    let said = error.to_string();
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!said.contains('\n') && said.len() < 600, "{said}");
}

fn weight(sides: &[u64], kind: u32, offset: u64) -> File {
    let tensor = Tensor { name: "w".into(), sides: sides.to_vec(), kind, offset };
    File { tensors: vec![tensor], data: vec![0; 256], ..File::default() }
}

#[test]
fn files_of_other_kinds() {
    for (bytes, word) in
        [(&b""[..], "0 bytes"), (b"GGU", "3 bytes"), (b"PK\x03\x04....", "letters GGUF"), (b"lmgg\x01\0\0\0", "before GGUF")]
    {
        assert!(matches!(refused(bytes, &["not a GGUF file", word]), GgufError::Foreign(_)));
    }
    refused(b"version https://git-lfs.github.com/spec/v1\n", &["git lfs pull"]);
    let versioned = |version| File { version, ..File::default() }.bytes();
    for version in [0, 1, 4, 77] {
        assert_eq!(refused(&versioned(version), &[&version.to_string(), "2 and 3"]), GgufError::Version { version });
    }
    assert!(matches!(refused(&versioned(3u32.swap_bytes()), &["big-endian"]), GgufError::BigEndian { .. }));
    assert!(Gguf::from_bytes(&versioned(2).into()).is_ok());
    let folder = tempdir().unwrap();
    assert!(matches!(Gguf::open(folder.path()).unwrap_err(), ImportError::Io { .. }));
    let path = folder.path().join("x.gguf");
    assert!(matches!(Gguf::open(&path).unwrap_err(), ImportError::Io { .. }));
    fs::write(&path, b"").unwrap();
    let error = Checkpoint::open(&Weights::File(path)).unwrap_err();
    assert!(error.to_string().contains("x.gguf: not a GGUF file: it has 0 bytes"), "{error}");
}

#[test]
fn half_a_file() {
    let whole = fs::read(golden("llama.gguf")).unwrap();
    for length in 0..whole.len() {
        // Every length within the header, and a few of the data's.
        if length < 12_000 || length % 997 == 0 {
            assert!(Gguf::from_bytes(&Bytes::copy_from_slice(&whole[..length])).is_err(), "{length}");
        }
    }
    let error = refused(&whole[..whole.len() - 100], &["cut short: tensor", "download"]);
    assert!(matches!(error, GgufError::CutShort { .. }));
}

#[test]
fn counts_and_lengths_that_are_too_large() {
    let with = |tensors: u64, keys: u64| [b"GGUF".as_slice(), &3u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat();
    let error = refused(&with(1 << 60, 0), &["1152921504606846976 tensors", "byte 8"]);
    assert_eq!(error, GgufError::TooMany { what: "tensors", at: 8, count: 1 << 60, limit: 1 << 16 });
    refused(&with(0, u64::MAX), &["18446744073709551615 keys", "byte 16"]);
    refused(&with(60_000, 0), &["cut short: tensors", "1440000 bytes", "8 follow"]);
    refused(&with(0, 60_000), &["cut short: keys", "780000 bytes"]);
    // Strings, in keys and values.
    let key = |length: u64| [with(0, 1).as_slice(), &length.to_le_bytes(), &[b'k'; 40]].concat();
    refused(&key(1 << 63), &["cut short: key 0", "byte 32", "9223372036854775808", "40 follow"]);
    refused(&key(u64::MAX), &["18446744073709551615"]);
    refused(&key(0), &["key 0", "0 bytes"]);
    let value = |kind: u32, bytes: &[u8]| File::default().with("key", gguf_file::Value(kind, bytes.to_vec())).bytes();
    refused(&value(8, &(1u64 << 63).to_le_bytes()), &["cut short: the value of key", "9223372036854775808"]);
    refused(&value(13, &[0; 8]), &["the value of key", "type 13", "0 to 12"]);
    refused(&value(7, &[2]), &["the value of key", "is 2"]);
    // Arrays: of numbers, of strings, of arrays.
    let claim = |kind: u32, count: u64| value(9, &[kind.to_le_bytes().as_slice(), &count.to_le_bytes(), &[0; 24]].concat());
    for (kind, count) in [(0, 1 << 62), (10, 1 << 62), (12, u64::MAX), (8, 1 << 62), (9, 1 << 62), (8, 1000), (9, 1000), (4, 1000)] {
        assert!(matches!(refused(&claim(kind, count), &["cut short: the value of key"]), GgufError::CutShort { .. }));
    }
    refused(&claim(99, 1), &["type 99"]);
    let mut deep = array(4, &[]);
    for _ in 0..6 {
        deep = array(9, &[deep.1]);
    }
    refused(&File::default().with("key", deep).bytes(), &["arrays within arrays", "4 deep"]);
}

#[test]
fn arrays_of_everything() {
    let nested = array(9, &[i32s([1, -2]).1, i32s([]).1, texts(["x"]).1]);
    let file = File::default().with("nested", nested).with("flags", array(7, &[vec![1], vec![0]])).with("words", texts(["", "a b"]));
    let file = read(&file).unwrap();
    let metadata = file.metadata();
    let nested = metadata.array("nested").unwrap().unwrap();
    let lengths: Vec<usize> = nested.iter().map(|value| if let Stored::Array(array) = value { array.iter().count() } else { 99 }).collect();
    assert_eq!(lengths, [2, 0, 1]);
    let words = metadata.array("words").unwrap().unwrap();
    assert_eq!(words.iter().map(|word| word.text().unwrap().to_owned()).collect::<Vec<_>>(), ["", "a b"]);
    assert_eq!(metadata.array("flags").unwrap().unwrap().len(), 2);
    said(&metadata.text("flags").unwrap_err(), &["flags is an array", "a string"]);
    said(&metadata.count("words").unwrap_err(), &["words is an array", "an integer"]);
    assert_eq!(metadata.count("none"), Ok(None));
}

#[test]
fn keys_and_tensors_that_are_there_twice() {
    let mut file = File::default().with("key", u32(1));
    file.metadata.push(file.metadata[0].clone());
    refused(&file.bytes(), &["key key", "twice"]);
    let mut file = File::default().floats("w", &[2], [1.0, 2.0]).floats("w", &[2], [1.0, 2.0]);
    refused(&file.bytes(), &["tensor w", "twice"]);
    file.tensors[1].name = "v".into();
    assert!(read(&file).is_ok());
    file.tensors[1].offset = 0;
    refused(&file.bytes(), &["tensor v", "lies on tensor w"]);
    // Two names in the file for one of transformers'.
    let file = llama().floats("output_norm.weight", &[8], [1.0; 8]).floats("model.norm.weight", &[8], [1.0; 8]);
    refused(&file.bytes(), &["model.norm.weight", "output_norm.weight", "another name"]);
}

#[test]
fn tensors_that_cannot_be() {
    let error = refused(&weight(&[1 << 32, 1 << 32, 4], 0, 0).bytes(), &["tensor w", "byte 24", "4 x 4294967296 x 4294967296"]);
    assert!(matches!(error, GgufError::Tensor { at: 24, .. }));
    refused(&weight(&[1 << 62, 2], 0, 0).bytes(), &["tensor w", "2 x 4611686018427387904"]);
    refused(&weight(&[0, 4], 0, 0).bytes(), &["tensor w", "4 x 0"]);
    refused(&weight(&[2; 5], 0, 0).bytes(), &["tensor w", "5 axes"]);
    refused(&weight(&[48], 8, 0).bytes(), &["tensor w", "rows of 48 values", "blocks of 32 (Q8_0)"]);
    refused(&weight(&[32], 12, 0).bytes(), &["tensor w", "blocks of 256 (Q4_K)"]);
    for number in [4, 5, 31, 36, 99, u32::MAX] {
        let error = refused(&weight(&[32], number, 0).bytes(), &["tensor w", &number.to_string(), "unknown", "Q4_K"]);
        assert!(matches!(error, GgufError::Type { .. }));
    }
    refused(&weight(&[4], 0, 8).bytes(), &["tensor w", "byte 8 of the data", "multiple of 32"]);
    refused(&weight(&[4], 0, 256).bytes(), &["cut short: tensor w", "16 bytes", "0 follow"]);
    refused(&weight(&[65], 0, 0).bytes(), &["cut short: tensor w", "260 bytes", "256 follow"]);
    refused(&weight(&[4], 0, 1 << 60).bytes(), &["cut short: tensor w"]);
    refused(&weight(&[4], 0, 0u64.wrapping_sub(32)).bytes(), &["cut short: tensor w"]);
    // A scalar is one value.
    assert_eq!(floats(&read(&weight(&[], 0, 0)).unwrap(), "w"), [0.0]);
    for (alignment, good) in [(0, false), (3, false), (24, false), (8, true), (64, true), (1 << 30, false)] {
        let mut file = weight(&[4], 0, 0).with("general.alignment", u32(alignment));
        file.alignment = alignment as usize;
        if good {
            assert!(read(&file).is_ok(), "{alignment}");
        } else {
            file.alignment = 32;
            refused(&file.bytes(), &["general.alignment", &alignment.to_string(), "power of two"]);
        }
    }
    refused(&weight(&[4], 0, 0).with("general.alignment", text("32")).bytes(), &["general.alignment", "a string"]);
}

#[test]
fn types_that_are_known_and_not_read() {
    // IQ4_NL: it may lie in a file that is good for the rest.
    let file = read(&weight(&[32], 20, 0)).unwrap();
    let mut values = [0.0; 32];
    said(&file.rows("w", 0..1, &mut values).unwrap_err(), &["tensor w", "IQ4_NL", "Q8_0"]);
    assert!(file.integers("w", 0..1).is_err());
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, weight(&[32], 20, 0).bytes()).unwrap();
    let checkpoint = Checkpoint::open(&Weights::File(path)).unwrap();
    assert_eq!(checkpoint.get("w").unwrap().element, Element::Other("IQ4_NL".into()));
}

#[test]
fn rows_that_are_not_there() {
    let file = read(&File::default().floats("w", &[3, 2], (0..6).map(|i| i as f32))).unwrap();
    let mut two = [0.0; 2];
    assert!(file.rows("w", 2..3, &mut two).is_ok());
    assert_eq!(two, [4.0, 5.0]);
    said(&file.rows("w", 3..4, &mut two).unwrap_err(), &["tensor w has 3 rows", "3 to 4"]);
    said(&file.rows("w", 0..2, &mut two).unwrap_err(), &["4 values", "room for 2"]);
    said(&file.rows("v", 0..1, &mut two).unwrap_err(), &["tensor v is missing"]);
    #[allow(clippy::reversed_empty_ranges, reason = "what a wrong caller may ask for")]
    let error = file.rows("w", 2..1, &mut two).unwrap_err();
    said(&error, &["2 to 1"]);
    assert!(file.integers("w", 0..1).unwrap().is_none());
}

#[test]
fn language_models_of_other_kinds() {
    let config = |file: &File| read(file).and_then(|file| file.config());
    let good = config(&llama()).unwrap();
    assert_eq!((&good["num_key_value_heads"], &good["head_dim"], &good["rope_theta"]), (&json!(2), &json!(4), &json!(10000.0)));
    assert_eq!((&good["rms_norm_eps"], &good["vocab_size"], &good["tie_word_embeddings"]), (&json!(1e-5), &json!(6), &json!(true)));
    let wrong = |file: &File, words: &[&str]| said(&config(file).unwrap_err(), words);
    wrong(&llama().with("general.architecture", text("gemma3")), &["gemma3", "type llama"]);
    wrong(&llama().with("general.type", text("adapter")), &["llama, adapter"]);
    refused(&llama().with("split.count", u32(3)).bytes(), &["3 files", "--merge"]);
    wrong(&llama().without("general.architecture"), &["general.architecture", "missing"]);
    wrong(&llama().with("general.architecture", u32(1)), &["general.architecture", "a string"]);
    for key in ["embedding_length", "feed_forward_length", "block_count", "context_length", "attention.head_count"] {
        wrong(&llama().without(&format!("llama.{key}")), &[key, "missing"]);
        wrong(&llama().with(&format!("llama.{key}"), u32(0)), &[key, "is 0"]);
        wrong(&llama().with(&format!("llama.{key}"), f32(1.0)), &[key, "a number"]);
    }
    wrong(&llama().without("llama.attention.layer_norm_rms_epsilon"), &["layer_norm_rms_epsilon", "missing"]);
    wrong(&llama().with("llama.attention.layer_norm_rms_epsilon", f32(f32::NAN)), &["layer_norm_rms_epsilon", "finite"]);
    wrong(&llama().with("llama.expert_count", u32(8)), &["experts"]);
    wrong(&llama().with("llama.rope.dimension_count", u32(2)), &["rope.dimension_count 2"]);
    wrong(&llama().with("llama.rope.scaling.type", text("yarn")), &["yarn", "linear"]);
    wrong(&llama().with("llama.attention.head_count_kv", i32s([1, 2])), &["head_count_kv", "layer to layer"]);
    wrong(&llama().floats("rope_freqs.weight", &[2], [1.0, 8.0]), &["rope_freqs.weight"]);
    let scaled = llama().with("llama.rope.scaling.type", text("linear")).with("llama.rope.scaling.factor", f32(4.0));
    assert_eq!(config(&scaled).unwrap()["rope_scaling"], json!({"rope_type": "linear", "factor": 4.0}));
    let same = llama().with("llama.attention.head_count_kv", i32s([1, 1]));
    assert_eq!(config(&same).unwrap()["num_key_value_heads"], json!(1));
    // Heads that queries cannot be parted into.
    let queries = |head: u32| llama().with("llama.attention.key_length", u32(head)).floats("blk.0.attn_q.weight", &[8, 8], [0.0; 64]);
    for head in [0, 3, 16] {
        refused(&queries(head).bytes(), &["blk.0.attn_q.weight", "8 rows", &format!("heads of {head} rows")]);
    }
    assert!(read(&queries(4)).is_ok());
    // Biases, an output layer, and names that are nearly right.
    let file = llama()
        .floats("blk.0.attn_q.bias", &[8], (0..8).map(|i| i as f32))
        .floats("output.weight", &[6, 8], [0.0; 48])
        .floats("blk.00.attn_v.weight", &[8, 8], [0.0; 64])
        .floats("token_embd.weight", &[7, 8], [0.0; 56]);
    let file = read(&file).unwrap();
    let config = file.config().unwrap();
    assert_eq!(
        (&config["attention_bias"], &config["tie_word_embeddings"], &config["vocab_size"]),
        (&json!(true), &json!(false), &json!(7))
    );
    assert_eq!(floats(&file, "model.layers.0.self_attn.q_proj.bias"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert!(file.tensor("lm_head.weight").is_ok() && file.tensor("blk.00.attn_v.weight").is_ok());
}

#[test]
fn projectors_of_other_kinds() {
    let config = |file: &File| read(file).and_then(|file| file.config());
    assert_eq!(config(&projector()).unwrap()["vision_config"]["layer_norm_eps"], json!(1e-6));
    said(&config(&projector().with("clip.projector_type", text("qwen2vl_merger"))).unwrap_err(), &["clip", "qwen2vl_merger", "idefics3"]);
    said(&config(&projector().without("clip.vision.image_size")).unwrap_err(), &["clip.vision.image_size", "missing"]);
    let plain = config(&projector().without("clip.use_gelu")).unwrap();
    assert_eq!(plain["vision_config"]["hidden_act"], "quick_gelu");
    let wrong = projector().with("clip.vision.image_mean", array(6, &[vec![0; 4]]));
    said(&read(&wrong).unwrap().preprocessing().unwrap_err(), &["image_mean", "three numbers"]);
    // Older files have the names of the feed-forward network's layers the other way round.
    let network = |down: [usize; 2], up: [usize; 2]| {
        let file =
            projector().floats("v.blk.0.ffn_down.weight", &down, vec![1.0; 128]).floats("v.blk.0.ffn_up.weight", &up, vec![2.0; 128]);
        let file = read(&file).unwrap();
        let first = file.tensor("model.vision_model.encoder.layers.0.mlp.fc1.weight").unwrap();
        (first.own_name.clone(), first.shape.clone())
    };
    assert_eq!(network([8, 16], [16, 8]), ("v.blk.0.ffn_up.weight".to_owned(), vec![16, 8]));
    assert_eq!(network([16, 8], [8, 16]), ("v.blk.0.ffn_down.weight".to_owned(), vec![16, 8]));
}

#[test]
fn tokenizers_that_are_none() {
    let letters = ["<s>", "a", "b", "ab", "</s>"];
    let good = || {
        llama()
            .with("tokenizer.ggml.model", text("gpt2"))
            .with("tokenizer.ggml.pre", text("gpt-2"))
            .with("tokenizer.ggml.tokens", texts(letters))
            .with("tokenizer.ggml.token_type", i32s([3, 1, 1, 1, 3]))
            .with("tokenizer.ggml.merges", texts(["a b"]))
    };
    let ids = |file: &File, text: &str| {
        let json = read(file).unwrap().tokenizer_json().unwrap().unwrap();
        PromptTokenizer::from_json(&json, 100, 100).unwrap().encode(text).unwrap().ids
    };
    assert_eq!(ids(&good(), "aba</s>b"), [3, 1, 4, 2]);
    let around = good()
        .with("tokenizer.ggml.add_bos_token", flag(true))
        .with("tokenizer.ggml.add_eos_token", flag(true))
        .with("tokenizer.ggml.bos_token_id", u32(0))
        .with("tokenizer.ggml.eos_token_id", u32(4));
    assert_eq!(ids(&around, "ab"), [0, 3, 4]);
    let wrong = |file: &File, words: &[&str]| said(&read(file).unwrap().tokenizer_json().unwrap_err(), words);
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    wrong(&good().with(&key("model"), text("bert")), &["\"bert\"", "gpt2 and llama"]);
    wrong(&good().with(&key("pre"), text("klingon")), &["\"klingon\"", "smollm"]);
    wrong(&good().without(&key("tokens")), &["tokenizer.ggml.tokens", "missing"]);
    wrong(&good().with(&key("tokens"), texts([])), &["no tokens"]);
    wrong(&good().with(&key("tokens"), i32s([1])), &["tokenizer.ggml.tokens", "strings"]);
    wrong(&good().with(&key("tokens"), texts(["a", "b", "ab", "a", "x"])), &["\"a\" twice", "0 and 3"]);
    wrong(&good().with(&key("tokens"), array(8, &[string(b"\xff")])).with(&key("token_type"), i32s([1])), &["string 0", "UTF-8"]);
    wrong(&good().with(&key("token_type"), i32s([1])), &["types for 1 of 5"]);
    wrong(&good().without(&key("merges")), &["tokenizer.ggml.merges", "missing"]);
    for merge in ["ab", "a c", "b a", "a  b", ""] {
        wrong(&good().with(&key("merges"), texts(["a b", merge])), &["merge 1", &format!("{merge:?}")]);
    }
    wrong(&good().with(&key("add_bos_token"), flag(true)), &["bos_token_id", "beyond the vocabulary"]);
    wrong(&around.clone().with(&key("eos_token_id"), u32(99)), &["eos_token_id"]);
    let pieces = good().with(&key("model"), text("llama")).without(&key("merges"));
    wrong(&pieces.clone().with(&key("scores"), array(6, &[vec![0; 4]])), &["tokenizer.ggml.scores", "5 numbers"]);
    wrong(&pieces.with(&key("scores"), texts(letters)), &["tokenizer.ggml.scores"]);
    // A token without letters gets a name that no text has.
    let empty = good().with(&key("tokens"), texts(["", "a", "b", "ab", "</s>"]));
    assert_eq!(ids(&empty, "[EMPTY_0]ab"), [0, 3]);
    // No tokenizer at all.
    assert!(read(&llama().with(&key("model"), text("no_vocab"))).unwrap().tokenizer_json().unwrap().is_none());
}

/// What is varied by the fuzzer begins as something that is read to its end.
#[test]
fn seeds_are_good_files() {
    let seed = |name: &str| {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fuzz/seeds/gguf", name].iter().collect();
        Gguf::open(&path).unwrap_or_else(|error| panic!("{error}"))
    };
    assert!(seed("language").config().is_ok() && seed("language").integers("model.embed_tokens.weight", 0..8).unwrap().is_some());
    assert!(seed("projector").config().is_ok());
    assert_eq!(seed("types").tensors().len(), 34);
    assert!(seed("nested").metadata().array("k").unwrap().is_some());
    for name in ["language", "pieces"] {
        let json = seed(name).tokenizer_json().unwrap().unwrap();
        assert!(!PromptTokenizer::from_json(&json, 64, 64).unwrap().encode("ab a").unwrap().ids.is_empty());
    }
}
