//! Idefics3, SmolVLM and a Llama equal transformers on the same weights: pixels, prompts, layers, logits, and what is written.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_flow::{Encoded, GenerateOptions, Generation, InputTensor, InputValues, Inputs, Message, Model, Part, Prompt, Role, Sampling};
use ocelli_models::smolvlm::SmolVlm;
use ocelli_models::table::Storage;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, RELATIVE, cosine, devices, generate_options, ids, relative};

const WITH_PICTURES: [&str; 2] = ["smolvlm/idefics3", "smolvlm/smolvlm"];
const ALL: [&str; 3] = ["smolvlm/idefics3", "smolvlm/smolvlm", "smolvlm/text"];
/// What single precision over two layers leaves of a logit, whose size is about ten.
pub const LOGIT: f32 = 1e-3;

pub fn load(checkpoint: &Checkpoint, device: &Device) -> SmolVlm {
    SmolVlm::load(&checkpoint.bundle, device).unwrap_or_else(|error| panic!("{}: {error}", checkpoint.name))
}

pub fn cases(checkpoint: &Checkpoint) -> Vec<Value> {
    let cases: Vec<Value> = checkpoint.facts["cases"].as_array().unwrap().clone();
    // Pictures of several sizes in a row exist in a batch only.
    cases.into_iter().filter(|case| case["name"] != "padded").collect()
}

pub fn prompt(case: &Value) -> Prompt {
    let Some(messages) = case["messages"].as_array() else { return Prompt::Raw(case["prompt"].as_str().unwrap().to_owned()) };
    let part = |part: &Value| match part["text"].as_str() {
        Some(text) => Part::Text(text.to_owned()),
        None => Part::Picture,
    };
    let message = |message: &Value| Message {
        role: match message["role"].as_str().unwrap() {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        },
        parts: match &message["content"] {
            Value::String(text) => vec![Part::Text(text.clone())],
            parts => parts.as_array().unwrap().iter().map(part).collect(),
        },
    };
    Prompt::Messages(messages.iter().map(message).collect())
}

/// The pictures of a case, each with the reference's own pixels.
pub fn encoded(checkpoint: &Checkpoint, case: &Value, model: &dyn Model) -> Vec<Encoded> {
    let pictures = case["pictures"].as_array().unwrap();
    if pictures.is_empty() {
        return Vec::new();
    }
    let all = checkpoint.tensor(&format!("pixel_values.{}", case["name"].as_str().unwrap())).unwrap();
    let (InputValues::F32(values), shape) = (all.values, all.shape) else { panic!() };
    let plane: usize = shape[2..].iter().product();
    let number = |key: &str, i: usize| case[key][i].as_i64().unwrap();
    let mut from = 0;
    let each = pictures.iter().enumerate().map(|(i, picture)| {
        let [rows, columns] = [number("rows", i), number("cols", i)];
        let count = (rows * columns + 1) as usize;
        let tensor = |name: &'static str, shape: Vec<usize>, values| InputTensor { name: name.into(), shape, values };
        let mut of = vec![1, count];
        of.extend(&shape[2..]);
        let tensors = vec![
            tensor("pixel_values", of, InputValues::F32(values[from * plane..(from + count) * plane].to_vec())),
            tensor("rows", vec![1, 1], InputValues::I64(vec![rows])),
            tensor("cols", vec![1, 1], InputValues::I64(vec![columns])),
        ];
        from += count;
        let (width, height) = image::image_dimensions(checkpoint.file(picture.as_str().unwrap())).unwrap();
        model.encode_inputs(Inputs { width, height, tensors }).unwrap()
    });
    each.collect()
}

pub fn write(model: &SmolVlm, pictures: &[Encoded], prompt: &Prompt, options: &GenerateOptions) -> Generation {
    let pictures: Vec<&Encoded> = pictures.iter().collect();
    model.answerer().unwrap().ask(&pictures, prompt, options, &mut ()).unwrap()
}

