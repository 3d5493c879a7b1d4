//! Models that write equal transformers on the same weights: small checkpoints of `tools/reference`, imported, stage by stage.

use burn::tensor::{Device, Tensor};
use ocelli_flow::{
    CaptionOptions, Encoded, Finish, GenerateOptions, Generation, InputValues, Message, Model, ModelError, Part, Prompt, Role,
};
use ocelli_models::blip::{BlipConfig, Parts};
use ocelli_models::blocks::{KeyValue, Linear, VisionTower};
use ocelli_models::encoder_decoder::{EncoderDecoder, EncoderDecoderConfig};
use ocelli_models::table::Storage;
use ocelli_models::text::generate::{Defaults, EarlyStopping, Hypothesis, Strategy, beams};
use ocelli_models::text::{Start, TextTransformer};
use ocelli_models::weights;
use ocelli_pipeline::picture;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, RELATIVE, cosine, devices, generate_options, ids, relative, values};

const READERS: [&str; 3] = ["encoder_decoder/vit_gpt2", "encoder_decoder/deit_trocr", "encoder_decoder/vit_trocr"];
const BLIPS: [&str; 3] = ["blip/caption", "blip/itm", "blip/vqa"];
/// Logits, in numbers of order 1 to 10.
const LOGIT: f32 = 1e-3;

/// The parts of any of them.
struct Opened {
    vision: VisionTower,
    /// From the tower's tokens to what the decoder reads.
    projection: Option<Linear>,
    /// BLIP's, of texts.
    encoder: Option<TextTransformer>,
    decoder: Option<TextTransformer>,
    generation: Defaults,
}

fn open(checkpoint: &Checkpoint, device: &Device) -> Opened {
    let (bundle, config) = (&checkpoint.bundle, &checkpoint.bundle.manifest().config);
    if checkpoint.name.starts_with("blip") {
        let config = BlipConfig::from_json(config).unwrap();
        let parts = weights::open(Parts::init(&config, device), "", bundle, device).unwrap();
        return Opened {
            vision: parts.vision,
            projection: None,
            encoder: parts.encoder,
            decoder: parts.decoder,
            generation: config.generation,
        };
    }
    let config = EncoderDecoderConfig::from_json(config).unwrap();
    let parts = weights::open(EncoderDecoder::init(&config, device), "", bundle, device).unwrap();
    Opened {
        vision: parts.vision,
        projection: parts.projection,
        encoder: None,
        decoder: Some(parts.decoder),
        generation: config.generation,
    }
}

fn all() -> impl Iterator<Item = &'static str> {
    READERS.into_iter().chain(BLIPS)
}

fn cases(checkpoint: &Checkpoint) -> &[Value] {
    checkpoint.facts["cases"].as_array().unwrap()
}

fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

fn seen(checkpoint: &Checkpoint, opened: &Opened, picture: &str, device: &Device) -> Tensor<3> {
    opened.vision.forward(checkpoint.burn(&format!("pixel_values.{picture}"), device)).tokens
}

/// What the decoder reads in a case.
fn memory(checkpoint: &Checkpoint, opened: &Opened, case: &Value, device: &Device) -> Tensor<3> {
    let tokens = seen(checkpoint, opened, case["pictures"][0].as_str().unwrap(), device);
    match (&opened.projection, &opened.encoder) {
        (Some(projection), _) => projection.forward(tokens),
        (None, Some(encoder)) => encoder.encode(&ids(&case["input_ids"]), &encoder.memory(&tokens)),
        (None, None) => tokens,
    }
}

fn assert_near(checkpoint: &Checkpoint, name: &str, found: &Tensor<3>) {
    let off = relative(&values(found), &checkpoint.floats(name));
    println!("{}: {name} {off:.1e}", checkpoint.name);
    assert!(off <= RELATIVE, "{}: {name} is off by {off}", checkpoint.name);
}

#[test]
fn every_layer_of_the_towers_is_that_of_transformers() {
    for name in all() {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        for device in devices() {
            let opened = open(&checkpoint, &device);
            let mut x: Tensor<3> = checkpoint.burn("vision.wide.embeddings", &device);
            for (i, layer) in opened.vision.layers.iter().enumerate() {
                x = layer.forward(x);
                assert_near(&checkpoint, &format!("vision.wide.layers.{i}"), &x);
            }
            let tokens = seen(&checkpoint, &opened, "wide", &device);
            assert_near(&checkpoint, "vision.wide.post_norm", &tokens);
            if let Some(projection) = &opened.projection {
                assert_near(&checkpoint, "vision.wide.projected", &projection.forward(tokens));
            }
        }
    }
}

