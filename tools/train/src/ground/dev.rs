//! What grounding is measured by while it is trained, and what its scores are made honest with.

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use ocelli_eval::grounding::Tally;
use ocelli_eval::ranking::auc;
use ocelli_flow::GroundOptions;
use ocelli_models::nano::ground::{CELLS, Calibration, GroundHead, PhraseScores, detect};
use serde_json::{Value, json};

use super::data::{Asked, GroundData};
use super::vectors::{PictureVectors, TextVectors};
use crate::features::Map;

const BATCH: usize = 25;
const MIN_IOU: f32 = 0.5;

/// One phrase asked of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// The presence logit.
    pub logit: f32,
    /// Whether the phrase is there.
    pub present: bool,
    /// Whether no word of the captions may mean the same (of absent ones).
    pub surely: bool,
    /// Whether the best box is right.
    pub right: bool,
}

/// Asks everything of these pictures.
pub fn answers(
    head: &GroundHead,
    pictures: &[Asked],
    data: &GroundData,
    texts: &TextVectors,
    joint: &PictureVectors,
) -> Result<(Tally, Vec<Answer>)> {
    let device = Device::flex();
    let best = GroundOptions { threshold: Some(0.0), top: Some(1), nms: Some(1.0) };
    let (mut tally, mut answers) = (Tally::default(), Vec::new());
    for batch in pictures.chunks(BATCH) {
        let rows: Vec<usize> = batch.iter().map(|picture| picture.row).collect();
        let [fine, middle, coarse] = [Map::Stride8, Map::Stride16, Map::Head].map(|map| data.cache.map(map, &rows, &device));
        let grid = head.encode_maps(fine?, middle?, coarse?, joint.rows(&data.cache, &rows, &device)?);
        for (at, picture) in batch.iter().enumerate() {
            let numbers: Vec<u32> = picture.present.iter().map(|asked| asked.0).chain(picture.absent.iter().map(|asked| asked.0)).collect();
            if numbers.is_empty() {
                continue;
            }
            let phrases = head.phrases(texts.rows(numbers.iter().copied(), &device));
            let scores = head.score(&grid.picture(at), &phrases);
            let presence = values(scores.presence);
            let (cells, boxes) = (values(scores.cells), values(scores.boxes));
            for (i, (_, truth)) in picture.present.iter().enumerate() {
                let (cells, boxes) = (&cells[i * CELLS..(i + 1) * CELLS], &boxes[i * CELLS * 4..(i + 1) * CELLS * 4]);
                let found = detect(&PhraseScores { cells, boxes, presence: presence[i] }, &Calibration::default(), &best);
                let before = tally.correct;
                tally.push(found.first().map(|found| found.bbox), truth, MIN_IOU);
                answers.push(Answer { logit: presence[i], present: true, surely: false, right: tally.correct > before });
            }
            let absent = picture.absent.iter().zip(&presence[picture.present.len()..]);
            answers.extend(absent.map(|(&(_, surely), &logit)| Answer { logit, present: false, surely, right: false }));
        }
    }
    Ok((tally, answers))
}

/// The figures of some answers.
pub fn figures(tally: &Tally, answers: &[Answer]) -> Value {
    let logits = |wanted: fn(&Answer) -> bool| -> Vec<f32> { answers.iter().filter(|a| wanted(a)).map(|a| a.logit).collect() };
    let (present, absent, surely) = (logits(|a| a.present), logits(|a| !a.present), logits(|a| a.surely));
    json!({
        "accuracy_iou_0.5": tally.accuracy(),
        "pointing": tally.pointing(),
        "presence_auc": auc(&present, &absent),
        "presence_auc_filtered": auc(&present, &surely),
        "phrases": present.len(),
        "absent": absent.len(),
    })
}

/// Fits `σ(a · logit + b)` to how often boxes are right, with as many absent phrases as present ones.
pub fn calibrate(answers: &[Answer]) -> Calibration {
    let count = |there: bool| answers.iter().filter(|a| a.present == there).count().max(1) as f64;
    let weight = |a: &Answer| 1.0 / count(a.present);
    let points: Vec<(f64, f64, f64)> = answers.iter().map(|a| (f64::from(a.logit), f64::from(u8::from(a.right)), weight(a))).collect();
    let (a, b) = fit(&points);
    Calibration { a: a as f32, b: b as f32, threshold: 0.5 }
}

