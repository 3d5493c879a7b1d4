//! Florence-2 equals transformers on the same weights: a small checkpoint of `tools/reference`, imported, from prompts to places.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_convert::{Options, import};
use ocelli_flow::{CaptionOptions, Detection, GenerateOptions, GroundOptions, Inputs, Model, ModelError};
use ocelli_models::florence::FlorenceConfig;
use ocelli_models::florence::davit::Map;
use ocelli_models::florence::forward::Florence;
use ocelli_models::florence::regions::{Rules, regions};
use ocelli_models::florence::tasks::{Answer, Task};
use ocelli_models::table::Storage;
use ocelli_models::text::generate::{EarlyStopping, Start, StepDecoder, Strategy, generate};
use ocelli_models::weights;
use ocelli_pipeline::picture;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, RELATIVE, generate_options};
use crate::root;

/// Of logits and of scores, which are their sums.
const LOGITS: f32 = 1e-3;

fn golden() -> PathBuf {
    root().join("tests/goldens/florence2/tiny")
}

fn checkpoint(storage: Storage) -> Checkpoint {
    Checkpoint::new("florence2/tiny", storage)
}

/// A folder's bundle, of which no tensor is left over.
fn imported(folder: &Path) -> (Bundle, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x.ocelli");
    let report = import(folder, &path, &Options::default(), &mut |_, _| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.unused, Vec::<String>::new());
    (Bundle::open(&path).unwrap(), place)
}

fn tensor<const D: usize>(checkpoint: &Checkpoint, name: &str) -> Tensor<D> {
    let shape = checkpoint.tensor(name).unwrap_or_else(|| panic!("no {name}")).shape;
    Tensor::from_data(TensorData::new(checkpoint.floats(name), shape), &Device::flex())
}

fn pictures(checkpoint: &Checkpoint) -> Vec<String> {
    checkpoint.facts["pictures"].as_object().unwrap().keys().cloned().collect()
}

fn cases(checkpoint: &Checkpoint) -> &[Value] {
    checkpoint.facts["cases"].as_array().unwrap()
}

fn config(checkpoint: &Checkpoint) -> FlorenceConfig {
    FlorenceConfig::from_json(&checkpoint.bundle.manifest().config).unwrap()
}

fn network(checkpoint: &Checkpoint) -> Florence {
    let device = Device::flex();
    weights::open(Florence::init(&config(checkpoint), &device), "", &checkpoint.bundle, &device).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The token of a case's task, and what the user says.
fn split(case: &Value) -> Option<(&str, &str)> {
    let task = text(&case["task"]);
    task.starts_with('<').then(|| task.split_at(task.find('>').unwrap() + 1))
}

fn close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let square = |x: Tensor<D>| x.powi_scalar(2).sum().into_scalar::<f32>();
    let off = (square(found - expected.clone()) / square(expected)).sqrt();
    assert!(off <= RELATIVE, "{what} is off by {off}");
}

fn planes(map: Map) -> Tensor<4> {
    let [batch, _, d] = map.cells.dims();
    map.cells.swap_dims(1, 2).reshape([batch, d, map.rows, map.columns])
}

#[test]
fn prompts_are_those_of_the_processor() {
    let checkpoint = checkpoint(Storage::F32);
    let model = checkpoint.model(&Device::flex());
    assert!(cases(&checkpoint).len() >= 16);
    for case in cases(&checkpoint) {
        assert_eq!(model.prompt_ids(text(&case["task"])).unwrap(), ids(&case["input_ids"]), "{}", case["task"]);
    }
    assert!(model.prompt_ids("<OD> of a bus").is_err());
    assert!(model.prompt_ids("an <image> in words").is_err());
    assert!(model.prompt_ids(&"far too long ".repeat(100)).unwrap_err().to_string().contains("room"));
}

/// From the picture's file on, whatever it is.
#[test]
fn pixels_are_those_of_the_image_processor() {
    let checkpoint = checkpoint(Storage::F32);
    let model = checkpoint.model(&Device::flex());
    for name in pictures(&checkpoint) {
        // A grey level, in units of the smallest standard deviation in use.
        let level = 1.0 / 255.0 / 0.224 * 1.01;
        let found = model.preprocess(&picture::decode(&checkpoint.file(&name)).unwrap()).unwrap();
        let expected = checkpoint.floats(&format!("pixel_values.{name}"));
        let found = found.into_pixels(&[1, 3, 40, 40]).unwrap();
        let off = found.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > level).count();
        assert!(off * 1000 <= found.len(), "{name}: {off} of {} pixels are off", found.len());
    }
}