/// From embedded tokens through the layers; positions that come before do not hang on those that come after.
fn assert_layers(checkpoint: &Checkpoint, prefix: &str, text: &TextTransformer, memory: &[Option<KeyValue>], causal: bool) {
    let device = text.layers[0].attention_norm.gamma.device();
    let embeddings = format!("{prefix}.embeddings");
    if checkpoint.tensor(&embeddings).is_none() {
        return;
    }
    let mut x: Tensor<3> = checkpoint.burn(&embeddings, &device);
    let [_, tokens, d] = x.dims();
    for (i, layer) in text.layers.iter().enumerate() {
        let memory = memory.get(i).and_then(Option::as_ref);
        x = if causal {
            let empty = [Tensor::zeros([1, tokens, d], &device), Tensor::zeros([1, tokens, d], &device)];
            layer.decode(x, empty, 0, memory).0
        } else {
            layer.encode(x, None, memory)
        };
        assert_near(checkpoint, &format!("{prefix}.layers.{i}"), &x);
    }
}

#[test]
fn decoders_say_what_those_of_transformers_say() {
    for name in all().filter(|name| *name != "blip/itm") {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        for device in devices() {
            let opened = open(&checkpoint, &device);
            let decoder = opened.decoder.as_ref().unwrap();
            for case in cases(&checkpoint) {
                let at = format!("decoder.{}", self::name(case));
                if checkpoint.tensor(&format!("{at}.logits")).is_none() {
                    continue;
                }
                let memory = decoder.memory(&memory(&checkpoint, &opened, case, &device));
                assert_layers(&checkpoint, &at, decoder, &memory, true);

                let tokens: Vec<u32> = [ids(&case["decoder_input_ids"]), ids(&case["generations"][0]["tokens"])].concat();
                let mut cache = decoder.cache(memory.clone(), tokens.len());
                let hidden = decoder.decode(&tokens, 1, &mut cache);
                assert_near(&checkpoint, &format!("{at}.hidden"), &hidden);
                let found = values(&decoder.logits(hidden.squeeze_dim(0)));
                let expected = checkpoint.floats(&format!("{at}.logits"));
                let off = furthest(&found, &expected);
                println!("{name}: {at}.logits {off:.1e}");
                assert!(off <= LOGIT, "{name}: logits of {at} are off by {off}");

                // Token by token.
                let mut cache = decoder.cache(memory, tokens.len());
                let mut steps = Vec::new();
                for &token in &tokens {
                    steps.extend(values(&decoder.logits(decoder.decode(&[token], 1, &mut cache).squeeze_dim(0))));
                }
                let off = furthest(&steps, &expected);
                println!("{name}: {at}.logits, token by token {off:.1e}");
                assert!(off <= LOGIT, "{name}: logits of {at}, token by token, are off by {off}");
            }
        }
    }
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn near(what: &str, found: f32, expected: &Value) {
    let expected = expected.as_f64().unwrap() as f32;
    assert!((found - expected).abs() <= 1e-3, "{what}: {found}, not {expected}");
}

fn assert_sequence(what: &str, found: &Hypothesis, expected: &Value) {
    assert_eq!(found.tokens, ids(&expected["tokens"]), "{what}");
    assert_eq!(found.finish == Finish::End, expected["ended"].as_bool().unwrap(), "{what}");
    near(&format!("{what}: logprob"), found.logprob(), &expected["logprob"]);
    if !expected["score"].is_null() {
        near(&format!("{what}: score"), found.score, &expected["score"]);
    }
}

/// What the model writes in a case, by the traits.
fn written(model: &dyn Model, encoded: &Encoded, case: &Value, generate: GenerateOptions) -> Generation {
    if let Some(captioner) = model.captioner() {
        let prompt = case["prompt"].as_str().map(str::to_owned);
        let caption = captioner.caption(encoded, &CaptionOptions { prompt, task: None, generate }, &mut ()).unwrap();
        let (text, tokens, score) = (caption.text, caption.tokens, caption.score);
        return Generation { text, tokens, token_logprobs: vec![caption.logprob], score, finish: Finish::End };
    }
    let prompt = Prompt::Raw(case["question"].as_str().unwrap().to_owned());
    model.answerer().unwrap().ask(&[encoded], &prompt, &generate, &mut ()).unwrap()
}

#[test]
fn the_same_texts_are_written() {
    for name in all().filter(|name| *name != "blip/itm") {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        for device in devices() {
            let (opened, model) = (open(&checkpoint, &device), checkpoint.model(&device));
            let decoder = opened.decoder.as_ref().unwrap();
            for case in cases(&checkpoint) {
                let encoded = model.encode_inputs(checkpoint.pixels(case["pictures"][0].as_str().unwrap())).unwrap();
                let memory = memory(&checkpoint, &opened, case, &device);
                let prompt = ids(&case["decoder_input_ids"]);
                for expected in case["generations"].as_array().unwrap() {
                    let asked = &expected["options"];
                    let what = format!("{name}: {}, {asked}", self::name(case));
                    let full = asked["early_stopping"] == true;
                    if !full {
                        let found = written(&*model, &encoded, case, generate_options(asked));
                        assert_eq!(found.tokens, ids(&expected["tokens"]), "{what}");
                        assert_eq!(found.text, expected["text"], "{what}");
                        near(&format!("{what}: logprob"), found.logprob(), &expected["logprob"]);
                    }
                    let Some(kept) = expected["beams"].as_array() else { continue };
                    let early_stopping = if full { EarlyStopping::Full } else { EarlyStopping::Heuristic };
                    let defaults = Defaults { early_stopping, ..opened.generation.clone() };
                    let settings = defaults.settings(&generate_options(asked), prompt.len(), decoder.max_tokens() - prompt.len()).unwrap();
                    let Strategy::Beams(search) = &settings.strategy else { panic!() };
                    let (mut state, logits) = decoder.start(&memory, &prompt, settings.max_tokens).unwrap();
                    let start = Start { state: &mut state, logits, prompt: prompt.clone() };
                    let found = beams(decoder, start, 1, &settings, search, &mut ()).unwrap().remove(0);
                    assert_eq!(found.len(), kept.len(), "{what}");
                    for (i, (found, expected)) in found.iter().zip(kept).enumerate() {
                        assert_sequence(&format!("{what}: beam {i}"), found, expected);
                    }
                }
            }
        }
    }
}

#[test]
fn prompts_are_those_of_transformers() {
    let caption = Checkpoint::new("blip/caption", Storage::F32);
    let model = caption.model(&Device::flex());
    let prompts: Vec<_> = cases(&caption).iter().filter(|case| !case["prompt"].is_null()).collect();
    assert_eq!(prompts.len(), 2);
    for case in prompts {
        assert_eq!(model.prompt_ids(case["prompt"].as_str().unwrap()).unwrap(), ids(&case["decoder_input_ids"]));
    }
    let vqa = Checkpoint::new("blip/vqa", Storage::F32);
    let model = vqa.model(&Device::flex());
    for case in cases(&vqa) {
        assert_eq!(model.prompt_ids(case["question"].as_str().unwrap()).unwrap(), ids(&case["input_ids"]));
    }
    let itm = Checkpoint::new("blip/itm", Storage::F32);
    let model = itm.model(&Device::flex());
    for (text, expected) in itm.strings("texts").iter().zip(itm.facts["ids"].as_array().unwrap()) {
        assert_eq!(model.prompt_ids(text).unwrap(), ids(expected), "{text:?}");
    }
}

#[test]
fn questions_are_read_with_the_picture() {
    let checkpoint = Checkpoint::new("blip/vqa", Storage::F32);
    for device in devices() {
        let opened = open(&checkpoint, &device);
        let encoder = opened.encoder.as_ref().unwrap();
        for case in cases(&checkpoint) {
            let at = format!("question.{}", name(case));
            let picture = seen(&checkpoint, &opened, case["pictures"][0].as_str().unwrap(), &device);
            assert_layers(&checkpoint, &at, encoder, &encoder.memory(&picture), false);
            // Of the first case there are the layers, the last of which is what the others call hidden.
            let last = if checkpoint.tensor(&format!("{at}.hidden")).is_some() { "hidden" } else { "layers.1" };
            assert_near(&checkpoint, &format!("{at}.{last}"), &memory(&checkpoint, &opened, case, &device));
        }
    }
}

#[test]
fn texts_match_pictures_as_transformers_has_it() {
    let checkpoint = Checkpoint::new("blip/itm", Storage::F32);
    let texts = checkpoint.strings("texts");
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for device in devices() {
        let opened = open(&checkpoint, &device);
        let encoder = opened.encoder.as_ref().unwrap();
        assert_layers(&checkpoint, "text.0", encoder, &[], false);
        let joint = encoder.memory(&seen(&checkpoint, &opened, "wide", &device));
        assert_layers(&checkpoint, "joint.wide.0", encoder, &joint, false);
        for (i, expected) in checkpoint.facts["ids"].as_array().unwrap().iter().enumerate() {
            assert_near(&checkpoint, &format!("text.{i}.hidden"), &encoder.encode(&ids(expected), &[]));
        }

        let model = checkpoint.model(&device);
        let (matcher, embedder) = (model.matcher().unwrap(), model.embedder().unwrap());
        let read = embedder.embed_text(&texts, false).unwrap();
        let off = relative(&concat(&read), &checkpoint.floats("text_embeds"));
        assert!(off <= RELATIVE, "texts are off by {off}");
        for case in cases(&checkpoint) {
            let picture = name(case);
            let encoded = model.encode_inputs(checkpoint.pixels(picture)).unwrap();
            let image = embedder.embed_image(&encoded, false).unwrap();
            let off = relative(&image.values, &checkpoint.floats(&format!("image_embeds.{picture}")));
            assert!(off <= RELATIVE, "{picture} is off by {off}");
            let found = matcher.match_texts(&encoded, &texts).unwrap();
            let scores = case["scores"].as_array().unwrap();
            assert_eq!(found.len(), scores.len());
            for (found, expected) in found.iter().zip(scores) {
                near(&format!("{picture}: {expected}"), found.score, &expected["score"]);
                near(&format!("{picture}: {expected}"), found.cosine.unwrap(), &expected["cosine"]);
            }
        }
    }
}

fn concat(embeddings: &[ocelli_flow::Embedding]) -> Vec<f32> {
    embeddings.iter().flat_map(|embedding| embedding.values.clone()).collect()
}

/// From the picture's file on, whatever it is: grey, with alpha, tiny.
#[test]
fn pixels_are_those_of_the_image_processors() {
    for name in all() {
        let checkpoint = Checkpoint::new(name, Storage::F32);
        let model = checkpoint.model(&Device::flex());
        let pictures = checkpoint.pictures();
        assert_eq!(pictures.len(), 5);
        for picture in pictures {
            let frame = picture::decode(&checkpoint.file(&picture)).unwrap();
            let found = model.preprocess(&frame).unwrap();
            let (found, expected) = (found.tensor("pixel_values").unwrap(), checkpoint.tensor(&format!("pixel_values.{picture}")).unwrap());
            assert_eq!(found.shape, expected.shape, "{name}: {picture}");
            let (InputValues::F32(a), InputValues::F32(b)) = (&found.values, &expected.values) else { panic!() };
            // A grey level, in units of the smallest standard deviation in use, .26.
            let off = a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1.01 / 255.0 / 0.26).count();
            assert!(off * 1000 <= a.len(), "{name}: {picture}: {off} of {} pixels are off", a.len());
        }
    }
}