#[test]
fn prompts_are_those_of_the_processor() {
    for name in ALL {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let model = load(&checkpoint, &Device::flex());
        for case in cases(&checkpoint) {
            let encoded = encoded(&checkpoint, &case, &model);
            let (text, found) = model.prompt(&encoded.iter().collect::<Vec<_>>(), &prompt(&case)).unwrap();
            assert_eq!(text, case["prompt"].as_str().unwrap(), "{name}: {}", case["name"]);
            assert_eq!(found, ids(&case["input_ids"]), "{name}: {}", case["name"]);
        }
    }
}

#[test]
fn pixels_are_those_of_the_processor() {
    for name in WITH_PICTURES {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let model = load(&checkpoint, &Device::flex());
        for case in cases(&checkpoint).iter().filter(|case| case["pictures"].as_array().unwrap().len() == 1) {
            let picture = case["pictures"][0].as_str().unwrap();
            let frame = ocelli_pipeline::picture::decode(&checkpoint.file(picture)).unwrap();
            let whole = case["options"]["do_image_splitting"] == false;
            let inputs = if whole { model.preprocess_in_tiles(&frame, 1) } else { model.preprocess(&frame) }.unwrap();
            let InputValues::F32(found) = &inputs.tensor("pixel_values").unwrap().values else { panic!() };
            let expected = checkpoint.floats(&format!("pixel_values.{}", case["name"].as_str().unwrap()));
            assert_eq!(found.len(), expected.len(), "{name}: {}", case["name"]);
            let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= 1e-6, "{name}: {}: {off}", case["name"]);
        }
    }
}

#[test]
fn every_stage_of_the_picture_is_that_of_transformers() {
    for name in WITH_PICTURES {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        for device in devices() {
            let model = load(&checkpoint, &device);
            let tower = model.network().vision.as_ref().unwrap();
            let shuffle = checkpoint.facts_of_config("scale_factor");
            let all = checkpoint.tensor("pixel_values.tiles").unwrap();
            let (InputValues::F32(pixels), shape) = (all.values, all.shape) else { panic!() };
            let tiles = Tensor::<4>::from_data(TensorData::new(pixels, [shape[1], shape[2], shape[3], shape[4]]), &device);
            let close = |stage: &str, found: Tensor<3>| {
                let expected = checkpoint.floats(&format!("vision.tiles.{stage}"));
                let [count, tokens, width] = found.dims();
                let mut found: Vec<f32> = found.into_data().try_into_vec().unwrap();
                if found.len() != expected.len() {
                    // Kept of the first tile and the last, which is the whole picture.
                    found.drain(tokens * width..(count - 1) * tokens * width);
                }
                let off = relative(&found, &expected);
                assert!(off <= RELATIVE, "{name}: {stage} is off by {off}");
            };
            close("post_norm", tower.forward(tiles.clone()).tokens);
            let vectors = model.network().see(tiles, shuffle).unwrap();
            let [rows, width] = vectors.dims();
            close("connector", vectors.reshape([shape[1], rows / shape[1], width]));
        }
    }
}

#[test]
fn logits_are_those_of_transformers() {
    for name in ALL {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        for device in devices() {
            let model = load(&checkpoint, &device);
            for case in cases(&checkpoint) {
                let case_name = case["name"].as_str().unwrap();
                let Some(expected) = checkpoint.tensor(&format!("decoder.{case_name}.logits")) else { continue };
                let InputValues::F32(expected) = expected.values else { panic!() };
                let hidden = checkpoint.floats(&format!("decoder.{case_name}.hidden"));
                let pictures = encoded(&checkpoint, &case, &model);
                let tokens = ids(&case["generations"][0]["tokens"]);
                let (found_hidden, found) = model.teacher_forced(&pictures.iter().collect::<Vec<_>>(), &prompt(&case), &tokens).unwrap();
                let off = relative(&found_hidden, &hidden);
                assert!(off <= RELATIVE, "{name}: {case_name}: hidden states are off by {off}");
                // Logits are kept from the prompt's last position on.
                let off = found[found.len() - expected.len()..].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= LOGIT, "{name}: {case_name}: logits are off by {off}");
            }
        }
    }
}

