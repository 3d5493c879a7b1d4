use std::fs;
use std::path::Path;

use half::f16;
use ocelli_bundle::{Bundle, DType};
use ocelli_convert::{Options, Report, goldens, import};
use ocelli_models::plan::{Declared, TokenizerFacts};
use ocelli_models::table::{Row, Storage};
use ocelli_models::text::PromptTokenizer;
use ocelli_models::{registry, table};
use serde_json::json;
use tempfile::tempdir;

use crate::checkpoints::{Checkpoint, pytorch_legacy, pytorch_zip, safetensors};

fn rows(checkpoint: &Checkpoint) -> Vec<Row> {
    let declared = Declared {
        tokens: Some(TokenizerFacts { attention_mask: true, ..Default::default() }),
        ..Declared::new(&checkpoint.config, checkpoint.format)
    };
    registry::plan(&declared).unwrap().rows
}

fn convert(path: &Path, storage: Storage) -> (Bundle, Report) {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model.ocelli");
    let mut last = (0, 1);
    let report = import(path, &output, &Options { storage, ..Options::default() }, &mut |done, total| {
        assert!(done >= last.0 && done <= total, "{done} of {total} after {last:?}");
        last = (done, total);
    });
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(last.0, last.1, "the bar reaches its end");
    let bundle = Bundle::open(&output).unwrap();
    bundle.verify().unwrap();
    assert_eq!(report.bytes, bundle.size_bytes());
    (bundle, report)
}

/// The matrix `[out, in]` or the tensor that a row's pieces make.
fn joined(checkpoint: &Checkpoint, row: &Row) -> Vec<f32> {
    let pieces = row.pieces.iter().flat_map(|piece| {
        let (shape, values) = &checkpoint.tensors[&piece.name];
        let width: usize = shape.iter().skip(1).product();
        let rows = piece.rows.clone().unwrap_or(0..shape[0]);
        values[rows.start * width..rows.end * width].iter().copied()
    });
    let values: Vec<f32> = pieces.collect();
    if !row.turned {
        return values;
    }
    let [inputs, outputs] = [row.shape[0], row.shape[1]];
    (0..values.len()).map(|at| values[at % inputs * outputs + at / inputs]).collect()
}

/// Compares every tensor of an f32 bundle with the checkpoint's values: floats in panels of 16 rows, or as they are.
fn check_f32(bundle: &Bundle, checkpoint: &Checkpoint) {
    let rows = rows(checkpoint);
    table::check(bundle, &rows).unwrap();
    for row in &rows {
        let stored: Vec<f32> = bundle.tensor(&row.name).unwrap().bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let wanted = joined(checkpoint, row);
        if row.recipe(Storage::F32).name().is_none() {
            assert_eq!(stored, wanted, "{}", row.name);
            continue;
        }
        let width = if row.recipe(Storage::F32).transposed() { row.shape[0] } else { row.shape[1] };
        for (at, value) in wanted.iter().enumerate() {
            let (r, c) = (at / width, at % width);
            assert_eq!(stored[(r / 16 * width + c) * 16 + r % 16], *value, "{} at {r}, {c}", row.name);
        }
    }
}

#[test]
fn safetensors_of_transformers_and_open_clip() {
    for checkpoint in [Checkpoint::clip(), Checkpoint::open_clip()] {
        let folder = tempdir().unwrap();
        let file = checkpoint.write(folder.path());
        let (bundle, report) = convert(folder.path(), Storage::F32);
        check_f32(&bundle, &checkpoint);
        assert_eq!(bundle.manifest().family, "clip");
        assert_eq!(report.unused, Vec::<String>::new());
        let source = &bundle.manifest().provenance[0];
        let digest = source.files.get(file.file_name().unwrap().to_str().unwrap()).unwrap();
        assert_eq!(digest.len(), 64);
        assert!(source.files.len() >= 4, "{:?}", source.files);
        let tokenizer = PromptTokenizer::from_json(bundle.text("tokenizer.json").unwrap(), 520, 16).unwrap();
        assert_eq!(tokenizer.encode("ab").unwrap().ids, [513, 97 - 33, 256 + 98 - 33, 514]);
        // The file alone names the same.
        let (alone, _) = convert(&file, Storage::F32);
        check_f32(&alone, &checkpoint);
    }
}

#[test]
fn pytorch_files_new_and_old() {
    let checkpoint = Checkpoint::clip();
    for bytes in [pytorch_zip(&checkpoint.tensors, Vec::new()), pytorch_legacy(&checkpoint.tensors)] {
        let folder = tempdir().unwrap();
        checkpoint.describe(folder.path());
        fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
        let (bundle, _) = convert(folder.path(), Storage::F32);
        check_f32(&bundle, &checkpoint);
    }
}