#[test]
fn every_stage_is_that_of_transformers() {
    let checkpoint = checkpoint(Storage::F32);
    let (config, network) = (config(&checkpoint), network(&checkpoint));
    let case = &cases(&checkpoint)[0];
    let (name, seen_in) = (text(&case["name"]), text(&case["pictures"][0]));
    let picture: Tensor<4> = tensor(&checkpoint, &format!("pixel_values.{seen_in}"));
    let vision = |stage: &str| tensor::<4>(&checkpoint, &format!("vision.{seen_in}.{stage}"));
    let [_, _, rows, columns] = picture.dims();
    let mut map = Map { cells: picture.clone().flatten::<3>(2, 3).swap_dims(1, 2), rows, columns };
    for (i, stage) in network.vision.stages.iter().enumerate() {
        map = stage.embed(map);
        close(&format!("convs {i}"), planes(map.clone()), vision(&format!("convs.{i}")));
        for (j, block) in stage.blocks.iter().enumerate() {
            for (half, mixer) in [("spatial", &block.spatial), ("channel", &block.channel)] {
                map = mixer.forward(map);
                close(&format!("block {i}.{j} {half}"), planes(map.clone()), vision(&format!("blocks.{i}.{j}.{half}_block")));
            }
        }
    }
    let seen = network.see(picture);
    close("projected", seen.clone(), tensor(&checkpoint, &format!("vision.{seen_in}.projected")));
    let prompt = ids(&case["input_ids"]);
    let memory = network.read(seen, &prompt[config.vision.tokens()..]);
    let last = config.text.encoder.layers - 1;
    close("encoder", memory.clone(), tensor(&checkpoint, &format!("encoder.{name}.layers.{last}")));

    let written: Vec<u32> = [2, 0].into_iter().chain(ids(&case["generations"][0]["tokens"])).collect();
    let decoded = network.text.decode(&written, 1, &mut network.text.cache(&memory, written.len()));
    let expected: Tensor<3> = tensor(&checkpoint, &format!("decoder.{name}.hidden"));
    let some = expected.dims()[1];
    close("decoder", decoded.clone().narrow(1, 0, some), expected);
    let expected: Tensor<3> = tensor(&checkpoint, &format!("decoder.{name}.logits"));
    let [_, some, vocabulary] = expected.dims();
    let logits = network.text.logits(decoded.clone().narrow(1, 0, some)).narrow(2, 0, vocabulary);
    let off = (logits - expected).abs().max().into_scalar::<f32>();
    assert!(off <= LOGITS, "logits are off by {off}");
    // One token at a time through the cache.
    let mut cache = network.text.cache(&memory, written.len());
    let steps = written.iter().map(|&id| network.text.decode(&[id], 1, &mut cache)).collect();
    close("the cache", Tensor::cat(steps, 1), decoded);
}

/// Tokens of the best sequence and its score, under every option.
#[test]
fn tokens_are_those_of_transformers() {
    let checkpoint = checkpoint(Storage::F32);
    let (config, network) = (config(&checkpoint), network(&checkpoint));
    let mut longest = 0;
    for case in cases(&checkpoint) {
        let seen = network.see(tensor(&checkpoint, &format!("pixel_values.{}", text(&case["pictures"][0]))));
        let memory = network.read(seen, &ids(&case["input_ids"])[config.vision.tokens()..]);
        for expected in case["generations"].as_array().unwrap() {
            let what = format!("{} {}", case["name"], expected["options"]);
            let said = &expected["options"];
            let mut settings = config.generate.settings(&generate_options(said), 1, network.text.max_tokens() - 1).unwrap();
            if let (Strategy::Beams(search), Some(full)) = (&mut settings.strategy, said["early_stopping"].as_bool()) {
                search.early_stopping = if full { EarlyStopping::Full } else { EarlyStopping::Heuristic };
            }
            let mut state = network.text.cache(&memory, 1 + settings.max_tokens);
            let logits = network.text.step(&[config.text.start], &mut state).unwrap();
            let start = Start { state: &mut state, logits, prompt: vec![config.text.start] };
            let found = generate(&network.text, start, &settings, Vec::new(), &mut ()).unwrap();
            let tokens = ids(&expected["tokens"]);
            longest = longest.max(tokens.len());
            assert_eq!(found.tokens[0], 0, "{what}");
            assert_eq!(found.tokens[1..], tokens, "{what}");
            if let Some(score) = expected["score"].as_f64() {
                assert!((found.score - score as f32).abs() <= LOGITS, "{what}: {}, not {score}", found.score);
            }
        }
    }
    assert!(longest >= 64, "{longest}");
}

