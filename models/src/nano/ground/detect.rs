//! From a phrase's 196 cells to the boxes that are worth telling.

use burn::tensor::Tensor;
use ocelli_flow::{BoundingBox, GroundOptions};
use serde::{Deserialize, Serialize};

use super::{CELLS, Grid, GroundHead, Phrases};

/// Boxes that overlap a better one by more than this are the same thing.
const DEFAULT_NMS: f32 = 0.5;
/// Boxes that overlap a cell's by more than this vote on it.
const VOTE_IOU: f32 = 0.5;

/// How presence logits become scores: `σ(a · logit + b)` (Platt 1999), fitted on pictures that were not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Slope.
    pub a: f32,
    /// Offset.
    pub b: f32,
    /// Smallest score that is told where none is asked for.
    pub threshold: f32,
}

impl Default for Calibration {
    /// The logit as it is, and half.
    fn default() -> Self {
        Self { a: 1.0, b: 0.0, threshold: 0.5 }
    }
}

impl Calibration {
    /// The score of a presence logit.
    pub fn score(&self, logit: f32) -> f32 {
        (1.0 + (-(self.a * logit + self.b)).exp()).recip()
    }
}

/// What the head says of one phrase in one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PhraseScores<'a> {
    /// A logit a cell.
    pub cells: &'a [f32],
    /// `[cells][4]`: left, top, right, bottom in 0..1 of the picture.
    pub boxes: &'a [f32],
    /// Logit of the phrase being there at all.
    pub presence: f32,
}

/// A box and how sure the head is of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Calibrated, 0 to 1.
    pub score: f32,
    /// In 0..1 of the picture, inside it.
    pub bbox: BoundingBox,
}

impl Found {
    /// The box in pixels of a picture of this size.
    pub fn in_pixels(&self, width: u32, height: u32) -> BoundingBox {
        let (w, h) = (width as f32, height as f32);
        let BoundingBox { x0, y0, x1, y1 } = self.bbox;
        BoundingBox { x0: x0 * w, y0: y0 * h, x1: x1 * w, y1: y1 * h }
    }
}

