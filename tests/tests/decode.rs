//! Decoding alone against transformers: what processors make of scores, what may be drawn, which sequences beams find
//! (`tools/reference/decode.py`).

use std::collections::BTreeMap;
use std::fs;

use ocelli_flow::{Finish, ModelError, Sampling};
use ocelli_models::text::generate::processors::{Context, of_settings};
use ocelli_models::text::generate::sample::allowed;
use ocelli_models::text::generate::{BeamSettings, Defaults, EarlyStopping, Hypothesis, Settings, Strategy, beams, generate};
use ocelli_models::text::{Start, StepDecoder};
use serde_json::Value;

use crate::checkpoint::ids;
use crate::root;

fn cases() -> Value {
    serde_json::from_slice(&fs::read(root().join("tests/goldens/decode/cases.json")).unwrap()).unwrap()
}

fn floats(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().map_or(f32::NEG_INFINITY, |value| value as f32)).collect()
}

/// One id or several.
fn ends(value: &Value) -> Vec<u32> {
    if value.is_array() { ids(value) } else { value.as_u64().into_iter().map(|id| id as u32).collect() }
}

/// Settings that `generate`'s options stand for, after a prompt of `prompt` tokens.
fn settings(options: &Value, prompt: usize) -> Settings {
    let count = |name: &str| options[name].as_u64().map(|count| count as usize);
    let number = |name: &str| options[name].as_f64().map(|number| number as f32);
    let words = |name: &str| serde_json::from_value(options[name].clone()).unwrap_or_default();
    let early_stopping = match &options["early_stopping"] {
        Value::Bool(true) => EarlyStopping::Full,
        Value::String(never) if never == "never" => EarlyStopping::Never,
        _ => EarlyStopping::Heuristic,
    };
    let defaults = Defaults {
        end: ends(&options["eos_token_id"]),
        max_length: count("max_length"),
        max_new_tokens: count("max_new_tokens"),
        min_length: count("min_length").or(count("min_new_tokens").map(|least| prompt + least)).unwrap_or(0),
        beams: count("num_beams"),
        length_penalty: number("length_penalty"),
        early_stopping,
        repetition_penalty: number("repetition_penalty").or(number("penalty")),
        no_repeat_ngram: count("no_repeat_ngram_size").or(count("ngram_size")).unwrap_or(0),
        forced_first: count("bos_token_id").map(|id| id as u32),
        forced_last: count("forced_eos_token_id").map(|id| id as u32),
        suppressed: words("suppress_tokens"),
        suppressed_first: words("begin_suppress_tokens"),
        bad_words: serde_json::from_value(options["bad_words_ids"].clone()).unwrap_or_default(),
    };
    defaults.settings(&ocelli_flow::GenerateOptions::default(), prompt, 1000).unwrap()
}

fn sampling(options: &Value) -> Sampling {
    let number = |name: &str| options[name].as_f64().map(|number| number as f32);
    Sampling {
        temperature: number("temperature").unwrap_or(1.0),
        top_k: options["top_k"].as_u64().map(|k| k as usize),
        top_p: number("top_p"),
        min_p: number("min_p"),
        seed: 0,
    }
}

fn same(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(a == b || (a - b).abs() <= 1e-5, "{what}: {i} is {a}, not {b}");
    }
}