/// Boxes of the reference's answer with their labels; those of quadrilaterals and polygons are around them.
fn places(read: &Value) -> Vec<(String, [f32; 4])> {
    let mut found = Vec::new();
    for (boxes, labels) in [("bboxes", "labels"), ("quad_boxes", "labels"), ("bboxes", "bboxes_labels"), ("polygons", "polygons_labels")] {
        let (Some(boxes), Some(labels)) = (read[boxes].as_array(), read[labels].as_array()) else { continue };
        assert_eq!(boxes.len(), labels.len());
        for (place, label) in boxes.iter().zip(labels) {
            let flat: Vec<f32> = match place[0].is_array() {
                true => {
                    place.as_array().unwrap().iter().flat_map(|one| one.as_array().unwrap()).map(|v| v.as_f64().unwrap() as f32).collect()
                }
                false => serde_json::from_value(place.clone()).unwrap(),
            };
            let along = |axis: usize| flat.iter().skip(axis).step_by(2).copied();
            let least = |axis: usize| along(axis).reduce(f32::min).unwrap();
            let most = |axis: usize| along(axis).reduce(f32::max).unwrap();
            found.push((text(label).to_owned(), [least(0), least(1), most(0), most(1)]));
        }
    }
    found
}

fn corners(detection: &Detection) -> [f32; 4] {
    let b = detection.bbox;
    [b.x0, b.y0, b.x1, b.y1]
}

#[test]
fn answers_are_read_as_transformers_reads_them() {
    let checkpoint = checkpoint(Storage::F32);
    let model = checkpoint.model(&Device::flex());
    let captioner = model.captioner().unwrap();
    assert!(captioner.tasks().contains(&"object_detection"));
    for case in cases(&checkpoint) {
        let encoded = model.encode_inputs(checkpoint.pixels(text(&case["pictures"][0]))).unwrap();
        let Some((token, input)) = split(case) else { continue };
        let prompt = (!input.is_empty()).then(|| input.to_owned());
        // The second generation is the checkpoint's own way.
        let expected = &case["generations"][1];
        let max_tokens = expected["options"]["max_new_tokens"].as_u64().map(|count| count as usize);
        let generate = GenerateOptions { max_tokens, ..GenerateOptions::default() };
        let options = CaptionOptions { task: Some(token.to_owned()), prompt, generate };
        let caption = captioner.caption(&encoded, &options, &mut ());
        if token.contains("SEGMENTATION") {
            assert!(matches!(caption, Err(ModelError::Unsupported { .. })));
            continue;
        }
        let caption = caption.unwrap();
        assert_eq!(caption.tokens, ids(&expected["tokens"]), "{}", case["name"]);
        assert!((caption.score - expected["score"].as_f64().unwrap() as f32).abs() <= LOGITS);
        if Task::named(Some(token)).unwrap().answer == Answer::Text {
            assert_eq!(caption.text, text(&expected["text"]).trim(), "{}", case["name"]);
        }
        let places = places(&expected["read"]);
        let found: Vec<_> = caption.regions.iter().map(|region| (region.phrase.to_string(), corners(region))).collect();
        assert_eq!(found, places, "{}", case["name"]);
        assert!(caption.regions.iter().all(|region| (0.0..=1.0).contains(&region.score)));
    }
}

