//! How a checkpoint chooses tokens: its `generation_config.json`, or the fields of its configuration that came before there was one.

use serde_json::Value;

use super::PlanError;
use super::fields::Fields;
use crate::text::generate::{Defaults, EarlyStopping};

/// What the checkpoint says of generation. `own` are the configurations of the parts that write, whose fields count where
/// `generation_config.json` is missing, the first that has one.
///
/// # Errors
/// Names a field that is no number or token.
pub fn defaults(generation: &Value, own: &[&Value]) -> Result<Defaults, PlanError> {
    let sources: Vec<&Value> = if generation.is_object() { vec![generation] } else { own.to_vec() };
    let get = |name: &str| sources.iter().map(|source| &source[name]).find(|value| !value.is_null());
    let wrong = |name: &str, value: &Value, what: &str| PlanError::Field {
        field: format!("{name} of generation_config.json"),
        reason: format!("is {value}, not {what}"),
    };
    let size = |name: &str| -> Result<Option<usize>, PlanError> {
        let Some(value) = get(name) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| wrong(name, value, "a count"))
    };
    let number = |name: &str| -> Result<Option<f32>, PlanError> {
        let Some(value) = get(name) else { return Ok(None) };
        value.as_f64().map(|number| Some(number as f32)).ok_or_else(|| wrong(name, value, "a number"))
    };
    let tokens = |name: &str| -> Result<Vec<u32>, PlanError> {
        let Some(value) = get(name) else { return Ok(Vec::new()) };
        let each = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| wrong(name, value, "token ids"));
        each.iter().map(id).collect()
    };
    let bad_words = match get("bad_words_ids") {
        None => Vec::new(),
        Some(value) => serde_json::from_value(value.clone()).map_err(|_| wrong("bad_words_ids", value, "lists of token ids"))?,
    };
    let early_stopping = match get("early_stopping") {
        Some(Value::Bool(true)) => EarlyStopping::Full,
        Some(Value::String(never)) if never == "never" => EarlyStopping::Never,
        _ => EarlyStopping::Heuristic,
    };
    Ok(Defaults {
        end: tokens("eos_token_id")?,
        max_length: size("max_length")?,
        max_new_tokens: size("max_new_tokens")?,
        min_length: size("min_length")?.unwrap_or(0),
        beams: size("num_beams")?,
        length_penalty: number("length_penalty")?,
        early_stopping,
        repetition_penalty: number("repetition_penalty")?,
        no_repeat_ngram: size("no_repeat_ngram_size")?.unwrap_or(0),
        forced_first: tokens("forced_bos_token_id")?.first().copied(),
        forced_last: tokens("forced_eos_token_id")?.first().copied(),
        suppressed: tokens("suppress_tokens")?,
        suppressed_first: tokens("begin_suppress_tokens")?,
        bad_words,
    })
}

/// A token's id of `generation_config.json`, or of the first of the other configurations that has it.
///
/// # Errors
/// Where none has it, or it is no token's id.
pub fn token(generation: &Value, own: &[&Value], name: &str) -> Result<u32, PlanError> {
    let all = std::iter::once(generation).chain(own.iter().copied());
    let found = all.map(|source| &source[name]).find(|value| !value.is_null());
    match found {
        None => Err(Fields::new(generation).wrong(name, "is missing, in generation_config.json, too")),
        Some(value) => {
            let id = value.get(0).unwrap_or(value).as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| Fields::new(generation).wrong(name, format!("is {value}, not a token's id")))
        }
    }
}
