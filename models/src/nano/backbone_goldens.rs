//! The backbone against recorded outputs of the reference definition (`tools/reference/efficientnet_lite0.py`).

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::backbone::{Backbone, SIDE, level};

/// Recorded values by name: `PICTURE.STAGE`.
pub type Goldens = BTreeMap<String, Vec<f32>>;

/// Pictures in a file of goldens.
pub const PICTURES: usize = 2;
/// Sample number `k` of a stage is its value number `k * STRIDE mod size`.
const STRIDE: usize = 7919;

/// How far a stage is from its golden.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// `PICTURE.STAGE`
    pub stage: String,
    /// Largest absolute difference; infinite where there is no such golden, or a value is not finite.
    pub absolute: f32,
    /// Largest absolute value of the golden, to see the difference against.
    pub scale: f32,
}

/// Runs the pictures of the goldens through `backbone` and compares every stage. The last of each picture are the logits.
pub fn compare(backbone: &Backbone, goldens: &Goldens, device: &Device) -> Vec<Deviation> {
    let mut deviations = Vec::new();
    for number in 0..PICTURES {
        let x = picture(number, device);
        for (name, output) in stages(backbone, x) {
            let stage = format!("{number}.{name}");
            let golden = goldens.get(&stage).map(Vec::as_slice).unwrap_or_default();
            let (absolute, scale) = deviation(&output, golden);
            deviations.push(Deviation { stage, absolute, scale });
        }
    }
    deviations
}

/// The five classes with the highest logits, the highest first.
pub fn top5(logits: &[f32]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    classes.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    classes.truncate(5);
    classes
}

/// Picture number 0 (waves of changing length) or 1 (checks), normalised: `[1, 3, 224, 224]`.
pub fn picture(number: usize, device: &Device) -> Tensor<4> {
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    for c in 0..3 {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let grey = match number {
                    0 => x * (3 + c) + y * (5 - c) + x * y / (16 + c),
                    _ => (x / 16 * 37 + y / 16 * 59 + c * 83) * 29,
                };
                pixels.push(level((grey & 255) as u8));
            }
        }
    }
    Tensor::from_data(TensorData::new(pixels, [1, 3, SIDE, SIDE]), device)
}

/// Names and outputs of all stages, those of [`Backbone::forward`] last.
fn stages(backbone: &Backbone, x: Tensor<4>) -> Vec<(String, Vec<f32>)> {
    let mut names = vec!["stem".to_owned()];
    names.extend((0..backbone.blocks.len()).map(|i| format!("blocks.{i}")));
    names.push("head".to_owned());
    let outputs = backbone.stage_outputs(x.clone()).into_iter().map(values);
    let mut stages: Vec<(String, Vec<f32>)> = names.into_iter().zip(outputs).collect();

    let features = backbone.forward(x);
    stages.push(("pooled".to_owned(), values(features.pooled)));
    stages.push(("logits".to_owned(), values(features.logits)));
    stages
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// Largest difference at the golden's samples (all values if there are as many), and the golden's largest value.
fn deviation(output: &[f32], golden: &[f32]) -> (f32, f32) {
    let stride = if golden.len() == output.len() { 1 } else { STRIDE };
    let differences = golden.iter().enumerate().map(|(k, golden)| (output[k * stride % output.len()] - golden).abs());
    let largest = differences.map(|d| if d.is_finite() { d } else { f32::INFINITY }).fold(0.0, f32::max);
    let absolute = if golden.is_empty() { f32::INFINITY } else { largest };
    (absolute, golden.iter().fold(0.0, |scale, x| scale.max(x.abs())))
}