#[test]
fn answers_that_people_wrote_are_read_as_transformers_reads_them() {
    let facts: Value = serde_json::from_slice(&fs::read(root().join("tests/goldens/florence2/read.json")).unwrap()).unwrap();
    let banned: Vec<String> = serde_json::from_value(facts["banned"].clone()).unwrap();
    let mut some = 0;
    for case in facts["cases"].as_array().unwrap() {
        let Ok(task) = Task::named(case["task"].as_str()) else { continue };
        let size: [u32; 2] = serde_json::from_value(case["size"].clone()).unwrap();
        let found = regions(text(&case["text"]), task.answer, &Rules { size, banned: &banned, least_area: 0.0 });
        let found: Vec<_> = found.into_iter().map(|r| (r.label, [r.bbox.x0, r.bbox.y0, r.bbox.x1, r.bbox.y1])).collect();
        let places = places(&case["read"]);
        some += places.len();
        assert_eq!(found, places, "{}: {}", case["task"], case["text"]);
    }
    assert!(some > 20, "{some}");
}

#[test]
fn phrases_are_grounded() {
    let checkpoint = checkpoint(Storage::F32);
    let model = checkpoint.model(&Device::flex());
    let case = cases(&checkpoint).iter().find(|case| text(&case["task"]).starts_with("<CAPTION_TO_PHRASE_GROUNDING>")).unwrap();
    let phrase = split(case).unwrap().1;
    let encoded = model.encode_inputs(checkpoint.pixels(text(&case["pictures"][0]))).unwrap();
    let grounder = model.grounder().unwrap();
    let queries = grounder.phrases(&["a cat", phrase]).unwrap();
    let options = |threshold, top| GroundOptions { threshold, top, nms: None };
    let all = grounder.ground(&encoded, &queries, &options(None, None)).unwrap();
    assert!(all.iter().all(|one| [phrase, "a cat"].contains(&&*one.phrase)));
    let of_phrase: Vec<f32> = all.iter().filter(|one| &*one.phrase == phrase).map(|one| one.score).collect();
    assert!(of_phrase.is_sorted_by(|a, b| a >= b), "{of_phrase:?}");
    assert!(grounder.ground(&encoded, &queries, &options(None, Some(1))).unwrap().len() <= 2);
    assert!(grounder.ground(&encoded, &queries, &options(Some(1.1), None)).unwrap().is_empty());
    assert!(grounder.phrases(&[]).is_err() && grounder.phrases(&[" "]).is_err());
}

#[test]
fn what_cannot_be_asked_for_is_named() {
    let checkpoint = checkpoint(Storage::F32);
    let model = checkpoint.model(&Device::flex());
    let encoded = model.encode_inputs(checkpoint.pixels("wide")).unwrap();
    let refused = |task: &str, prompt: Option<&str>| {
        let options = CaptionOptions { task: Some(task.to_owned()), prompt: prompt.map(str::to_owned), ..CaptionOptions::default() };
        model.captioner().unwrap().caption(&encoded, &options, &mut ()).unwrap_err().to_string()
    };
    assert!(refused("translate", None).contains("dense_region_caption"));
    assert!(refused("open_vocabulary_detection", None).contains("--prompt"));
    assert!(refused("caption", Some("a bus")).contains("takes none"));
    assert!(model.encode_inputs(Inputs::pixels(8, 8, [1, 3, 8, 8], vec![0.0; 192])).is_err());
}

/// Maps of eight channels and heads of eight: what rounding does to one value, few others make good. At Florence-2-base's widths the cosine is
/// above .999.
#[test]
fn integers_see_what_single_precision_sees() {
    let (exact, rounded) = (checkpoint(Storage::F32), checkpoint(Storage::Int8));
    let networks = [network(&exact), network(&rounded)];
    for name in pictures(&exact) {
        let pixels = format!("pixel_values.{name}");
        let [a, b] = networks.each_ref().map(|network| network.see(tensor(&exact, &pixels)));
        let dot = |a: &Tensor<3>, b: &Tensor<3>| (a.clone() * b.clone()).sum().into_scalar::<f32>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        assert!(cosine >= 0.995, "{name}: {cosine}");
    }
    let model = rounded.model(&Device::flex());
    let encoded = model.encode_inputs(rounded.pixels("wide")).unwrap();
    let generate = GenerateOptions { max_tokens: Some(20), ..GenerateOptions::default() };
    let options = CaptionOptions { generate, ..CaptionOptions::default() };
    let caption = model.captioner().unwrap().caption(&encoded, &options, &mut ()).unwrap();
    assert!(caption.logprob.is_finite() && !caption.tokens.is_empty());
}

