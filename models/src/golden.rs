//! Golden vectors: what a model made of a few pictures when its bundle was written, kept in the bundle.
//!
//! [`check`] computes them anew: proof that this build, on this device, still computes the same function.

use burn::tensor::DType;
use ocelli_bundle::{Bundle, BundleError, BundleWriter, Golden, TensorView};
use ocelli_flow::{BoundingBox, CaptionOptions, Embedding, Frame, FrameMeta, GroundOptions, InputValues, Inputs, Model, ModelError};

use crate::weights::floats;
use crate::{LoadError, registry};

/// A picture with texts.
#[derive(Debug, Clone)]
pub struct Input {
    /// A short name, part of the tensors' names.
    pub name: String,
    /// The picture; small, for the bundle keeps its pixels.
    pub frame: Frame,
    /// What it is asked for where the model can ground, and compared with where it reads texts.
    pub phrases: Vec<String>,
}

/// What a stage made of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The stage, one of [`STAGES`].
    pub name: &'static str,
    /// As [`STAGES`] says.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

/// Every stage, in order, and what is kept of it.
///
/// | stage | shape | what |
/// |---|---|---|
/// | `pixels` | `[n]` | every k-th value of the model's input |
/// | `prompt_ids` | `[n]` | token ids of all texts, one after another |
/// | `embedding` | `[joint]` | the picture |
/// | `text_embeddings` | `[texts, joint]` | the texts |
/// | `logits` | `[texts]` | the picture against the texts |
/// | `detections` | `[boxes, 5]` | left, top, right, bottom in pixels and the score of the best box of each phrase |
/// | `tokens` | `[n]` | of the caption |
pub const STAGES: [&str; 7] = ["pixels", "prompt_ids", "embedding", "text_embeddings", "logits", "detections", "tokens"];

/// How far an output is from what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// Its input's name.
    pub input: String,
    /// Its stage.
    pub stage: String,
    /// Largest difference, relative to the largest magnitude expected; of boxes, of their scores; infinite where even the shape differs.
    pub relative: f32,
    /// Cosine of the angle between what is and what was, where that says something.
    pub cosine: Option<f32>,
    /// Least overlap of a box that was found with the box that is now found in its place.
    pub iou: Option<f32>,
    /// What the bundle allows.
    pub tolerance: f32,
}

impl Deviation {
    /// Whether the output is as expected. Boxes may be off by twice the tolerance in what they share.
    pub fn is_within(&self) -> bool {
        self.relative <= self.tolerance && self.iou.is_none_or(|iou| iou >= 1.0 - 2.0 * self.tolerance)
    }
}

