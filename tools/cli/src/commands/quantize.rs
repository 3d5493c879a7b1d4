//! `ocelli quantize`: a bundle whose weights are kept in fewer bits, and what that costs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use ocelli_bundle::Bundle;
use ocelli_convert::goldens;
use ocelli_convert::quantize::{Comparison, Report, Tensor, compare};
use ocelli_convert::recipe::Recipe;
use ocelli_flow::Frame;
use ocelli_models::golden::{self, Input};
use ocelli_models::table::Storage;
use ocelli_ops::device::DeviceChoice;
use ocelli_pipeline::picture;
use serde::Serialize;

use super::import;
use crate::failure::Outcome;
use crate::session::Session;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle to read
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The bundle to write
    #[arg(short = 'o', long, value_name = "FILE")]
    output: PathBuf,
    /// f32, f16, int8, int8g, int4, or a file: `default = "int8"`, and `[[rule]]` with `match = "text.*"` and `recipe = "int4"`
    #[arg(long, value_name = "R|FILE.toml")]
    recipe: String,
    /// A picture to compare the two models on; may be repeated; default: those of the golden vectors
    #[arg(long, value_name = "P")]
    image: Vec<PathBuf>,
    /// Replace the new bundle if it is there already
    #[arg(long)]
    force: bool,
    /// Compare nothing, and keep no golden vectors: neither model is run
    #[arg(long, conflicts_with = "image")]
    no_golden: bool,
}

/// A weight.
#[derive(Serialize)]
struct TensorLine<'a> {
    r#type: &'static str,
    name: &'a str,
    from: &'static str,
    to: &'static str,
    parameters: u64,
    bytes_before: u64,
    bytes: u64,
    relative: f64,
    max: f32,
}

/// The model. What was not compared is left out.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    output: &'a str,
    model: &'a str,
    recipe: &'a str,
    tensors: usize,
    bytes_before: u64,
    bytes: u64,
    relative: f64,
    pictures: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_cosine: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_cosine: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_agreement: Option<f64>,
    /// Whether the quantized model was given the original's tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher_forced: Option<bool>,
    seconds: f64,
}

#[derive(Serialize)]
struct Pair {
    least: f32,
    mean: f32,
}

/// Writes the bundle, compares it, and says a line a weight and one of the model.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let started = Instant::now();
    import::check_output(&args.output, args.force)?;
    let recipe = Recipe::read(&args.recipe).context("--recipe")?;
    let frames = args.image.iter().map(|path| Ok(picture::decode(path)?)).collect::<Result<Vec<Frame>>>()?;
    let mut bar = None;
    let mut before = 0;
    let mut progress = |done: u64, total: u64| {
        bar.get_or_insert_with(|| session.out.bytes("quantizing", total)).advance(done - before);
        before = done;
    };
    let report = ocelli_convert::quantize(&args.input, &args.output, &recipe, &mut progress)?;
    drop(bar);
    let comparison = if args.no_golden { Comparison::default() } else { compared(session, &args, frames)? };
    say(session, &args.output, &report, &comparison, started)
}

/// Compares the two models, and puts golden vectors and what was measured into the new bundle.
fn compared(session: &Session, args: &Args, frames: Vec<Frame>) -> Result<Comparison> {
    let bundles = [Bundle::open(&args.input)?, Bundle::open(&args.output)?];
    let inputs = golden::inputs(&bundles[0])?;
    let frames = if frames.is_empty() { inputs.iter().map(|input| input.frame.clone()).collect() } else { frames };
    let texts: Vec<&str> = inputs.iter().flat_map(|input| &input.phrases).map(String::as_str).collect();
    let original = session.load(&bundles[0])?;
    let quantized = session.load(&bundles[1])?;
    let comparison =
        compare(&*original, &*quantized, &frames, &texts).context("the models cannot be compared; --no-golden leaves it out")?;
    // Golden vectors are the CPU's.
    let model = if session.device == DeviceChoice::Cpu {
        quantized
    } else {
        ocelli_models::load(&bundles[1], &ocelli_ops::device::select(DeviceChoice::Cpu)?)?
    };
    let outputs = |input: &Input| golden::outputs(&*model, input, Some(import::golden::BOXES));
    let outputs = inputs.iter().map(outputs).collect::<Result<Vec<_>, _>>()?;
    goldens::add(&args.output, |writer| {
        writer.manifest_mut().metrics = comparison.metrics();
        let tolerance = import::golden::tolerance(Storage::Int8);
        inputs.iter().zip(outputs).try_for_each(|(input, outputs)| golden::record(writer, outputs, input, tolerance))
    })?;
    Ok(comparison)
}