/// Microsoft's names of tensors, by those of transformers.
fn microsoft(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    if let Some(rest) = name.strip_prefix("multi_modal_projector.") {
        return rest.replace("image_projection.weight", "image_projection").replace("image_position_embed", "image_pos_embed");
    }
    if let Some(rest) = name.strip_prefix("language_model.") {
        return format!("language_model.model.{rest}");
    }
    let attention = if name.contains("spatial_block") { "window_attn" } else { "channel_attn" };
    let mut name = name.replace(&format!("{attention}."), &format!("{attention}.fn."));
    for (ours, theirs) in [
        (".conv.", ".proj."),
        (".conv1.", ".conv1.fn.dw."),
        (".conv2.", ".conv2.fn.dw."),
        (".norm1.", &format!(".{attention}.norm.") as &str),
        (".norm2.", ".ffn.norm."),
        (".ffn.fc", ".ffn.fn.net.fc"),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

/// The same checkpoint as Microsoft's repositories have it: other names, another configuration, BART's own tokenizer.
fn as_microsoft(folder: &Path) {
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(golden().join(name)).unwrap()).unwrap() };
    let write = |name: &str, value: &Value| fs::write(folder.join(name), value.to_string()).unwrap();
    let bytes = fs::read(golden().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, view) in file.tensors() {
        let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
        if name.ends_with("image_projection.weight") {
            let (rows, columns, size) = (shape[0], shape[1], data.len() / (shape[0] * shape[1]));
            let at = |i: usize| &view.data()[(i % rows * columns + i / rows) * size..][..size];
            data = (0..rows * columns).flat_map(at).copied().collect();
            shape.reverse();
        }
        tensors.insert(microsoft(&name), (view.dtype(), shape, data));
    }
    let views = tensors.iter().map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();

    let mut config = read("config.json");
    let vision = config["vision_config"].as_object_mut().unwrap();
    let (widths, positions) = (vision.remove("embed_dim").unwrap(), vision.remove("max_position_embeddings").unwrap());
    vision.insert("dim_embed".into(), widths);
    vision.insert("image_pos_embed".into(), json!({"type": "learned_abs_2d", "max_pos_embeddings": positions}));
    vision.insert("model_type".into(), "davit".into());
    vision.insert("image_feature_source".into(), json!(["spatial_avg_pool", "temporal_avg_pool"]));
    config.as_object_mut().unwrap().remove("image_token_id");
    write("config.json", &config);
    write("generation_config.json", &read("generation_config.json"));
    write("preprocessor_config.json", &read("processor_config.json")["image_processor"]);
    let mut tokenizer = read("tokenizer.json");
    let own = tokenizer["model"]["vocab"].as_object().unwrap().len() as u64;
    tokenizer["added_tokens"].as_array_mut().unwrap().retain(|token| token["id"].as_u64().unwrap() < own);
    write("tokenizer.json", &tokenizer);
}

#[test]
fn microsofts_form_is_the_same_model() {
    let checkpoint = checkpoint(Storage::F32);
    let place = tempfile::tempdir().unwrap();
    as_microsoft(place.path());
    let (_native, _place) = imported(&golden());
    let (bundle, _place) = imported(place.path());
    let [native, other] = [checkpoint.model(&Device::flex()), ocelli_models::load(&bundle, &Device::flex()).unwrap()];
    for task in ["<OD>", "<REGION_TO_OCR><loc_52><loc_332><loc_932><loc_774>"] {
        let whole = native.prompt_ids(task).unwrap();
        let words = other.prompt_ids(task).unwrap();
        assert!(whole.ends_with(&words) && whole.len() > words.len(), "{task}");
    }
    let generate = GenerateOptions { max_tokens: Some(24), ..GenerateOptions::default() };
    let options = CaptionOptions { task: Some("object_detection".into()), generate, ..CaptionOptions::default() };
    let write = |model: &dyn Model| {
        let encoded = model.encode_inputs(checkpoint.pixels("wide")).unwrap();
        model.captioner().unwrap().caption(&encoded, &options, &mut ()).unwrap()
    };
    assert_eq!(write(&*native), write(&*other));
}