#[test]
fn shards() {
    let checkpoint = Checkpoint::clip();
    let folder = tempdir().unwrap();
    checkpoint.describe(folder.path());
    let mut map = serde_json::Map::new();
    let mut halves = [checkpoint.tensors.clone(), checkpoint.tensors.clone()];
    for (i, name) in checkpoint.tensors.keys().enumerate() {
        halves[(i + 1) % 2].remove(name);
        map.insert(name.clone(), json!(format!("model-0000{}-of-00002.safetensors", i % 2 + 1)));
    }
    for (i, half) in halves.iter().enumerate() {
        fs::write(folder.path().join(format!("model-0000{}-of-00002.safetensors", i + 1)), safetensors(half)).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let (bundle, _) = convert(folder.path(), Storage::F32);
    check_f32(&bundle, &checkpoint);
    assert!(bundle.manifest().provenance[0].files.contains_key("model-00002-of-00002.safetensors"));
}

#[test]
fn prefixes_and_leftovers() {
    let checkpoint = Checkpoint::clip();
    let mut renamed = checkpoint.clone();
    renamed.tensors = checkpoint.tensors.iter().map(|(name, tensor)| (format!("clip.{name}"), tensor.clone())).collect();
    renamed.tensors.insert("clip.text_model.embeddings.position_ids".into(), (vec![1, 2], vec![0.0, 1.0]));
    renamed.tensors.insert("head.weight".into(), (vec![2], vec![f32::NAN, 1.0]));
    let folder = tempdir().unwrap();
    renamed.write(folder.path());
    let (bundle, report) = convert(folder.path(), Storage::F32);
    check_f32(&bundle, &checkpoint);
    assert_eq!(report.unused, ["head.weight"]);
}

#[test]
fn halves_and_integers() {
    let checkpoint = Checkpoint::clip();
    let folder = tempdir().unwrap();
    checkpoint.write(folder.path());
    let (whole, _) = convert(folder.path(), Storage::F32);
    for storage in [Storage::F16, Storage::Int8] {
        let (bundle, report) = convert(folder.path(), storage);
        table::check(&bundle, &rows(&checkpoint)).unwrap();
        assert!(report.bytes < whole.size_bytes());
        let linear = "vision.layers.0.qkv.weight";
        let dtype = bundle.tensor(linear).unwrap().dtype;
        assert_eq!(dtype, if storage == Storage::F16 { DType::F16 } else { DType::I8 });
        assert_eq!(bundle.tensor("vision.layers.0.qkv.bias").unwrap().dtype, DType::F32);
        if storage == Storage::F16 {
            let (halves, floats) = (bundle.tensor(linear).unwrap(), whole.tensor(linear).unwrap());
            for (half, float) in halves.bytes.as_chunks::<2>().0.iter().zip(floats.bytes.as_chunks::<4>().0) {
                assert_eq!(f16::from_le_bytes(*half), f16::from_f32(f32::from_le_bytes(*float)));
            }
        } else {
            // A scale for each of 120 channels, rounded up to whole panels; one row's largest value is 127.
            let scales: Vec<f32> = bundle
                .tensor(&format!("{linear}.scale"))
                .unwrap()
                .bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            assert_eq!(scales.len(), 128);
            let row = rows(&checkpoint).into_iter().find(|row| row.name == linear).unwrap();
            let values = joined(&checkpoint, &row);
            let largest = values[..40].iter().fold(0.0f32, |most, value| most.max(value.abs()));
            assert!((scales[0] - largest / 127.0).abs() < 1e-6, "{} for {largest}", scales[0]);
        }
    }
}

#[test]
fn half_precision_checkpoints_and_axes_of_one() {
    let checkpoint = Checkpoint::clip();
    let folder = tempdir().unwrap();
    let file = checkpoint.write(folder.path());
    // The same header with F16 in place of F32, half the offsets, and half the bytes.
    let mut header = serde_json::Map::new();
    let (mut data, mut halved) = (Vec::new(), checkpoint.clone());
    for (name, (shape, values)) in &mut halved.tensors {
        let start = data.len();
        for value in values.iter_mut() {
            let half = f16::from_f32(*value);
            data.extend(half.to_le_bytes());
            *value = half.to_f32();
        }
        let shape: Vec<usize> = if name == "logit_scale" { Vec::new() } else { shape.clone() };
        header.insert(name.clone(), json!({"dtype": "F16", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    fs::write(&file, crate::checkpoints::with_header(&serde_json::Value::Object(header).to_string(), &data)).unwrap();
    let (bundle, _) = convert(folder.path(), Storage::F32);
    check_f32(&bundle, &halved);
}

#[test]
fn where_it_is_from() {
    let folder = tempdir().unwrap();
    let snapshot = folder.path().join("models--example--tiny-clip/snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    Checkpoint::clip().write(&snapshot);
    fs::write(snapshot.join("README.md"), "---\nlanguage: en\nlicense: mit\ntags:\n- vision\n---\n# Tiny\n").unwrap();
    let (bundle, report) = convert(&snapshot, Storage::F32);
    let manifest = bundle.manifest();
    assert_eq!((manifest.name.as_str(), manifest.licence.as_str()), ("tiny-clip", "mit"));
    assert_eq!((manifest.provenance[0].name.as_str(), manifest.provenance[0].revision.as_str()), ("example/tiny-clip", "0123abcd"));
    assert_eq!((report.class.as_str(), report.licence.as_str()), ("CLIPModel", "mit"));
    let card = bundle.text("model_card").unwrap();
    assert!(card.contains("example/tiny-clip, revision 0123abcd (CLIPModel)") && card.contains("mit"), "{card}");
}

#[test]
fn golden_vectors_are_added_to_what_is_there() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.ocelli");
    let source = tempdir().unwrap();
    let checkpoint = Checkpoint::clip();
    checkpoint.write(source.path());
    import(source.path(), &path, &Options::default(), &mut |_, _| {}).unwrap();
    goldens::add::<ocelli_bundle::BundleError>(&path, |writer| writer.f32("golden/one/input", &[2], &[1.0, 2.0])).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    bundle.verify().unwrap();
    check_f32(&bundle, &checkpoint);
    assert!(bundle.contains("golden/one/input"));
}