#[test]
fn what_is_written_is_what_transformers_writes() {
    for name in ALL {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let model = load(&checkpoint, &Device::flex());
        for case in cases(&checkpoint) {
            let pictures = encoded(&checkpoint, &case, &model);
            for generation in case["generations"].as_array().unwrap() {
                // The checkpoints say nothing of early stopping, and a user cannot.
                if generation["options"]["early_stopping"] == true {
                    continue;
                }
                let found = write(&model, &pictures, &prompt(&case), &generate_options(&generation["options"]));
                let what = format!("{name}: {}: {}", case["name"], generation["options"]);
                assert_eq!(found.tokens, ids(&generation["tokens"]), "{what}");
                assert_eq!(found.text, generation["text"].as_str().unwrap(), "{what}");
                let logprob = generation["logprob"].as_f64().unwrap() as f32;
                assert!((found.logprob() - logprob).abs() <= 1e-3, "{what}: {} is not {logprob}", found.logprob());
                if let Some(score) = generation["score"].as_f64() {
                    assert!((f64::from(found.score) - score).abs() <= 1e-3, "{what}: {} is not {score}", found.score);
                }
            }
        }
    }
}

/// A second question about the same picture, and the same question about another, read only what is new, and give the same words.
#[test]
fn a_prompt_that_begins_like_the_last_is_not_read_again() {
    let checkpoint = Checkpoint::new("smolvlm/smolvlm", Storage::F32);
    let cases = cases(&checkpoint);
    let warm = load(&checkpoint, &Device::flex());
    let mut encoded_once = Vec::new();
    for case in &cases {
        encoded_once.push(encoded(&checkpoint, case, &warm));
    }
    let mut read = Vec::new();
    for round in 0..2 {
        for (case, pictures) in cases.iter().zip(&encoded_once) {
            let found = write(&warm, pictures, &prompt(case), &generate_options(&case["generations"][0]["options"]));
            assert_eq!(found.tokens, ids(&case["generations"][0]["tokens"]), "round {round}: {}", case["name"]);
            read.push(warm.shared_last());
        }
        // At once again: all but the last place is there.
        let (case, pictures) = (&cases[0], &encoded_once[0]);
        write(&warm, pictures, &prompt(case), &generate_options(&case["generations"][0]["options"]));
        write(&warm, pictures, &prompt(case), &generate_options(&case["generations"][0]["options"]));
        assert_eq!(warm.shared_last(), ids(&case["input_ids"]).len() - 1);
    }
    assert!(read.iter().any(|&shared| shared > 0), "{read:?}");
}

#[test]
fn the_same_seed_draws_the_same_words() {
    let checkpoint = Checkpoint::new("smolvlm/text", Storage::F32);
    let model = load(&checkpoint, &Device::flex());
    let prompt = Prompt::Raw("A red bus".into());
    let sampling = |seed, temperature| Sampling { temperature, top_k: Some(40), top_p: Some(0.95), min_p: None, seed };
    let draw = |seed, temperature| {
        let options = GenerateOptions { max_tokens: Some(16), sampling: Some(sampling(seed, temperature)), ..GenerateOptions::default() };
        write(&model, &[], &prompt, &options).tokens
    };
    assert_eq!(draw(1, 1.0), draw(1, 1.0));
    let drawn: std::collections::BTreeSet<Vec<u32>> = (0..8).map(|seed| draw(seed, 1.5)).collect();
    assert!(drawn.len() > 4, "{drawn:?}");
    let greedy = write(&model, &[], &prompt, &GenerateOptions { max_tokens: Some(16), ..GenerateOptions::default() });
    assert_eq!(draw(3, 0.01), greedy.tokens);
}

