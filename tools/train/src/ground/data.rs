//! Pictures with phrases: what is there, where, and what is known not to be.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, ensure};
use ocelli_eval::dataset::{Boxed, Dataset, Entities, Phrase, absent_phrases, entity_phrases, label_phrases};
use ocelli_flow::BoundingBox;
use ocelli_models::nano::ground::normalise_phrase;

use super::words::{Head, Mentioned, Words, mirrored};
use crate::data::{data_sets, with_rows};
use crate::features::FeatureCache;

/// Phrases of other pictures that a dev picture is asked for.
const ABSENT_EACH: usize = 4;
/// Of labelled pictures, this many of five are trained on; the rest is for measuring.
const LABELLED_OF_FIVE: usize = 3;

/// Phrases by number.
#[derive(Default)]
pub struct PhraseTable {
    /// Normalised.
    pub texts: Vec<String>,
    /// Their head nouns.
    pub heads: Vec<Head>,
    /// The number of the phrase of the mirrored picture.
    pub mirrored: Vec<u32>,
    numbers: HashMap<String, u32>,
}

impl PhraseTable {
    /// The number of a phrase; `None` if nothing is left of it.
    pub fn add(&mut self, words: &Words, phrase: &str) -> Option<u32> {
        let text = normalise_phrase(phrase);
        if !text.contains(char::is_alphanumeric) {
            return None;
        }
        let number = self.insert(words, &text);
        let other = self.insert(words, &mirrored(&text));
        self.mirrored[number as usize] = other;
        self.mirrored[other as usize] = number;
        Some(number)
    }

    fn insert(&mut self, words: &Words, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        self.heads.push(words.head(text));
        self.mirrored.push(number);
        number
    }
}

/// Left, top, right, bottom in 0..1 of the picture.
pub type Sides = [f32; 4];

/// One thing in a picture.
pub struct Item {
    /// What it is called.
    pub phrases: Vec<u32>,
    /// Where it is; empty where nobody said.
    pub boxes: Vec<Sides>,
}

/// What is known to be absent.
pub enum Knowledge {
    /// What captions do not mention.
    Captions(Mentioned),
    /// Every label that the picture does not have.
    Labels,
    /// Perhaps other things' names.
    Name,
}

/// A picture to train on.
pub struct Picture {
    /// Row in the feature cache.
    pub row: usize,
    /// What is there.
    pub items: Vec<Item>,
    /// All phrases of all items.
    pub own: HashSet<u32>,
    /// What is not.
    pub known: Knowledge,
}

/// A picture to measure on.
pub struct Asked {
    /// Row in the feature cache.
    pub row: usize,
    /// Phrases that are there and all boxes of each.
    pub present: Vec<(u32, Vec<BoundingBox>)>,
    /// Phrases that are not; and whether no word of its captions may mean the same.
    pub absent: Vec<(u32, bool)>,
}

/// All of it.
pub struct GroundData {
    /// Features.
    pub cache: FeatureCache,
    /// Word lists.
    pub words: Words,
    /// Phrases.
    pub table: PhraseTable,
    /// Pictures with captions and boxes.
    pub described: Vec<Picture>,
    /// Pictures with labelled boxes.
    pub labelled: Vec<Picture>,
    /// Pictures of one named thing.
    pub named: Vec<Picture>,
    /// Labels of `labelled`.
    pub labels: Vec<u32>,
    /// Names of `named`.
    pub names: Vec<u32>,
    /// Dev pictures with captions and boxes.
    pub dev: Vec<Asked>,
    /// Labelled pictures that were kept out of training.
    pub dev_labelled: Vec<Asked>,
}

impl GroundData {
    /// Reads the data sets in `data` whose features are in `cache`.
    pub fn open(data: &Path, cache: FeatureCache) -> Result<Self> {
        let mut out = Self {
            cache,
            words: Words::new(),
            table: PhraseTable::default(),
            described: Vec::new(),
            labelled: Vec::new(),
            named: Vec::new(),
            labels: Vec::new(),
            names: Vec::new(),
            dev: Vec::new(),
            dev_labelled: Vec::new(),
        };
        for (name, set) in data_sets(data, &[])? {
            if out.cache.rows(&name).is_none() {
                continue;
            }
            if set.has("entities") {
                out.read_described(&name, &set)?;
            } else if set.has("boxes") {
                out.read_labelled(&name, &set)?;
            }
            if set.has("labels") {
                out.read_named(&name, &set)?;
            }
        }
        ensure!(!out.described.is_empty() && !out.dev.is_empty(), "no pictures with phrases and boxes in {}", data.display());
        Ok(out)
    }

