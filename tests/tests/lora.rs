//! Adapters equal transformers with peft: merged into a bundle, put beside one, taken off and put on again.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ocelli_convert::{AdapterError, ImportError, Lora, Options, import, lora};
use ocelli_flow::{Adapter, Encoded, GenerateOptions, Model, ModelError};
use ocelli_models::smolvlm::SmolVlm;
use ocelli_models::table::Storage;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, RELATIVE, cosine, devices, ids, relative};
use crate::root;
use crate::smolvlm::{LOGIT, cases, encoded, load, prompt, write};

const BASE: &str = "smolvlm/smolvlm";
const ADAPTERS: [&str; 2] = ["plain", "rslora"];

fn folder(name: &str) -> PathBuf {
    root().join("tests/goldens/lora").join(name)
}

fn at(name: &str, scale: f32) -> Lora {
    Lora { folder: folder(name), scale }
}

fn beside(base: &Checkpoint, loras: &[Lora]) -> Adapter {
    lora::beside(loras, base.bundle.manifest()).unwrap_or_else(|error| panic!("{error}"))
}

/// What peft makes of a case at a scale.
struct Expected {
    case: Value,
    scale: f32,
    tokens: Vec<u32>,
    text: String,
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

fn expected(base: &Checkpoint, name: &str) -> Vec<Expected> {
    let facts: Value = serde_json::from_slice(&fs::read(folder(name).join("expected.json")).unwrap()).unwrap();
    let bytes = fs::read(folder(name).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| file.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<f32>>();
    let all = cases(base);
    let each = facts["cases"].as_array().unwrap().iter().map(|fact| {
        let (case, scale) = (fact["name"].as_str().unwrap(), fact["scale"].as_f64().unwrap());
        Expected {
            case: all.iter().find(|known| known["name"] == case).unwrap().clone(),
            scale: scale as f32,
            tokens: ids(&fact["tokens"]),
            text: fact["text"].as_str().unwrap().to_owned(),
            hidden: floats(&format!("{scale:.1}.{case}.hidden")),
            logits: floats(&format!("{scale:.1}.{case}.logits")),
        }
    });
    each.collect()
}

fn greedy() -> GenerateOptions {
    GenerateOptions { max_tokens: Some(20), ..GenerateOptions::default() }
}

fn forced(base: &Checkpoint, model: &SmolVlm, case: &Value, tokens: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let pictures = encoded(base, case, model);
    model.teacher_forced(&pictures.iter().collect::<Vec<&Encoded>>(), &prompt(case), tokens).unwrap()
}

fn equals(base: &Checkpoint, model: &SmolVlm, expected: &Expected, what: &str) {
    let what = format!("{what}, {} at {}", expected.case["name"], expected.scale);
    let (hidden, logits) = forced(base, model, &expected.case, &expected.tokens);
    let hidden = relative(&hidden, &expected.hidden);
    let last = &logits[logits.len() - expected.logits.len()..];
    let off = last.iter().zip(&expected.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{what}: hidden {hidden:.1e}, logits {off:.1e}");
    assert!(hidden <= RELATIVE, "{what}: hidden states are off by {hidden}");
    assert!(off <= LOGIT, "{what}: logits are off by {off}");
    let found = write(model, &encoded(base, &expected.case, model), &prompt(&expected.case), &greedy());
    assert_eq!((found.tokens, found.text), (expected.tokens.clone(), expected.text.clone()), "{what}");
}

#[test]
fn merged_is_what_peft_computes() {
    for name in ADAPTERS {
        for scale in [1.0, 0.5] {
            let merged = Checkpoint::merged(BASE, Storage::F32, vec![at(name, scale)]);
            let model = load(&merged, &Device::flex());
            for expected in expected(&merged, name).iter().filter(|expected| expected.scale == scale) {
                equals(&merged, &model, expected, &format!("{name} merged"));
            }
            let manifest = merged.bundle.manifest();
            assert_eq!(manifest.provenance.len(), 2);
            let adapter = &manifest.provenance[1];
            let files: Vec<&String> = adapter.files.keys().collect();
            assert_eq!((adapter.name.as_str(), files.as_slice().len()), (name, 2));
            assert!(adapter.files.contains_key("adapter_model.safetensors") && adapter.files.contains_key("adapter_config.json"));
            assert!(merged.bundle.text("model_card").unwrap().contains(&format!("merged into the weights: {name}")));
        }
    }
}

#[test]
fn beside_is_what_peft_computes_on_and_off_and_on() {
    let base = Checkpoint::new(BASE, Storage::F32);
    for device in devices() {
        let mut model = load(&base, &device);
        let plain = |model: &SmolVlm| {
            for case in cases(&base).iter().filter(|case| ["whole", "none"].contains(&case["name"].as_str().unwrap())) {
                let all = ids(&case["generations"][0]["tokens"]);
                let found = write(model, &encoded(&base, case, model), &prompt(case), &greedy());
                assert_eq!(found.tokens, all[..all.len().min(20)], "without: {}", case["name"]);
            }
        };
        for name in ADAPTERS {
            let expected = expected(&base, name);
            for scale in [1.0, 0.5, 1.0] {
                plain(&model);
                model.set_adapter(Some(&beside(&base, &[at(name, scale)]))).unwrap();
                // The same prompt as just before: nothing that was read without the adapter may be used.
                for expected in expected.iter().filter(|expected| expected.scale == scale) {
                    equals(&base, &model, expected, &format!("{name} beside"));
                }
                model.set_adapter(None).unwrap();
            }
        }
        plain(&model);
    }
}

#[test]
fn several_adapters_are_added_up() {
    let base = Checkpoint::new(BASE, Storage::F32);
    let loras = [at("plain", 0.5), at("rslora", 0.25), at("plain", 0.25)];
    let merged = Checkpoint::merged(BASE, Storage::F32, loras.to_vec());
    let (mut model, once) = (load(&base, &Device::flex()), load(&merged, &Device::flex()));
    model.set_adapter(Some(&beside(&base, &loras))).unwrap();
    let case = &cases(&base)[0];
    let tokens = ids(&case["generations"][0]["tokens"]);
    let off = relative(&forced(&base, &model, case, &tokens).1, &forced(&merged, &once, case, &tokens).1);
    assert!(off <= RELATIVE, "{off}");
}

#[test]
fn bytes_with_an_adapter_say_what_floats_say() {
    let [base, rounded] = [Storage::F32, Storage::Int8].map(|storage| Checkpoint::new(BASE, storage));
    for name in ADAPTERS {
        let [exact, bytes] = [&base, &rounded].map(|checkpoint| {
            let mut model = load(checkpoint, &Device::flex());
            model.set_adapter(Some(&beside(checkpoint, &[at(name, 1.0)]))).unwrap();
            model
        });
        let expected = &expected(&base, name)[0];
        let logits = |checkpoint, model| forced(checkpoint, model, &expected.case, &expected.tokens).1;
        let near = cosine(&logits(&base, &exact), &logits(&rounded, &bytes));
        let without = cosine(&logits(&base, &exact), &logits(&base, &load(&base, &Device::flex())));
        println!("{name}: int8 with the adapter {near:.5}, f32 without {without:.5}");
        assert!(near >= 0.99 && without < 0.97, "{name}: {near}, {without}");
    }
}

#[test]
fn an_adapter_of_another_model_changes_nothing() {
    let base = Checkpoint::new(BASE, Storage::F32);
    let mut model = load(&base, &Device::flex());
    let good = beside(&base, &[at("plain", 1.0)]);
    model.set_adapter(Some(&good)).unwrap();
    let expected = &expected(&base, "plain")[0];
    let changes: [fn(&mut ocelli_flow::LowRank); 3] = [|part| part.tensor.push('x'), |part| part.outputs.end += 1, |part| part.rank += 1];
    for change in changes {
        let mut wrong = good.clone();
        change(wrong.parts.last_mut().unwrap());
        let error = model.set_adapter(Some(&wrong)).unwrap_err();
        assert!(matches!(error, ModelError::Adapter { .. }), "{error}");
        equals(&base, &model, expected, "after a bad one");
    }
}

/// The plain adapter with its configuration and tensors changed.
fn changed(config: impl Fn(&mut Value), tensors: impl Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let from = folder("plain");
    let mut json: Value = serde_json::from_slice(&fs::read(from.join("adapter_config.json")).unwrap()).unwrap();
    config(&mut json);
    fs::write(place.path().join("adapter_config.json"), json.to_string()).unwrap();
    let bytes = fs::read(from.join("adapter_model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<f32>>();
    let mut all: Vec<_> = file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec(), floats(view.data()))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    tensors(&mut all);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> =
        all.into_iter().map(|(name, shape, values)| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())).collect();
    let views = bytes.iter().map(|(name, shape, bytes)| (name, TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(place.path().join("adapter_model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    place
}

#[test]
fn names_before_a_model_do_not_matter() {
    let base = Checkpoint::new(BASE, Storage::F32);
    let good = beside(&base, &[at("plain", 1.0)]);
    for (from, to) in
        [("base_model.model.model.", "base_model.model."), ("lora_A.weight", "lora_A.default.weight"), ("model.model.", "model.vlm.")]
    {
        let place = changed(|_| (), |tensors| tensors.iter_mut().for_each(|(name, ..)| *name = name.replace(from, to)));
        let found = beside(&base, &[Lora { folder: place.path().into(), scale: 1.0 }]);
        assert_eq!(found.parts, good.parts, "{to}");
    }
}

#[test]
fn bad_adapters_are_named() {
    type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;
    let base = Checkpoint::new(BASE, Storage::F32);
    let refused = |path: &Path, words: &[&str]| -> AdapterError {
        let lora = Lora { folder: path.to_owned(), scale: 1.0 };
        let error = lora::beside(std::slice::from_ref(&lora), base.bundle.manifest()).unwrap_err();
        let output = path.join("x.ocelli");
        let options = Options { loras: vec![lora], ..Options::default() };
        let merged = import(&base.folder, &output, &options, &mut |_, _| {}).unwrap_err();
        assert!(!output.exists());
        assert_eq!(merged.to_string(), error.to_string());
        for word in words {
            assert!(error.to_string().contains(word), "no {word:?} in: {error}");
        }
        let ImportError::Adapter { source, .. } = error else { panic!("{error}") };
        source
    };
    let (same, all) = (|_: &mut Value| (), |_: &mut Tensors| ());
    let place = changed(same, |tensors| tensors.retain(|(name, ..)| !name.contains("0.mlp.fc1.lora_B")));
    assert!(matches!(refused(place.path(), &["layers.0.mlp.fc1", "no lora_B"]), AdapterError::Half { .. }));
    let place = changed(|config| config["r"] = 3.into(), all);
    assert!(matches!(refused(place.path(), &["rank 4", "says 3"]), AdapterError::Rank { .. }));
    let place = changed(same, |tensors| tensors[1].1.reverse());
    assert!(matches!(refused(place.path(), &["do not fit together"]), AdapterError::Rank { .. }));
    let place = changed(same, |tensors| tensors.iter_mut().for_each(|(name, ..)| *name = name.replace("gate_proj", "gate_proj_9")));
    let error = refused(place.path(), &["layers.0.mlp.gate_proj_9", "text_model.layers.0.mlp.gate_proj,"]);
    assert!(matches!(error, AdapterError::Unknown { .. }));
    let place = changed(same, |tensors| {
        tensors
            .iter_mut()
            .for_each(|(name, ..)| *name = name.replace("gate_proj", "x").replace("down_proj", "gate_proj").replace(".x.", ".down_proj."))
    });
    assert!(matches!(refused(place.path(), &["down_proj takes 32", "gives 48", "[32, 48]"]), AdapterError::Shape { .. }));
    let place = changed(|config| config["use_dora"] = true.into(), all);
    assert!(matches!(refused(place.path(), &["use_dora", "merge_and_unload"]), AdapterError::Unsupported { .. }));
    let place = changed(same, |tensors| tensors.push(("base_model.model.lm_head.lora_magnitude_vector.weight".into(), vec![1], vec![1.0])));
    assert!(matches!(refused(place.path(), &["lm_head", "DoRA"]), AdapterError::Unsupported { .. }));
    let place = changed(same, |tensors| tensors[2].2[5] = f32::NAN);
    assert!(matches!(refused(place.path(), &["NaN", "index 5"]), AdapterError::NotFinite { .. }));
    let place = changed(same, Vec::clear);
    assert!(matches!(refused(place.path(), &["no tensors lora_A"]), AdapterError::Nothing));
    assert!(lora::beside(&[at("nowhere", 1.0)], base.bundle.manifest()).unwrap_err().to_string().contains("adapter_config.json"));
}