#[test]
fn grammars_are_followed() {
    use ocelli_flow::Grammar;
    let checkpoint = Checkpoint::new("smolvlm/smolvlm", Storage::F32);
    let model = load(&checkpoint, &Device::flex());
    let case = &cases(&checkpoint)[0];
    let pictures = encoded(&checkpoint, case, &model);
    let ask = |grammar: Grammar, max_tokens| {
        let options = GenerateOptions { max_tokens: Some(max_tokens), grammar: Some(grammar), ..GenerateOptions::default() };
        let pictures: Vec<&Encoded> = pictures.iter().collect();
        model.answerer().unwrap().ask(&pictures, &prompt(case), &options, &mut ())
    };
    let schema = r#"{"type": "object", "properties": {"animal": {"enum": ["cat", "dog"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["animal", "count"], "additionalProperties": false}"#;
    let answer = ask(Grammar::JsonSchema(schema.into()), 60).unwrap();
    let value: Value = serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {}", answer.text));
    assert!(["cat", "dog"].contains(&value["animal"].as_str().unwrap()) && value["count"].as_u64().unwrap() <= 9, "{value}");
    let answer = ask(Grammar::Regex("(yes|no), [0-9]{2}".into()), 20).unwrap();
    let (word, number) = answer.text.split_once(", ").unwrap();
    assert!(["yes", "no"].contains(&word) && number.len() == 2 && number.parse::<u8>().is_ok(), "{}", answer.text);
    let answer = ask(Grammar::Lark("start: \"a\" (\" red\" | \" black\") \" bus\"".into()), 20).unwrap();
    assert!(["a red bus", "a black bus"].contains(&answer.text.as_str()), "{}", answer.text);
    for wrong in [Grammar::JsonSchema("{".into()), Grammar::Regex("(".into()), Grammar::Lark("start: nowhere".into())] {
        assert!(ask(wrong, 5).unwrap_err().to_string().contains("cannot be followed"));
    }
    let beams = GenerateOptions { beams: Some(3), grammar: Some(Grammar::Regex("a".into())), ..GenerateOptions::default() };
    let pictures: Vec<&Encoded> = pictures.iter().collect();
    assert!(model.answerer().unwrap().ask(&pictures, &prompt(case), &beams, &mut ()).is_err());
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let checkpoint = Checkpoint::new("smolvlm/smolvlm", Storage::F32);
    let model = load(&checkpoint, &Device::flex());
    let case = &cases(&checkpoint)[0];
    let pictures = encoded(&checkpoint, case, &model);
    let pictures: Vec<&Encoded> = pictures.iter().collect();
    let ask = |text: &str| {
        model.answerer().unwrap().ask(&pictures, &Prompt::Raw(text.into()), &GenerateOptions::default(), &mut ()).unwrap_err().to_string()
    };
    assert!(ask("<image><image> what?").contains("2 markers"));
    assert!(ask("what?").contains("0 markers"));
    assert!(ask(&format!("<image>{}", "a red bus ".repeat(400))).contains("context"));
}

#[test]
fn bytes_say_what_floats_say() {
    for name in WITH_PICTURES {
        let [exact, rounded] = [Storage::F32, Storage::Int8].map(|storage| Checkpoint::new(name, storage));
        let [exact_model, rounded_model] = [&exact, &rounded].map(|checkpoint| load(checkpoint, &Device::flex()));
        let case = &cases(&exact)[0];
        let tokens = ids(&case["generations"][0]["tokens"]);
        let logits = |checkpoint: &Checkpoint, model: &SmolVlm| {
            let pictures = encoded(checkpoint, case, model);
            model.teacher_forced(&pictures.iter().collect::<Vec<_>>(), &prompt(case), &tokens).unwrap().1
        };
        let cosine = cosine(&logits(&exact, &exact_model), &logits(&rounded, &rounded_model));
        assert!(cosine >= 0.99, "{name}: {cosine}");
    }
}
