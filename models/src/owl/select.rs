//! Which boxes are reported, as transformers' `OwlViTImageProcessor` and `Owlv2ImageProcessor` choose them.

use ocelli_flow::{BoundingBox, GroundOptions};

/// Least score of a box for a phrase where none is asked for.
pub const THRESHOLD: f32 = 0.1;
/// Largest overlap of boxes for a picture where none is asked for.
pub const PICTURE_NMS: f32 = 0.3;
/// A picture as a query stands for a box that covers it nearly as well as the best does.
const NEARLY: f32 = 0.8;

/// A box that is reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Its patch.
    pub patch: usize,
    /// The query it fits best.
    pub query: usize,
    /// 0 to 1.
    pub score: f32,
    /// 0 to 1 of the model's input.
    pub bbox: BoundingBox,
}

/// Corners of a box that is given by its centre and size.
pub fn corners(&[x, y, width, height]: &[f32; 4]) -> BoundingBox {
    let (half_width, half_height) = (0.5 * width, 0.5 * height);
    BoundingBox { x0: x - half_width, y0: y - half_height, x1: x + half_width, y1: y + half_height }
}

/// Boxes for phrases: each box belongs to the phrase that it fits best. `logits [boxes][queries]`; sorted by phrase, best first.
pub fn for_phrases(logits: &[f32], queries: usize, boxes: &[BoundingBox], options: &GroundOptions) -> Vec<Chosen> {
    let threshold = options.threshold.unwrap_or(THRESHOLD);
    let mut chosen: Vec<Chosen> = Vec::new();
    for (patch, (row, bbox)) in logits.chunks_exact(queries.max(1)).zip(boxes).enumerate() {
        // The first of equals, as `torch.max`.
        let best = row.iter().enumerate().fold(0, |best, (i, logit)| if *logit > row[best] { i } else { best });
        let score = logistic(row[best]);
        if score > threshold || (threshold == 0.0 && score >= 0.0) {
            chosen.push(Chosen { patch, query: best, score, bbox: *bbox });
        }
    }
    chosen.sort_by(|a, b| a.query.cmp(&b.query).then(b.score.total_cmp(&a.score)));
    let mut kept: Vec<Chosen> = Vec::with_capacity(chosen.len());
    let mut first = 0;
    for candidate in chosen {
        if kept.get(first).is_none_or(|start| start.query != candidate.query) {
            first = kept.len();
        }
        let same = &kept[first.min(kept.len())..];
        let crowded = options.nms.is_some_and(|nms| nms < 1.0 && same.iter().any(|one| one.bbox.iou(&candidate.bbox) > nms));
        if !crowded && options.top.is_none_or(|top| same.len() < top) {
            kept.push(candidate);
        }
    }
    kept
}

/// Boxes for a picture: `logits` of one query. Scores are relative: the best box has 1, a box of a tenth of its probability 0.
pub fn for_picture(logits: &[f32], boxes: &[BoundingBox], options: &GroundOptions) -> Vec<Chosen> {
    let (threshold, nms) = (options.threshold.unwrap_or(0.0), options.nms.unwrap_or(PICTURE_NMS));
    let mut order: Vec<usize> = (0..logits.len().min(boxes.len())).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let mut kept: Vec<usize> = Vec::new();
    for patch in order {
        if nms >= 1.0 || kept.iter().all(|&other| boxes[other].iou(&boxes[patch]) <= nms) {
            kept.push(patch);
        }
    }
    let probability = |&patch: &usize| logistic(logits[patch]);
    let best = kept.first().map(probability).filter(|best| *best >= threshold).unwrap_or_default() + 1e-6;
    let scored = kept.iter().filter(|patch| probability(patch) >= threshold).map(|&patch| {
        let score = ((probability(&patch) - best * 0.1) / (best * 0.9)).clamp(0.0, 1.0);
        Chosen { patch, query: 0, score, bbox: boxes[patch] }
    });
    scored.filter(|one| one.score > 0.0).take(options.top.unwrap_or(usize::MAX)).collect()
}