/// Layer by layer, each on what the reference gives it: small models with random weights make more of every difference.
#[test]
fn integers_say_what_single_precision_says() {
    let device = Device::flex();
    let least = 0.999;
    for name in all().filter(|name| *name != "blip/itm") {
        let checkpoint = Checkpoint::new(name, Storage::Int8);
        let exact = Checkpoint::new(name, Storage::F32);
        let (opened, right) = (open(&checkpoint, &device), open(&exact, &device));
        let (decoder, case) = (opened.decoder.as_ref().unwrap(), &cases(&checkpoint)[0]);
        let near = |what: &str, found: &[f32], expected: &[f32]| {
            let cosine = cosine(found, expected);
            println!("{name}: {what} in int8: {cosine:.5}");
            assert!(cosine >= least, "{name}: {what}: {cosine}");
        };
        let tokens = memory(&exact, &right, case, &device);
        near("memory", &values(&memory(&checkpoint, &opened, case, &device)), &values(&tokens));
        let memory = decoder.memory(&tokens);
        let at = format!("decoder.{}", self::name(case));
        let stages = ["embeddings".to_owned(), "layers.0".to_owned(), "layers.1".to_owned()].map(|stage| format!("{at}.{stage}"));
        for (i, layer) in decoder.layers.iter().enumerate().filter(|(i, _)| checkpoint.tensor(&stages[*i]).is_some()) {
            let x: Tensor<3> = checkpoint.burn(&stages[i], &device);
            let empty = || Tensor::zeros(x.dims(), &device);
            let y = layer.decode(x.clone(), [empty(), empty()], 0, memory[i].as_ref()).0;
            near(&stages[i + 1], &values(&y), &checkpoint.floats(&stages[i + 1]));
        }
        let hidden: Tensor<3> = checkpoint.burn(&format!("{at}.hidden"), &device);
        near("logits", &values(&decoder.logits(hidden.squeeze_dim(0))), &checkpoint.floats(&format!("{at}.logits")));

        let model = checkpoint.model(&device);
        let encoded = model.encode_inputs(checkpoint.pixels("wide")).unwrap();
        let asked = generate_options(&case["generations"][0]["options"]);
        let text = written(&*model, &encoded, case, asked);
        assert!(!text.tokens.is_empty());
    }
}

