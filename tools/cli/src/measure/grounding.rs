//! Are phrases found where people see them, and only where they are?

use std::collections::HashMap;

use anyhow::Result;
use ocelli_eval::dataset::{Boxed, Entities, Phrase, absent_phrases, entity_phrases, label_phrases};
use ocelli_eval::grounding::Tally;
use ocelli_eval::ranking::auc;
use ocelli_flow::{BoundingBox, Detection, GroundOptions, Model};

use super::{Look, Measure, Section};
use crate::images::ImageError;
use crate::session;

/// Overlap that counts as found.
const MIN_IOU: f32 = 0.5;

/// Share of the picture from which a thing is large, and up to which it is small.
const LARGE: f32 = 0.1;
const SMALL: f32 = 0.02;

/// Phrases of other pictures asked of each picture.
const ABSENT_EACH: usize = 4;

/// What is asked of one picture.
struct Asked {
    width: f32,
    height: f32,
    present: Vec<Phrase>,
    absent: Vec<Phrase>,
}

/// All that is asked.
pub struct Questions {
    pictures: HashMap<String, Asked>,
    order: Vec<String>,
}

impl Questions {
    /// One-box phrases of people's captions, and phrases of other pictures.
    pub fn of_entities(records: &[Entities]) -> Self {
        let mut questions = Self::about(records.iter().map(|record| (record.file.clone(), record.w, record.h)));
        questions.add(entity_phrases(records), |asked| &mut asked.present);
        questions.add(absent_phrases(records, ABSENT_EACH), |asked| &mut asked.absent);
        questions
    }

    /// "a dog" for every label in the picture, each of its boxes right.
    pub fn of_labels(records: &[Boxed]) -> Self {
        let mut questions = Self::about(records.iter().map(|record| (record.file.clone(), record.w, record.h)));
        questions.add(label_phrases(records), |asked| &mut asked.present);
        questions
    }

    fn about(records: impl Iterator<Item = (String, f32, f32)>) -> Self {
        let mut questions = Self { pictures: HashMap::new(), order: Vec::new() };
        for (file, width, height) in records {
            questions.order.push(file.clone());
            questions.pictures.insert(file, Asked { width, height, present: Vec::new(), absent: Vec::new() });
        }
        questions
    }

    fn add(&mut self, phrases: Vec<Phrase>, kind: impl Fn(&mut Asked) -> &mut Vec<Phrase>) {
        for phrase in phrases {
            if let Some(asked) = self.order.get(phrase.picture).and_then(|file| self.pictures.get_mut(file)) {
                kind(asked).push(phrase);
            }
        }
    }
}

/// Accuracy and pointing where asked for, presence where asked for.
pub struct Grounding {
    questions: Questions,
    boxes: bool,
    presence: bool,
    all: Tally,
    large: Tally,
    small: Tally,
    present_scores: Vec<f32>,
    absent_scores: Vec<f32>,
}

impl Grounding {
    /// `boxes`: accuracy and pointing; `presence`: do phrases of the picture score above those of others.
    pub fn new(mut questions: Questions, boxes: bool, presence: bool) -> Self {
        if !presence {
            questions.pictures.values_mut().for_each(|asked| asked.absent.clear());
        }
        let none = Tally::default();
        Self { questions, boxes, presence, all: none, large: none, small: none, present_scores: Vec::new(), absent_scores: Vec::new() }
    }
}

impl Measure for Grounding {
    fn files(&self) -> Vec<&str> {
        let asked =
            |file: &&String| self.questions.pictures.get(*file).is_some_and(|asked| !asked.present.is_empty() || !asked.absent.is_empty());
        self.questions.order.iter().filter(asked).map(String::as_str).collect()
    }

    fn look(&mut self, model: &dyn Model, look: &Look) -> Result<(), ImageError> {
        let Some(asked) = self.questions.pictures.get(look.file) else { return Ok(()) };
        let grounder = session::grounder(model).map_err(ImageError::Fatal)?;
        let texts: Vec<&str> = asked.present.iter().chain(&asked.absent).map(|phrase| phrase.text.as_str()).collect();
        if texts.is_empty() {
            return Ok(());
        }
        // The best box of every phrase, however little the model believes in it: thresholds are measured apart, as presence.
        let best = GroundOptions { threshold: Some(0.0), top: Some(1), nms: Some(1.0) };
        let detections = grounder.ground(look.encoded, &grounder.phrases(&texts)?, &best)?;
        let best_of = |phrase: &Phrase| detections.iter().find(|detection| *detection.phrase == *phrase.text);
        let score = |detection: Option<&Detection>| detection.map_or(0.0, |detection| detection.score);

        // Records may speak of the picture at another size than the file has.
        let (x, y) = (asked.width / look.frame.width() as f32, asked.height / look.frame.height() as f32);
        for phrase in &asked.present {
            let found = best_of(phrase);
            self.present_scores.push(score(found));
            let bbox = found.map(|detection| scaled(detection.bbox, x, y));
            self.all.push(bbox, &phrase.boxes, MIN_IOU);
            if phrase.area > LARGE {
                self.large.push(bbox, &phrase.boxes, MIN_IOU);
            } else if phrase.area < SMALL {
                self.small.push(bbox, &phrase.boxes, MIN_IOU);
            }
        }
        self.absent_scores.extend(asked.absent.iter().map(|phrase| score(best_of(phrase))));
        Ok(())
    }