/// Share of present phrases and of absent phrases with a score of at least `threshold`, and how many of all those told are right.
pub fn told(answers: &[Answer], calibration: &Calibration, threshold: f32) -> Value {
    let told: Vec<&Answer> = answers.iter().filter(|a| calibration.score(a.logit) >= threshold).collect();
    let share = |there: bool| {
        let count = |answers: &mut dyn Iterator<Item = &Answer>| answers.filter(|a| a.present == there).count();
        count(&mut told.iter().copied()) as f64 / count(&mut answers.iter()).max(1) as f64
    };
    let right = told.iter().filter(|a| a.right).count() as f64 / told.len().max(1) as f64;
    json!({"threshold": threshold, "present": share(true), "absent": share(false), "right": right})
}

/// Share of right ones among answers by score, in tenths: what calibration should make equal to the score.
pub fn reliability(answers: &[Answer], calibration: &Calibration) -> Vec<Value> {
    let tenths = (0..10).map(|tenth| {
        let inside: Vec<&Answer> = answers.iter().filter(|a| ((calibration.score(a.logit) * 10.0) as usize).min(9) == tenth).collect();
        json!({"from": tenth as f64 / 10.0, "answers": inside.len(), "right": inside.iter().filter(|a| a.right).count()})
    });
    tenths.collect()
}

/// Weighted logistic regression on one number, by Newton's method: points are (x, y, weight).
fn fit(points: &[(f64, f64, f64)]) -> (f64, f64) {
    let (mut a, mut b) = (1.0, 0.0);
    let ridge = 1e-9;
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, ridge, 0.0, ridge);
        for &(x, y, weight) in points {
            let p = (1.0 + (-(a * x + b)).exp()).recip();
            let (g, h) = (weight * (p - y), weight * p * (1.0 - p));
            ga += g * x;
            gb += g;
            haa += h * x * x;
            hab += h * x;
            hbb += h;
        }
        let determinant: f64 = haa * hbb - hab * hab;
        if determinant.abs() < 1e-300 {
            break;
        }
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        // Newton may overshoot where the logits are far off at first.
        let shorter = (2.0 / da.abs().max(db.abs()).max(1e-12)).min(1.0);
        a -= da * shorter;
        b -= db * shorter;
    }
    (a, b)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_finds_the_curve_that_made_the_answers() {
        // A hundred answers at each logit, of which the share σ(0.7 x - 1) is right; absent ones never are.
        let mut answers = Vec::new();
        let mut right_of_all = 0.0;
        for step in 0..41 {
            let logit = step as f32 * 0.25 - 5.0;
            let share = 1.0 / (1.0 + (-(0.7 * logit - 1.0)).exp());
            for i in 0..100 {
                let right = (i as f32) < share * 100.0;
                right_of_all += f64::from(u8::from(right));
                answers.push(Answer { logit, present: true, surely: false, right });
                answers.push(Answer { logit, present: false, surely: true, right: false });
            }
        }
        let calibration = calibrate(&answers);
        let expected: f64 = answers.iter().map(|a| f64::from(calibration.score(a.logit))).sum();
        assert!((expected - right_of_all).abs() < 1.0, "{expected} {right_of_all}");
        // The other condition of the likeliest curve: what is left over does not go with the logits.
        let left = |a: &Answer| f64::from(a.logit) * (f64::from(calibration.score(a.logit)) - f64::from(u8::from(a.right)));
        let left: f64 = answers.iter().map(left).sum();
        assert!(left.abs() < 1.0, "{left}");
        // Half of the answers are absent, so that at most half of all are right. A logistic curve cannot level off there, but it ends near.
        assert!((0.4..0.6).contains(&calibration.score(5.0)), "{calibration:?}");
        assert!(calibration.score(-5.0) < 0.02);
    }

    #[test]
    fn fits_one_curve_exactly() {
        let mut points = Vec::new();
        for step in -20..=20 {
            let x = f64::from(step) / 4.0;
            let p = (1.0 + (-(1.3 * x + 0.4)).exp()).recip();
            points.push((x, 1.0, p));
            points.push((x, 0.0, 1.0 - p));
        }
        let (a, b) = fit(&points);
        assert!((a - 1.3).abs() < 1e-6 && (b - 0.4).abs() < 1e-6, "{a} {b}");
    }
}