/// The box of a picture that stands for it: of those that cover it nearly as well as any, the one that looks least like the average of all.
/// `vectors [boxes][joint]`.
pub fn query_box(boxes: &[BoundingBox], vectors: &[f32], joint: usize) -> usize {
    let whole = BoundingBox { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 };
    let mut overlaps: Vec<f32> = boxes.iter().map(|bbox| whole.iou(bbox)).collect();
    if overlaps.iter().all(|&overlap| overlap == 0.0) {
        overlaps = boxes.iter().map(|bbox| generalised_iou(&whole, bbox)).collect();
    }
    let best = overlaps.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let enough = best.min(best * NEARLY);
    let mut mean = vec![0.0; joint];
    for vector in vectors.chunks_exact(joint) {
        mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value / boxes.len() as f32);
    }
    let likeness = |patch: usize| -> f32 { vectors[patch * joint..][..joint].iter().zip(&mean).map(|(a, b)| a * b).sum() };
    let candidates = (0..boxes.len()).filter(|&patch| overlaps[patch] >= enough);
    candidates.map(|patch| (patch, likeness(patch))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(patch, _)| patch)
}

/// Intersection over union, less the part of the smallest box around both that neither fills (Rezatofighi et al. 2019).
fn generalised_iou(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let around = BoundingBox { x0: a.x0.min(b.x0), y0: a.y0.min(b.y0), x1: a.x1.max(b.x1), y1: a.y1.max(b.y1) };
    let iou = a.iou(b);
    let union = (a.area() + b.area()) / (1.0 + iou);
    iou - (around.area() - union) / around.area()
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logit(p: f32) -> f32 {
        (p / (1.0 - p)).ln()
    }

    fn square(x: f32, side: f32) -> BoundingBox {
        BoundingBox { x0: x, y0: 0.0, x1: x + side, y1: side }
    }

    #[test]
    fn a_box_belongs_to_the_phrase_it_fits_best() {
        let boxes = [square(0.0, 0.2), square(0.5, 0.2), square(0.51, 0.2)];
        let logits = [logit(0.3), logit(0.9), logit(0.8), logit(0.2), logit(0.7), logit(0.05)];
        let all = for_phrases(&logits, 2, &boxes, &GroundOptions::default());
        assert_eq!(all.iter().map(|one| (one.patch, one.query)).collect::<Vec<_>>(), [(1, 0), (2, 0), (0, 1)]);
        let apart = for_phrases(&logits, 2, &boxes, &GroundOptions { nms: Some(0.5), ..Default::default() });
        assert_eq!(apart.iter().map(|one| one.patch).collect::<Vec<_>>(), [1, 0]);
        let sure = for_phrases(&logits, 2, &boxes, &GroundOptions { threshold: Some(0.75), ..Default::default() });
        assert_eq!(sure.iter().map(|one| one.patch).collect::<Vec<_>>(), [1, 0]);
        let one = for_phrases(&logits, 2, &boxes, &GroundOptions { top: Some(1), ..Default::default() });
        assert_eq!(one.iter().map(|one| one.patch).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn scores_for_a_picture_are_relative() {
        let boxes = [square(0.0, 0.2), square(0.01, 0.2), square(0.5, 0.2), square(0.8, 0.1)];
        let logits = [logit(0.5), logit(0.4), logit(0.25), logit(0.04)];
        let found = for_picture(&logits, &boxes, &GroundOptions::default());
        assert_eq!(found.iter().map(|one| one.patch).collect::<Vec<_>>(), [0, 2]);
        assert!((found[0].score - 1.0).abs() < 1e-5);
        assert!((found[1].score - (0.25 - 0.05) / 0.45).abs() < 1e-5);
    }

    #[test]
    fn the_box_that_stands_for_a_picture_covers_it_and_is_not_average() {
        let boxes = [square(0.0, 0.1), square(0.0, 1.0), square(0.05, 0.95)];
        let vectors = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        assert_eq!(query_box(&boxes, &vectors, 2), 2);
        let outside = [square(2.0, 0.1), square(1.2, 0.1)];
        assert_eq!(query_box(&outside, &[1.0, 1.0], 1), 1);
    }
}