/// Root mean square of the weights' errors, each as often as the weight has values.
fn relative(tensors: &[Tensor]) -> f64 {
    let count: f64 = tensors.iter().map(|tensor| tensor.parameters as f64).sum();
    let square: f64 = tensors.iter().map(|tensor| tensor.relative.powi(2) * tensor.parameters as f64).sum();
    if count > 0.0 { (square / count).sqrt() } else { 0.0 }
}

fn say(session: &Session, output: &Path, report: &Report, comparison: &Comparison, started: Instant) -> Result<Outcome> {
    let out = &session.out;
    let bytes = std::fs::metadata(output).map_or(report.bytes, |metadata| metadata.len());
    let (output, seconds) = (output.to_string_lossy(), started.elapsed().as_secs_f64());
    let share = comparison.captions.and_then(|captions| captions.share());
    if out.json() {
        for Tensor { name, from, to, parameters, bytes_before, bytes, relative, max } in &report.tensors {
            let (parameters, bytes_before, bytes, relative, max) = (*parameters, *bytes_before, *bytes, *relative, *max);
            out.line(&TensorLine { r#type: "quantized_tensor", name, from, to, parameters, bytes_before, bytes, relative, max })?;
        }
        out.line(&Line {
            r#type: "quantized",
            output: &output,
            model: &report.name,
            recipe: &report.recipe,
            tensors: report.tensors.len(),
            bytes_before: report.bytes_before,
            bytes,
            relative: relative(&report.tensors),
            pictures: comparison.pictures,
            image_cosine: comparison.images.map(|of| Pair { least: of.least, mean: of.mean }),
            text_cosine: comparison.texts.map(|of| Pair { least: of.least, mean: of.mean }),
            tokens: comparison.captions.map(|captions| captions.tokens),
            token_agreement: share,
            teacher_forced: comparison.captions.map(|captions| captions.given),
            seconds,
        })?;
        return Ok(Outcome::Done);
    }
    let widest = report.tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    out.text(format!("{:<widest$}  {:<5} {:<5} {:>12}  {:>8}  {:>9}", "weight", "was", "is", "bytes", "error", "largest"))?;
    for Tensor { name, from, to, bytes, relative, max, .. } in &report.tensors {
        out.text(format!("{name:<widest$}  {from:<5} {to:<5} {bytes:>12}  {:>6.3} %  {max:>9.2e}", relative * 100.0))?;
    }
    for (what, cosines) in [("pictures", comparison.images), ("texts", comparison.texts)] {
        if let Some(cosines) = cosines {
            out.text(format!("embeddings of {what}: cosine {:.5} on average, {:.5} at least", cosines.mean, cosines.least))?;
        }
    }
    if let (Some(captions), Some(share)) = (comparison.captions, share) {
        let how = if captions.given { "the same words before them" } else { "captions of its own" };
        out.text(format!("captions: {} of {} tokens the same ({:.1} %), with {how}", captions.same, captions.tokens, share * 100.0))?;
    }
    out.text(format!(
        "{output}: {} as {}, {:.1} MB instead of {:.1}, in {seconds:.1} s",
        report.name,
        report.recipe,
        bytes as f64 / 1e6,
        report.bytes_before as f64 / 1e6,
    ))?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_weights_count_for_more() {
        let tensor = |parameters, relative| Tensor {
            name: String::new(),
            from: "f32",
            to: "int8",
            parameters,
            bytes_before: 0,
            bytes: 0,
            relative,
            max: 0.0,
        };
        assert!((relative(&[tensor(300, 0.0), tensor(100, 0.2)]) - 0.1).abs() < 1e-12);
        assert_eq!(relative(&[]), 0.0);
    }
}