impl GroundHead {
    /// The boxes of every phrase in one picture: an element a phrase, in order, each as [`detect`] gives them.
    pub fn find(&self, picture: &Grid, phrases: &Phrases, calibration: &Calibration, options: &GroundOptions) -> Vec<Vec<Found>> {
        let scores = self.score(picture, phrases);
        let (cells, boxes, presence) = (values(scores.cells), values(scores.boxes), values(scores.presence));
        let each = cells.chunks_exact(CELLS).zip(boxes.chunks_exact(4 * CELLS)).zip(presence);
        each.map(|((cells, boxes), presence)| detect(&PhraseScores { cells, boxes, presence }, calibration, options)).collect()
    }
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// The boxes of a phrase, best first.
///
/// The best cell's box has the phrase's score `p`; another cell's box has `p · exp(logit − best logit)`, so that a second dog that is as much
/// a dog as the first counts as much. A cell's box is the mean of the boxes that overlap it, weighted by the softmax of their logits
/// (box voting, Gidaris and Komodakis 2015, <https://arxiv.org/abs/1505.01749>, section 3).
pub fn detect(phrase: &PhraseScores, calibration: &Calibration, options: &GroundOptions) -> Vec<Found> {
    let threshold = options.threshold.unwrap_or(calibration.threshold);
    let nms = options.nms.unwrap_or(DEFAULT_NMS);
    let top = options.top.unwrap_or(usize::MAX);
    let presence = calibration.score(phrase.presence);
    let boxes: Vec<BoundingBox> = phrase.boxes.chunks_exact(4).map(corners).collect();
    let mut order: Vec<usize> = (0..boxes.len().min(phrase.cells.len())).filter(|&cell| phrase.cells[cell].is_finite()).collect();
    order.sort_by(|&i, &j| phrase.cells[j].total_cmp(&phrase.cells[i]));
    let Some(best) = order.first().map(|&cell| phrase.cells[cell]) else { return Vec::new() };

    let mut found: Vec<Found> = Vec::new();
    for &cell in &order {
        let score = presence * (phrase.cells[cell] - best).exp();
        // Not `score < threshold`: a score that is no number is none, either.
        if found.len() >= top || score.is_nan() || score < threshold {
            break;
        }
        let repeats = |bbox: &BoundingBox| found.iter().any(|better| better.bbox.iou(bbox) > nms);
        if repeats(&boxes[cell]) {
            continue;
        }
        let bbox = clipped(vote(cell, &boxes, phrase.cells, &order));
        if bbox.area() > 0.0 && !repeats(&bbox) {
            found.push(Found { score, bbox });
        }
    }
    found
}

/// The mean of the boxes that overlap the cell's, weighted by the exponentials of their logits.
fn vote(cell: usize, boxes: &[BoundingBox], logits: &[f32], cells: &[usize]) -> BoundingBox {
    let own = boxes[cell];
    let (mut sum, mut total) = ([0.0f32; 4], 0.0f32);
    for &other in cells {
        if other == cell || own.iou(&boxes[other]) > VOTE_IOU {
            // A cell's own weight is 1; a much better neighbour's must not overflow.
            let weight = (logits[other] - logits[cell]).min(30.0).exp();
            let BoundingBox { x0, y0, x1, y1 } = boxes[other];
            sum.iter_mut().zip([x0, y0, x1, y1]).for_each(|(sum, side)| *sum += weight * side);
            total += weight;
        }
    }
    corners(&sum.map(|side| side / total))
}

fn corners(sides: &[f32]) -> BoundingBox {
    BoundingBox { x0: sides[0], y0: sides[1], x1: sides[2], y1: sides[3] }
}

fn clipped(bbox: BoundingBox) -> BoundingBox {
    let BoundingBox { x0, y0, x1, y1 } = bbox;
    BoundingBox { x0: x0.clamp(0.0, 1.0), y0: y0.clamp(0.0, 1.0), x1: x1.clamp(0.0, 1.0), y1: y1.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: [f32; 4] = [0.0, 0.0, 0.4, 1.0];
    const RIGHT: [f32; 4] = [0.6, 0.0, 1.0, 1.0];

    fn found(cells: &[f32], boxes: &[[f32; 4]], presence: f32, options: &GroundOptions) -> Vec<Found> {
        let boxes = boxes.concat();
        detect(&PhraseScores { cells, boxes: &boxes, presence }, &Calibration::default(), options)
    }

    fn options(threshold: f32, nms: f32) -> GroundOptions {
        GroundOptions { threshold: Some(threshold), top: None, nms: Some(nms) }
    }

    #[test]
    fn two_things_are_two_and_their_neighbours_none() {
        let near_left = [0.0, 0.0, 0.42, 1.0];
        let two = found(&[5.0, 4.8, 4.9], &[LEFT, near_left, RIGHT], 2.0, &options(0.1, 0.5));
        assert_eq!(two.len(), 2);
        assert!((two[0].score - 0.880_797).abs() < 1e-5);
        assert!((two[1].score - 0.880_797 * (-0.1f32).exp()).abs() < 1e-5);
        assert_eq!(two[1].bbox, corners(&RIGHT));
    }

    #[test]
    fn overlapping_boxes_vote_by_weight() {
        // Equal logits: the mean of both; one of e² the weight: nearer to it. A box elsewhere has no vote.
        let wide = [0.0, 0.0, 0.5, 1.0];
        let one = found(&[1.0, 1.0, 0.9], &[LEFT, wide, RIGHT], 0.0, &options(0.49, 0.5));
        assert!((one[0].bbox.x1 - 0.45).abs() < 1e-6);
        let one = found(&[3.0, 1.0, 2.9], &[LEFT, wide, RIGHT], 0.0, &options(0.49, 0.5));
        let weight = (-2.0f32).exp();
        assert!((one[0].bbox.x1 - (0.4 + 0.5 * weight) / (1.0 + weight)).abs() < 1e-6);
    }

    #[test]
    fn thresholds_tops_and_nms_are_kept_to() {
        let boxes = [LEFT, RIGHT, LEFT];
        let cells = [2.0, 2.0, 2.0];
        assert_eq!(found(&cells, &boxes, -0.1, &GroundOptions::default()), vec![]);
        assert_eq!(found(&cells, &boxes, 0.1, &GroundOptions::default()).len(), 2);
        assert_eq!(found(&cells, &boxes, 0.1, &options(0.0, 1.0)).len(), 3);
        let one = GroundOptions { threshold: Some(0.0), top: Some(1), nms: Some(1.0) };
        assert_eq!(found(&cells, &boxes, -9.0, &one).len(), 1);
        assert_eq!(found(&cells, &boxes, 0.1, &GroundOptions { top: Some(0), ..one }), vec![]);
    }

    #[test]
    fn boxes_stay_inside_the_picture_and_empty_ones_are_left_out() {
        let boxes = [[-0.2, 0.1, 1.3, 0.9], [1.1, 0.2, 1.4, 0.8]];
        let all = found(&[1.0, 1.0], &boxes, 0.0, &options(0.0, 0.5));
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].in_pixels(200, 100), BoundingBox { x0: 0.0, y0: 10.0, x1: 200.0, y1: 90.0 });
    }

    #[test]
    fn numbers_that_are_none_find_nothing() {
        assert_eq!(found(&[f32::NAN], &[LEFT], 1.0, &options(0.0, 0.5)), vec![]);
        assert_eq!(found(&[1.0], &[LEFT], f32::NAN, &options(0.0, 0.5)), vec![]);
        assert_eq!(found(&[], &[], 1.0, &options(0.0, 0.5)), vec![]);
    }
}