/// Golden vectors could not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// The model or its tensors.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A head.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What the manifest names is not a picture.
    #[error("golden input {name} is {dtype} {shape:?}, not u8 [height, width, 3]")]
    Input {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

impl From<BundleError> for GoldenError {
    fn from(error: BundleError) -> Self {
        Self::Load(error.into())
    }
}

/// What each stage of the model makes of the input; of boxes at most `boxes` a phrase. Stages that the model does not have are left out.
pub fn outputs(model: &dyn Model, input: &Input, boxes: Option<usize>) -> Result<Vec<Output>, ModelError> {
    let mut outputs = Vec::new();
    let mut put = |name, shape: Vec<usize>, values: Vec<f32>| outputs.push(Output { name, shape, values });
    let texts: Vec<&str> = input.phrases.iter().map(String::as_str).collect();
    let inputs = has(model.preprocess(&input.frame))?;
    if let Some(sample) = inputs.as_ref().and_then(sample) {
        put("pixels", vec![sample.len()], sample);
    }
    let ids = texts.iter().map(|text| model.prompt_ids(text)).collect::<Result<Vec<_>, _>>();
    if let Some(ids) = has(ids)?.filter(|ids| !ids.is_empty()) {
        let ids: Vec<f32> = ids.concat().into_iter().map(|id| id as f32).collect();
        put("prompt_ids", vec![ids.len()], ids);
    }
    let encoded = inputs.map(|inputs| model.encode_inputs(inputs)).transpose()?;
    if let Some(embedder) = model.embedder() {
        let image = encoded.as_ref().map(|encoded| embedder.embed_image(encoded, false)).transpose()?;
        if let Some(image) = &image {
            put("embedding", vec![image.values.len()], image.values.clone());
        }
        if let Some(read) = has(embedder.embed_text(&texts, false))?.filter(|read| !read.is_empty()) {
            put("text_embeddings", vec![read.len(), embedder.dim()], read.iter().flat_map(|text| text.values.clone()).collect());
            if let Some(image) = &image {
                let logit = |text: &Embedding| embedder.logit_scale() * image.dot(text) + embedder.logit_bias();
                put("logits", vec![read.len()], read.iter().map(logit).collect());
            }
        }
    }
    let Some(encoded) = encoded else { return Ok(outputs) };
    if let Some(grounder) = model.grounder().filter(|_| !texts.is_empty()) {
        let best = GroundOptions { threshold: Some(0.0), top: boxes, nms: None };
        let found = grounder.ground(&encoded, &grounder.phrases(&texts)?, &best)?;
        let values = found.iter().flat_map(|d| [d.bbox.x0, d.bbox.y0, d.bbox.x1, d.bbox.y1, d.score]).collect();
        put("detections", vec![found.len(), 5], values);
    }
    if let Some(captioner) = model.captioner() {
        let tokens = captioner.caption(&encoded, &CaptionOptions::default(), &mut ())?.tokens;
        put("tokens", vec![tokens.len()], tokens.iter().map(|&token| token as f32).collect());
    }
    Ok(outputs)
}

/// `None` where the model does not do such a thing.
fn has<T>(result: Result<T, ModelError>) -> Result<Option<T>, ModelError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ModelError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Values of the model's input that are kept, at most.
const SAMPLE: usize = 4096;

/// Every k-th value of the pixels.
fn sample(inputs: &Inputs) -> Option<Vec<f32>> {
    match &inputs.tensor("pixel_values")?.values {
        InputValues::F32(values) => Some(values.iter().step_by(values.len().div_ceil(SAMPLE).max(1)).copied().collect()),
        InputValues::I64(_) => None,
    }
}

/// Puts an input and what a model made of it into a bundle.
pub fn record(writer: &mut BundleWriter, outputs: Vec<Output>, input: &Input, tolerance: f32) -> Result<(), BundleError> {
    let (height, width) = (input.frame.height() as usize, input.frame.width() as usize);
    let at = |what: &str| format!("golden/{}/{what}", input.name);
    writer.u8(&at("input"), &[height, width, 3], input.frame.rgb().to_vec())?;
    let mut expected = Vec::new();
    for output in outputs {
        writer.f32(&at(output.name), &output.shape, &output.values)?;
        expected.push(at(output.name));
    }
    let golden = Golden { name: input.name.clone(), input: at("input"), texts: input.phrases.clone(), expected, tolerance };
    writer.manifest_mut().golden.push(golden);
    Ok(())
}

/// The inputs of a bundle's golden vectors.
///
/// # Errors
/// Where one is no picture.
pub fn inputs(bundle: &Bundle) -> Result<Vec<Input>, GoldenError> {
    let golden = &bundle.manifest().golden;
    golden.iter().map(|golden| input(bundle, golden)).collect()
}

fn input(bundle: &Bundle, golden: &Golden) -> Result<Input, GoldenError> {
    let frame = frame(&bundle.tensor(&golden.input)?)?;
    Ok(Input { name: golden.name.clone(), frame, phrases: golden.texts.clone() })
}

/// Computes a bundle's golden vectors anew on a device: how far each output is from what it was.
pub fn check(bundle: &Bundle, device: &burn::tensor::Device) -> Result<Vec<Deviation>, GoldenError> {
    let model = registry::load(bundle, device)?;
    let mut deviations = Vec::new();
    for golden in &bundle.manifest().golden {
        let input = input(bundle, golden)?;
        let found = outputs(&*model, &input, None)?;
        for tensor in &golden.expected {
            let view = bundle.tensor(tensor)?;
            let stage = tensor.rsplit('/').next().unwrap_or(tensor);
            let output = found.iter().find(|output| output.name == stage);
            deviations.push(compare(golden, stage, output, view.shape, &floats(&view, tensor)?));
        }
    }
    Ok(deviations)
}

/// Boxes have no order that a build must keep; tokens have no tolerance: they are the same or not.
fn compare(golden: &Golden, stage: &str, found: Option<&Output>, shape: &[usize], expected: &[f32]) -> Deviation {
    let ids = matches!(stage, "tokens" | "prompt_ids");
    let tolerance = if ids { 0.0 } else { golden.tolerance };
    let mut deviation =
        Deviation { input: golden.name.clone(), stage: stage.to_owned(), relative: f32::INFINITY, cosine: None, iou: None, tolerance };
    match found {
        Some(output) if stage == "detections" => {
            let (iou, score) = matched(&output.values, expected);
            (deviation.relative, deviation.iou) = (score, Some(iou));
        }
        Some(output) if output.shape == shape => {
            deviation.relative = relative_difference(&output.values, expected);
            deviation.cosine = (!ids).then(|| cosine(&output.values, expected));
        }
        _ => {}
    }
    deviation
}

/// For every box that was, the box that is now most like it: the least overlap, and the largest difference of scores.
fn matched(found: &[f32], expected: &[f32]) -> (f32, f32) {
    let bbox = |row: &[f32; 5]| BoundingBox { x0: row[0], y0: row[1], x1: row[2], y1: row[3] };
    let (found, expected) = (found.as_chunks::<5>().0, expected.as_chunks::<5>().0);
    let mut worst = (1.0f32, 0.0f32);
    for was in expected {
        let like = |is: &[f32; 5]| (overlap(&bbox(was), &bbox(is)), (was[4] - is[4]).abs());
        let best = found.iter().map(like).max_by(|a, b| (a.0 - a.1).total_cmp(&(b.0 - b.1)));
        let (iou, difference) = best.unwrap_or((0.0, f32::INFINITY));
        worst = (worst.0.min(iou), worst.1.max(difference));
    }
    worst
}

/// Intersection over union; all of it where the corners are the same to half a pixel, for a box may be a line at the picture's edge.
fn overlap(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let apart = [a.x0 - b.x0, a.y0 - b.y0, a.x1 - b.x1, a.y1 - b.y1];
    if apart.iter().all(|distance| distance.abs() <= 0.5) { 1.0 } else { a.iou(b) }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

/// The picture that a tensor holds.
fn frame(view: &TensorView<'_>) -> Result<Frame, GoldenError> {
    let size = |side: usize| u32::try_from(side).unwrap_or(0);
    let frame = match (view.dtype, view.shape) {
        (DType::U8, &[height, width, 3]) => Frame::new(size(width), size(height), view.bytes.to_vec(), FrameMeta::still(view.name)),
        _ => None,
    };
    let wrong = || GoldenError::Input { name: view.name.to_owned(), dtype: format!("{:?}", view.dtype), shape: view.shape.to_vec() };
    frame.ok_or_else(wrong)
}

/// Largest difference over the largest magnitude expected. What is no number is infinitely far away.
fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0f32, |a, b| if b.is_nan() { f32::INFINITY } else { a.max(b.abs()) });
    let difference = largest(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    if difference == 0.0 { 0.0 } else { difference / largest(&mut expected.iter().copied()).max(f32::MIN_POSITIVE) }
}

#[cfg(test)]
mod tests {
    use super::{matched, relative_difference};

    #[test]
    fn boxes_are_matched_whatever_their_order() {
        let (a, b) = ([0.0, 0.0, 10.0, 10.0, 0.5], [20.0, 0.0, 30.0, 10.0, 0.4]);
        assert_eq!(matched(&[b, a].concat(), &[a, b].concat()), (1.0, 0.0));
        let line = [0.0, 10.0, 30.0, 10.0, 0.5];
        assert_eq!(matched(&line, &line), (1.0, 0.0));
        let moved = [0.0, 0.0, 10.0, 8.0, 0.45];
        let (iou, score) = matched(&moved, &a);
        assert!((iou - 0.8).abs() < 1e-6 && (score - 0.05).abs() < 1e-6);
        assert_eq!(matched(&[], &a), (0.0, f32::INFINITY));
    }

    #[test]
    fn differences_are_relative_to_the_largest() {
        assert_eq!(relative_difference(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
        assert_eq!(relative_difference(&[1.5, -4.0], &[1.0, -4.0]), 0.125);
        assert_eq!(relative_difference(&[f32::NAN], &[1.0]), f32::INFINITY);
        assert_eq!(relative_difference(&[], &[]), 0.0);
    }
}
