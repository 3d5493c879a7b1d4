//! Golden vectors: what a model made of a few pictures when its bundle was written, kept in the bundle.
//!
//! [`check`] computes them anew: proof that this build, on this device, still computes the same function.

use burn::tensor::DType;
use ocelli_bundle::{Bundle, BundleError, BundleWriter, Golden, TensorView};
use ocelli_flow::{CaptionOptions, Frame, FrameMeta, GroundOptions, Model, ModelError};

use crate::weights::floats;
use crate::{LoadError, registry};

/// A picture with phrases.
#[derive(Debug, Clone)]
pub struct Input {
    /// A short name, part of the tensors' names.
    pub name: String,
    /// The picture; small, for the bundle keeps its pixels.
    pub frame: Frame,
    /// What it is asked for where the model can ground.
    pub phrases: Vec<String>,
}

/// What a head made of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `embedding`, `detections` or `tokens`.
    pub name: &'static str,
    /// `[joint]`; `[phrases, 5]`: left, top, right, bottom in pixels and the score of the best box; `[tokens]`.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

/// How far an output is from what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// The tensor with what was expected.
    pub tensor: String,
    /// Largest difference, relative to the largest magnitude expected; infinite where even the shape differs.
    pub relative: f32,
    /// What the bundle allows.
    pub tolerance: f32,
}

impl Deviation {
    /// Whether the output is as expected.
    pub fn is_within(&self) -> bool {
        self.relative <= self.tolerance
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

/// What each head of the model makes of the input.
pub fn outputs(model: &dyn Model, input: &Input) -> Result<Vec<Output>, ModelError> {
    let encoded = model.encode(&input.frame)?;
    let mut outputs = Vec::new();
    if let Some(embedder) = model.embedder() {
        let values = embedder.embed_image(&encoded, false)?.values;
        outputs.push(Output { name: "embedding", shape: vec![values.len()], values });
    }
    if let Some(grounder) = model.grounder().filter(|_| !input.phrases.is_empty()) {
        let phrases = grounder.phrases(&input.phrases.iter().map(String::as_str).collect::<Vec<_>>())?;
        let best = GroundOptions { threshold: Some(0.0), top: Some(1), nms: None };
        let found = grounder.ground(&encoded, &phrases, &best)?;
        let values = found.iter().flat_map(|d| [d.bbox.x0, d.bbox.y0, d.bbox.x1, d.bbox.y1, d.score]).collect();
        outputs.push(Output { name: "detections", shape: vec![found.len(), 5], values });
    }
    if let Some(captioner) = model.captioner() {
        let tokens = captioner.caption(&encoded, &CaptionOptions::default())?.tokens;
        outputs.push(Output { name: "tokens", shape: vec![tokens.len()], values: tokens.iter().map(|&token| token as f32).collect() });
    }
    Ok(outputs)
}

/// Puts the input and the model's outputs into a bundle. Tokens have no tolerance: they are the same or not.
pub fn record(writer: &mut BundleWriter, model: &dyn Model, input: &Input, tolerance: f32) -> Result<(), GoldenError> {
    let (height, width) = (input.frame.height() as usize, input.frame.width() as usize);
    let at = |what: &str| format!("golden/{}/{what}", input.name);
    writer.u8(&at("input"), &[height, width, 3], input.frame.rgb().to_vec())?;
    let mut expected = Vec::new();
    for output in outputs(model, input)? {
        writer.f32(&at(output.name), &output.shape, &output.values)?;
        expected.push(at(output.name));
    }
    let golden = Golden { name: input.name.clone(), input: at("input"), texts: input.phrases.clone(), expected, tolerance };
    writer.manifest_mut().golden.push(golden);
    Ok(())
}

/// Computes a bundle's golden vectors anew on a device: how far each output is from what it was.
pub fn check(bundle: &Bundle, device: &burn::tensor::Device) -> Result<Vec<Deviation>, GoldenError> {
    let model = registry::load(bundle, device)?;
    let mut deviations = Vec::new();
    for golden in &bundle.manifest().golden {
        let frame = frame(&bundle.tensor(&golden.input)?)?;
        let input = Input { name: golden.name.clone(), frame, phrases: golden.texts.clone() };
        let found = outputs(&*model, &input)?;
        for tensor in &golden.expected {
            let view = bundle.tensor(tensor)?;
            let output = found.iter().find(|output| tensor.ends_with(&format!("/{}", output.name)) && output.shape == view.shape);
            let tolerance = if tensor.ends_with("/tokens") { 0.0 } else { golden.tolerance };
            let relative = match output {
                Some(output) => relative_difference(&output.values, &floats(&view, tensor)?),
                None => f32::INFINITY,
            };
            deviations.push(Deviation { tensor: tensor.clone(), relative, tolerance });
        }
    }
    Ok(deviations)
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
    use super::relative_difference;

    #[test]
    fn differences_are_relative_to_the_largest() {
        assert_eq!(relative_difference(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
        assert_eq!(relative_difference(&[1.5, -4.0], &[1.0, -4.0]), 0.125);
        assert_eq!(relative_difference(&[f32::NAN], &[1.0]), f32::INFINITY);
        assert_eq!(relative_difference(&[], &[]), 0.0);
    }
}