    fn finish(&mut self, _: &dyn Model) -> Result<Vec<Section>> {
        let mut sections = Vec::new();
        if self.boxes {
            let rows = vec![
                ("accuracy_iou_0.5", self.all.accuracy()),
                ("pointing", self.all.pointing()),
                ("large_accuracy_iou_0.5", self.large.accuracy()),
                ("large_pointing", self.large.pointing()),
                ("small_accuracy_iou_0.5", self.small.accuracy()),
                ("small_pointing", self.small.pointing()),
                ("phrases", self.all.phrases as f64),
                ("large_phrases", self.large.phrases as f64),
                ("small_phrases", self.small.phrases as f64),
            ];
            sections.push(Section { name: "grounding", rows });
        }
        if let Some(area) = auc(&self.present_scores, &self.absent_scores).filter(|_| self.presence) {
            let rows = vec![
                ("auc", area),
                ("present_phrases", self.present_scores.len() as f64),
                ("absent_phrases", self.absent_scores.len() as f64),
            ];
            sections.push(Section { name: "presence", rows });
        }
        Ok(sections)
    }
}

fn scaled(bbox: BoundingBox, x: f32, y: f32) -> BoundingBox {
    BoundingBox { x0: bbox.x0 * x, y0: bbox.y0 * y, x1: bbox.x1 * x, y1: bbox.y1 * y }
}

#[cfg(test)]
mod tests {
    use ocelli_flow::{Encoded, Frame, FrameMeta, Grounder, Inputs, ModelError, PhraseSet};

    use super::*;

    /// Sees a dog in the left half of everything, and nothing else.
    struct DogOnTheLeft;

    impl Model for DogOnTheLeft {
        fn name(&self) -> &str {
            "dog"
        }
        fn preprocess(&self, frame: &Frame) -> Result<Inputs, ModelError> {
            Ok(Inputs { width: frame.width(), height: frame.height(), tensors: vec![] })
        }
        fn encode_inputs(&self, inputs: Inputs) -> Result<Encoded, ModelError> {
            Ok(Encoded::new(inputs.width, inputs.height, ()))
        }
        fn grounder(&self) -> Option<&dyn Grounder> {
            Some(self)
        }
    }

    impl Grounder for DogOnTheLeft {
        fn phrases(&self, phrases: &[&str]) -> Result<PhraseSet, ModelError> {
            Ok(PhraseSet { phrases: phrases.iter().map(|phrase| (*phrase).into()).collect(), features: Box::new(()) })
        }
        fn ground(&self, encoded: &Encoded, phrases: &PhraseSet, _: &GroundOptions) -> Result<Vec<Detection>, ModelError> {
            let bbox = BoundingBox { x0: 0.0, y0: 0.0, x1: encoded.width as f32 / 2.0, y1: encoded.height as f32 };
            let dogs = phrases.phrases.iter().filter(|phrase| phrase.contains("dog"));
            Ok(dogs.map(|phrase| Detection { phrase: phrase.clone(), score: 0.9, bbox, objectness: None }).collect())
        }
    }

    #[test]
    fn boxes_are_compared_at_the_records_size() {
        let boxes = vec![(0.0, 0.0, 50.0, 100.0, "dog".to_owned()), (50.0, 0.0, 50.0, 100.0, "cat".to_owned())];
        let record = Boxed { file: "a.jpg".into(), w: 100.0, h: 100.0, boxes, captions: vec![], split: None };
        let mut measure = Grounding::new(Questions::of_labels(&[record]), true, false);
        assert_eq!(measure.files(), ["a.jpg"]);
        // The file is twice as large as the records say.
        let frame = Frame::new(200, 200, vec![0; 200 * 200 * 3], FrameMeta::still("a.jpg")).unwrap();
        let encoded = DogOnTheLeft.encode(&frame).unwrap();
        assert!(measure.look(&DogOnTheLeft, &Look { file: "a.jpg", frame: &frame, encoded: &encoded }).is_ok());
        let sections = measure.finish(&DogOnTheLeft).unwrap();
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].rows[0], ("accuracy_iou_0.5", 0.5));
        assert_eq!(sections[0].rows[1], ("pointing", 0.5));
    }
}
