//! What grounding is asked, and what the right answers are.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_flow::BoundingBox;

use super::records::{Boxed, Entities, corners};

/// A phrase asked of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Phrase {
    /// Index of the picture among the records.
    pub picture: usize,
    /// The phrase, lower-cased.
    pub text: String,
    /// The boxes people drew for it; empty where the picture does not show it.
    pub boxes: Vec<BoundingBox>,
    /// Share of the picture that the first box covers, 0 to 1.
    pub area: f32,
}

impl Phrase {
    fn new(picture: usize, text: String, boxes: Vec<BoundingBox>, w: f32, h: f32) -> Self {
        let area = boxes.first().map_or(0.0, |first| first.area() / (w * h).max(1.0));
        Self { picture, text, boxes, area }
    }
}

/// Phrases with exactly one box, each once a picture. A phrase that several entities of a picture share is left out: which one is meant cannot be told.
pub fn entity_phrases(records: &[Entities]) -> Vec<Phrase> {
    let mut phrases = Vec::new();
    for (picture, record) in records.iter().enumerate() {
        let mut meant: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (i, entity) in record.entities.iter().enumerate() {
            for phrase in &entity.phrases {
                meant.entry(phrase.to_lowercase()).or_default().insert(i);
            }
        }
        for (text, entities) in meant {
            let mut one = entities.iter().map(|&i| &record.entities[i]);
            if let (Some(entity), None) = (one.next(), one.next())
                && let [[x, y, w, h]] = entity.boxes[..]
            {
                phrases.push(Phrase::new(picture, text, vec![corners(x, y, w, h)], record.w, record.h));
            }
        }
    }
    phrases
}

/// Every label of every picture, as "a dog", with all boxes of that label.
pub fn label_phrases(records: &[Boxed]) -> Vec<Phrase> {
    let mut phrases = Vec::new();
    for (picture, record) in records.iter().enumerate() {
        let mut labels: BTreeMap<&str, Vec<BoundingBox>> = BTreeMap::new();
        for (x, y, w, h, label) in &record.boxes {
            labels.entry(label).or_default().push(corners(*x, *y, *w, *h));
        }
        for (label, boxes) in labels {
            phrases.push(Phrase::new(picture, format!("{} {label}", article(label)), boxes, record.w, record.h));
        }
    }
    phrases
}

/// "a" or "an", by the first letter.
fn article(label: &str) -> &'static str {
    if label.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// For every picture, up to `each` phrases of other pictures that it does not show: no caption of it mentions the phrase's head noun.
///
/// The pictures they come from follow at a fixed distance, so that the choice is the same every time.
pub fn absent_phrases(records: &[Entities], each: usize) -> Vec<Phrase> {
    let words: Vec<BTreeSet<String>> = records.iter().map(words_of).collect();
    let mut phrases = Vec::new();
    for (picture, record) in records.iter().enumerate() {
        let mut found: BTreeSet<String> = BTreeSet::new();
        for distance in 1..records.len() {
            if found.len() >= each {
                break;
            }
            let other = &records[(picture + distance * 37) % records.len()];
            let fits = |head: &str| !head.is_empty() && !words[picture].contains(&head.to_lowercase());
            let choice = other.entities.iter().filter(|entity| !entity.boxes.is_empty() && fits(&entity.head)).nth(picture % 2);
            found.extend(choice.and_then(|entity| entity.phrases.first()).map(|phrase| phrase.to_lowercase()));
        }
        phrases.extend(found.into_iter().map(|text| Phrase::new(picture, text, Vec::new(), record.w, record.h)));
    }
    phrases
}

/// Every word of every phrase of a picture.
fn words_of(record: &Entities) -> BTreeSet<String> {
    let phrases = record.entities.iter().flat_map(|entity| entity.phrases.iter().chain([&entity.head]));
    phrases.flat_map(|phrase| phrase.split_whitespace()).map(str::to_lowercase).collect()
}