#[test]
fn integers_put_pictures_and_texts_where_single_precision_does() {
    let checkpoint = Checkpoint::new("blip/itm", Storage::Int8);
    let model = checkpoint.model(&Device::flex());
    let embedder = model.embedder().unwrap();
    let texts = checkpoint.strings("texts");
    let read = embedder.embed_text(&texts.iter().map(String::as_str).collect::<Vec<_>>(), false).unwrap();
    let cosine_of_texts = cosine(&concat(&read), &checkpoint.floats("text_embeds"));
    assert!(cosine_of_texts >= 0.999, "{cosine_of_texts}");
    for picture in checkpoint.pictures() {
        let encoded = model.encode_inputs(checkpoint.pixels(&picture)).unwrap();
        let image = embedder.embed_image(&encoded, false).unwrap();
        let cosine = cosine(&image.values, &checkpoint.floats(&format!("image_embeds.{picture}")));
        assert!(cosine >= 0.999, "{picture}: {cosine}");
        assert_eq!(model.matcher().unwrap().match_texts(&encoded, &["a cat"]).unwrap().len(), 1);
    }
}

#[test]
fn one_question_about_one_picture() {
    let checkpoint = Checkpoint::new("blip/vqa", Storage::F32);
    let model = checkpoint.model(&Device::flex());
    let answerer = model.answerer().unwrap();
    let encoded = model.encode_inputs(checkpoint.pixels("wide")).unwrap();
    let case = &cases(&checkpoint)[0];
    let text = Part::Text(case["question"].as_str().unwrap().to_owned());
    let user = Message { role: Role::User, parts: vec![Part::Picture, text.clone()] };
    let options = generate_options(&case["generations"][0]["options"]);
    let found = answerer.ask(&[&encoded], &Prompt::Messages(vec![user.clone()]), &options, &mut ()).unwrap();
    assert_eq!(found.tokens, ids(&case["generations"][0]["tokens"]));
    let other = Message { role: Role::Assistant, parts: vec![text] };
    for (pictures, prompt) in [
        (vec![&encoded, &encoded], Prompt::Messages(vec![user.clone()])),
        (vec![], Prompt::Messages(vec![user.clone()])),
        (vec![&encoded], Prompt::Messages(vec![user.clone(), other, user])),
        (vec![&encoded], Prompt::Raw("why ".repeat(200))),
    ] {
        assert!(answerer.ask(&pictures, &prompt, &options, &mut ()).is_err());
    }
}

#[test]
fn what_a_model_cannot_do_is_said() {
    let checkpoint = Checkpoint::new("encoder_decoder/vit_gpt2", Storage::F32);
    let model = checkpoint.model(&Device::flex());
    let encoded = model.encode_inputs(checkpoint.pixels("wide")).unwrap();
    let caption = |prompt: &str, max_tokens: Option<usize>| {
        let generate = GenerateOptions { max_tokens, ..GenerateOptions::default() };
        model.captioner().unwrap().caption(&encoded, &CaptionOptions { prompt: Some(prompt.to_owned()), task: None, generate }, &mut ())
    };
    // 80 places: the start token, the prompt and what is written share them.
    let error = caption(&"a dog ".repeat(60), None).unwrap_err();
    assert!(matches!(error, ModelError::Option { option: "prompt", .. }), "{error}");
    let written = caption("a dog", Some(1000)).unwrap().tokens.len();
    assert!((1..80).contains(&written), "{written}");
}