#[test]
fn scores_become_what_they_become_in_transformers() {
    let mut seen = BTreeMap::<String, usize>::new();
    for case in cases()["processors"].as_array().unwrap() {
        let (name, options) = (case["processor"].as_str().unwrap(), &case["options"]);
        *seen.entry(name.to_owned()).or_default() += 1;
        let (sequence, expected) = (ids(&case["input_ids"]), floats(&case["expected"]));
        let mut scores = floats(&case["scores"]);
        let what = format!("{name} {options}");
        // How much of the sequence is the prompt, where that matters.
        let prompt = options["prompt_length_to_skip"].as_u64().or(options["begin_index"].as_u64()).unwrap_or(1) as usize;
        let mut options = options.clone();
        if name == "forced_eos_token_id" {
            options["forced_eos_token_id"] = options["eos_token_id"].take();
        }
        for processor in &mut of_settings(&settings(&options, prompt)) {
            processor.process(Context { sequence: &sequence, prompt }, &mut scores).unwrap();
        }
        if !["temperature", "top_k", "top_p", "min_p", "all"].contains(&name) {
            same(&what, &scores, &expected);
            continue;
        }
        // What is drawn from are the probabilities.
        let mut found = vec![0.0; scores.len()];
        allowed(&scores, &sampling(&options)).into_iter().for_each(|(token, p)| found[token as usize] = p);
        let total: f32 = expected.iter().map(|score| score.exp()).sum();
        let expected: Vec<f32> = expected.iter().map(|score| score.exp() / total).collect();
        for (token, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(*found == 0.0, *expected == 0.0, "{what}: token {token}");
        }
        same(&what, &found, &expected);
    }
    assert_eq!(seen.len(), 14, "{seen:?}");
}

/// Logits are the row of the last token.
struct Table(Vec<Vec<f32>>);

impl StepDecoder for Table {
    type State = usize; // rows

    fn step(&self, tokens: &[u32], rows: &mut usize) -> Result<Vec<f32>, ModelError> {
        assert_eq!(tokens.len(), *rows);
        Ok(tokens.iter().flat_map(|&token| self.0[token as usize].clone()).collect())
    }

    fn reorder(&self, rows: &mut usize, parents: &[usize]) {
        assert!(parents.iter().all(|parent| parent < rows));
        *rows = parents.len();
    }
}

impl Table {
    fn sequences(&self, prompt: &[u32], settings: &Settings) -> Vec<Hypothesis> {
        let mut state = 1;
        let start = Start { state: &mut state, logits: self.0[*prompt.last().unwrap() as usize].clone(), prompt: prompt.to_vec() };
        match &settings.strategy {
            Strategy::Beams(search) => beams(self, start, 1, settings, search, &mut ()).unwrap().remove(0),
            _ => vec![generate(self, start, settings, Vec::new(), &mut ()).unwrap()],
        }
    }
}

#[test]
fn searches_find_what_those_of_transformers_find() {
    let cases = cases();
    let table = |rows: &Value| Table(rows.as_array().unwrap().iter().map(floats).collect());
    let tables: BTreeMap<&str, Table> =
        cases["tables"].as_object().unwrap().iter().map(|(name, rows)| (name.as_str(), table(rows))).collect();
    let (mut wrong, mut searches) = (Vec::new(), 0);
    for case in cases["beams"].as_array().unwrap() {
        let (table, prompt) = (&tables[case["table"].as_str().unwrap()], ids(&case["prompt"]));
        let settings = settings(&case["options"], prompt.len());
        let found = table.sequences(&prompt, &settings);
        let expected = case["sequences"].as_array().unwrap();
        searches += usize::from(matches!(settings.strategy, Strategy::Beams(BeamSettings { .. })));
        // The end token counts here.
        let same = |found: &Hypothesis, expected: &Value| {
            let mut tokens = ids(&expected["tokens"]);
            let ended = tokens.last().is_some_and(|last| settings.end.contains(last));
            tokens.truncate(tokens.len() - usize::from(ended));
            let score = expected["score"].as_f64().map_or(found.score, |score| score as f32);
            found.tokens == tokens && (found.finish == Finish::End) == ended && (found.score - score).abs() <= 1e-4
        };
        if found.len() != expected.len() || !found.iter().zip(expected).all(|(found, expected)| same(found, expected)) {
            let found: Vec<_> = found.iter().map(|one| (&one.tokens, one.score)).collect();
            wrong.push(format!("{} {prompt:?} {}\n  is  {found:?}\n  not {expected:?}", case["table"], case["options"]));
        }
    }
    assert!(searches > 100, "{searches}");
    assert!(wrong.is_empty(), "{} searches\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
}
