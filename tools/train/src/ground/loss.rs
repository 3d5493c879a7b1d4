//! What grounding is trained with: cross-entropy over cells, GIoU (Rezatofighi et al. 2019, <https://arxiv.org/abs/1902.09630>) and L1 over
//! boxes, and a sigmoid loss over presence.

use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_models::nano::ground::{CELLS, Grid, GroundHead, Phrases};

use super::batch::Batch;

/// Positives count so much that all of them together weigh this share of all negatives.
const POSITIVE_SHARE: f32 = 1.0 / 3.0;
const GIOU_WEIGHT: f64 = 1.5;
const L1_WEIGHT: f64 = 2.0;
const PRESENCE_WEIGHT: f64 = 3.0;

/// The parts of the loss, each `[1]`.
pub struct Loss {
    /// Cross-entropy over cells.
    pub cells: Tensor<1>,
    /// 1 − GIoU.
    pub giou: Tensor<1>,
    /// Sum of the four sides' distances.
    pub l1: Tensor<1>,
    /// Presence.
    pub presence: Tensor<1>,
}

impl Loss {
    /// Of a step.
    pub fn of(head: &GroundHead, grid: &Grid, phrases: &Phrases, batch: &Batch, device: &Device) -> Self {
        let dots = head.dots(grid, phrases);
        let presence = presence(head.presence(grid, phrases, &dots), batch, device);
        let pairs = batch.pair_pictures.len();
        let (logits, boxes) = head.pair_boxes(grid, phrases, &dots, &batch.pair_pictures, &batch.pair_phrases);
        let wanted = tensor(&batch.cells, [pairs, CELLS], device);
        let cells = (wanted * log_softmax(logits, 1)).sum().neg().div_scalar(pairs as f32);

        let chosen = Tensor::<1, Int>::from_ints(batch.box_cells.as_slice(), device);
        let boxes = boxes.reshape([pairs * CELLS, 4]).select(0, chosen);
        let wanted = tensor(&batch.boxes, [batch.box_cells.len(), 4], device);
        let weights = tensor(&batch.box_weights, [batch.box_weights.len(), 1], device).div_scalar(pairs as f32);
        let l1 = ((boxes.clone() - wanted.clone()).abs().sum_dim(1) * weights.clone()).sum();
        let giou = ((giou(boxes, wanted).neg().add_scalar(1.0)) * weights).sum();
        Self { cells, giou, l1, presence }
    }

    /// The weighted sum.
    pub fn total(&self) -> Tensor<1> {
        let [cells, giou, l1, presence] = [&self.cells, &self.giou, &self.l1, &self.presence].map(Tensor::clone);
        cells + giou * GIOU_WEIGHT + l1 * L1_WEIGHT + presence * PRESENCE_WEIGHT
    }
}

/// Weighted binary cross-entropy of logits `[pictures, phrases]`.
fn presence(logits: Tensor<2>, batch: &Batch, device: &Device) -> Tensor<1> {
    let shape = logits.dims();
    let sum = |there: bool| batch.present.iter().zip(&batch.weights).filter(|(p, _)| (**p > 0.5) == there).map(|(_, w)| w).sum::<f32>();
    let (positives, negatives) = (sum(true), sum(false));
    let up = (negatives / positives.max(1.0) * POSITIVE_SHARE).max(1.0);
    let total = negatives + up * positives;
    let weights: Vec<f32> = batch.present.iter().zip(&batch.weights).map(|(p, w)| w * if *p > 0.5 { up } else { 1.0 } / total).collect();
    // max(x, 0) - x y + ln(1 + exp(-|x|))
    let soft = logits.clone().abs().neg().exp().add_scalar(1.0).log();
    let loss = relu(logits.clone()) - logits * tensor(&batch.present, shape, device) + soft;
    (loss * tensor(&weights, shape, device)).sum()
}

/// Generalised IoU of boxes `[n, 4]`: `[n, 1]`
fn giou(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let low = |x: &Tensor<2>| x.clone().narrow(1, 0, 2);
    let high = |x: &Tensor<2>| x.clone().narrow(1, 2, 2);
    let area = |sides: Tensor<2>| sides.clone().narrow(1, 0, 1) * sides.narrow(1, 1, 1);
    let shared = area(relu(high(&a).min_pair(high(&b)) - low(&a).max_pair(low(&b))));
    let union = (area(high(&a) - low(&a)) + area(high(&b) - low(&b)) - shared.clone()).clamp_min(1e-6);
    let around = area(high(&a).max_pair(high(&b)) - low(&a).min_pair(low(&b))).clamp_min(1e-6);
    shared / union.clone() - (around.clone() - union) / around
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giou_of_known_boxes() {
        let device = Device::flex();
        let a = Tensor::from_floats([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]], &device);
        let b = Tensor::from_floats([[1.0, 0.0, 3.0, 1.0], [0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]], &device);
        let found: Vec<f32> = giou(a, b).into_data().iter::<f32>().collect();
        // Overlap of a third in a hull that is filled; the same box; two boxes in a hull of three.
        for (found, wanted) in found.iter().zip([1.0 / 3.0, 1.0, -1.0 / 3.0]) {
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }
}
