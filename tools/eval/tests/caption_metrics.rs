//! The metrics of captions against pycocoevalcap's values (`tools/reference/caption_metrics.py` writes them).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use ocelli_eval::captions::{Sample, bleu, cider_d, rouge_l, tokenize};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    samples: Vec<Given>,
    tokens: Vec<Tokens>,
    bleu: [f64; 4],
    cider_d: f64,
    cider_d_each: Vec<f64>,
    rouge_l: f64,
}

#[derive(Deserialize)]
struct Given {
    candidate: String,
    references: Vec<String>,
}

#[derive(Deserialize)]
struct Tokens {
    text: String,
    words: Vec<String>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("goldens/caption_metrics.json")).expect("the golden is JSON")
}

fn samples() -> Vec<Sample> {
    golden().samples.iter().map(|given| Sample::new(&given.candidate, &given.references)).collect()
}

/// Both sides compute in f64 from the same counts; only the order of summation differs.
const ROUNDING: f64 = 1e-9;

#[test]
fn words_are_those_of_ptb() {
    for Tokens { text, words } in golden().tokens {
        assert_eq!(tokenize(&text), words, "{text}");
    }
}

#[test]
fn bleu_equals_pycocoevalcap() {
    for (ours, theirs) in bleu(&samples()).into_iter().zip(golden().bleu) {
        assert!((ours - theirs).abs() < ROUNDING, "{ours} {theirs}");
    }
}

#[test]
fn cider_d_equals_pycocoevalcap() {
    let (ours, golden) = (cider_d(&samples()), golden());
    assert!((ours.mean - golden.cider_d).abs() < ROUNDING, "{} {}", ours.mean, golden.cider_d);
    for (i, (ours, theirs)) in ours.each.iter().zip(&golden.cider_d_each).enumerate() {
        assert!((ours - theirs).abs() < ROUNDING, "sample {i}: {ours} {theirs}");
    }
}

#[test]
fn rouge_l_equals_pycocoevalcap() {
    let ours = rouge_l(&samples());
    assert!((ours - golden().rouge_l).abs() < ROUNDING, "{ours}");
}

#[test]
fn nothing_at_all_scores_nothing() {
    let empty = [Sample::new("", [""]), Sample::new("", Vec::<String>::new())];
    assert!(bleu(&empty).iter().all(|score| score.is_finite()));
    assert_eq!(cider_d(&empty).mean, 0.0);
    assert_eq!(rouge_l(&empty), 0.0);
    assert_eq!(cider_d(&[]).mean, 0.0);
}