    fn read_described(&mut self, name: &str, set: &Dataset) -> Result<()> {
        let captions: HashMap<String, Vec<String>> = match set.has("captions") {
            true => set.captions(None)?.into_iter().map(|record| (record.file, record.captions)).collect(),
            false => HashMap::new(),
        };
        let records = with_rows(&self.cache, name, set.entities(None)?, |record| &record.file)?;
        let (dev, train): (Vec<_>, Vec<_>) = records.into_iter().partition(|(_, record)| record.split.as_deref() == Some("dev"));
        for (row, record) in train {
            let items = self.items(&record);
            let known = Knowledge::Captions(self.mentioned(&items, captions.get(&record.file)));
            self.described.push(picture(row, items, known));
        }
        let mut asked: Vec<Asked> = dev.iter().map(|&(row, _)| Asked { row, present: Vec::new(), absent: Vec::new() }).collect();
        let records: Vec<Entities> = dev.into_iter().map(|(_, record)| record).collect();
        for phrase in entity_phrases(&records) {
            let Some(number) = self.table.add(&self.words, &phrase.text) else { continue };
            let record = &records[phrase.picture];
            asked[phrase.picture].present.push((number, in_picture(&phrase, record.w, record.h)));
        }
        let mut mentioned = Vec::with_capacity(records.len());
        for record in &records {
            let items = self.items(record);
            mentioned.push(self.mentioned(&items, captions.get(&record.file)));
        }
        for phrase in absent_phrases(&records, ABSENT_EACH) {
            let Some(number) = self.table.add(&self.words, &phrase.text) else { continue };
            let surely = self.words.absent(&self.table.heads[number as usize], &mentioned[phrase.picture]);
            asked[phrase.picture].absent.push((number, surely));
        }
        self.dev.extend(asked);
        Ok(())
    }

    fn read_labelled(&mut self, name: &str, set: &Dataset) -> Result<()> {
        let records = with_rows(&self.cache, name, set.boxes(None)?, |record| &record.file)?;
        let (rows, records): (Vec<usize>, Vec<Boxed>) = records.into_iter().unzip();
        let mut present: Vec<Vec<(u32, Vec<BoundingBox>)>> = rows.iter().map(|_| Vec::new()).collect();
        for phrase in label_phrases(&records) {
            let Some(number) = self.table.add(&self.words, &phrase.text) else { continue };
            let record = &records[phrase.picture];
            present[phrase.picture].push((number, in_picture(&phrase, record.w, record.h)));
            if !self.labels.contains(&number) {
                self.labels.push(number);
            }
        }
        for (i, (row, present)) in rows.into_iter().zip(present).enumerate() {
            if i % 5 < LABELLED_OF_FIVE {
                let sides = |b: &BoundingBox| [b.x0, b.y0, b.x1, b.y1];
                let items = present.iter().map(|(number, boxes)| Item { phrases: vec![*number], boxes: boxes.iter().map(sides).collect() });
                self.labelled.push(picture(row, items.collect(), Knowledge::Labels));
            } else {
                let shown = |label: &u32| present.iter().any(|(number, _)| number == label);
                let absent = self.labels.iter().filter(|label| !shown(label)).map(|&label| (label, true)).collect();
                self.dev_labelled.push(Asked { row, present, absent });
            }
        }
        Ok(())
    }

    fn read_named(&mut self, name: &str, set: &Dataset) -> Result<()> {
        for (row, record) in with_rows(&self.cache, name, set.labels()?, |record| &record.file)? {
            let Some(number) = self.table.add(&self.words, &record.label) else { continue };
            if !self.names.contains(&number) {
                self.names.push(number);
            }
            self.named.push(picture(row, vec![Item { phrases: vec![number], boxes: Vec::new() }], Knowledge::Name));
        }
        Ok(())
    }

    fn items(&mut self, record: &Entities) -> Vec<Item> {
        let mut items = Vec::new();
        for entity in &record.entities {
            let phrases: Vec<u32> = entity.phrases.iter().filter_map(|phrase| self.table.add(&self.words, phrase)).collect();
            let boxes = entity.boxes.iter().map(|&[x, y, w, h]| [x / record.w, y / record.h, (x + w) / record.w, (y + h) / record.h]);
            if !phrases.is_empty() {
                items.push(Item { phrases, boxes: boxes.collect() });
            }
        }
        items
    }

    fn mentioned(&self, items: &[Item], captions: Option<&Vec<String>>) -> Mentioned {
        let heads = items.iter().flat_map(|item| &item.phrases).map(|&number| &self.table.heads[number as usize]);
        self.words.mentioned(captions.into_iter().flatten().map(String::as_str), heads)
    }
}

fn picture(row: usize, items: Vec<Item>, known: Knowledge) -> Picture {
    let own = items.iter().flat_map(|item| item.phrases.iter().copied()).collect();
    Picture { row, items, own, known }
}

fn in_picture(phrase: &Phrase, w: f32, h: f32) -> Vec<BoundingBox> {
    phrase.boxes.iter().map(|b| BoundingBox { x0: b.x0 / w, y0: b.y0 / h, x1: b.x1 / w, y1: b.y1 / h }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_have_one_number_and_a_mirror_image() {
        let (words, mut table) = (Words::new(), PhraseTable::default());
        let dog = table.add(&words, "A brown dog .");
        assert_eq!(dog, table.add(&words, "the brown dog"));
        let left = table.add(&words, "his left hand").unwrap();
        let right = table.mirrored[left as usize];
        assert_eq!(table.texts[right as usize], "right hand");
        assert_eq!((table.mirrored[right as usize], table.mirrored[dog.unwrap() as usize]), (left, dog.unwrap()));
        assert_eq!(table.add(&words, " . "), None);
        assert_eq!(table.texts.len(), 3);
    }
}
