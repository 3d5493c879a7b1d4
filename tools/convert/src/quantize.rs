//! A bundle becomes another whose weights are kept in other forms.
//!
//! Tensors are read and written one after another, so the heap holds a few copies of the largest. [`compare`] says what it costs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ocelli_bundle::{Bundle, BundleError, BundleWriter, Source};
use ocelli_flow::{CaptionOptions, Embedding, Frame, GenerateOptions, Model, ModelError};
use ocelli_models::table::{self, Kind, Row};
use ocelli_models::weights;
use ocelli_models::{LoadError, registry};
use serde_json::json;

use crate::fill;
use crate::recipe::{Recipe, RecipeError};

/// Why a bundle could not be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The bundle, this one or that.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its tensors.
    #[error("{}: {source}", path.display())]
    Load {
        /// The bundle.
        path: PathBuf,
        /// What is wrong.
        source: LoadError,
    },
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A family without a table.
    #[error("{}: models of the family {family} are quantized already, when they are made", path.display())]
    Already {
        /// The bundle.
        path: PathBuf,
        /// The family.
        family: String,
    },
    /// One file for both.
    #[error("{}: this is the bundle to read; give the new one another name with -o", path.display())]
    Same {
        /// The file.
        path: PathBuf,
    },
    /// A weight that is no finite number, or too large for half precision.
    #[error("{}: tensor {tensor} has {value} at index {index}, which {form} cannot hold", path.display())]
    Value {
        /// The bundle.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Of the first such value, as it is stored.
        index: usize,
        /// The value.
        value: f32,
        /// The form.
        form: &'static str,
    },
}

/// What became of a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// What it was: `f32`, `f16`, `int8`, `int8g`, `int4`.
    pub from: &'static str,
    /// What it is.
    pub to: &'static str,
    /// Its values.
    pub parameters: u64,
    /// With its scales, before.
    pub bytes_before: u64,
    /// And now.
    pub bytes: u64,
    /// Length of the difference by length of the weight.
    pub relative: f64,
    /// Greatest difference.
    pub max: f32,
}

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its model's name.
    pub name: String,
    /// What was done: the recipe's name.
    pub recipe: String,
    /// Weights, without norms, biases and positions.
    pub tensors: Vec<Tensor>,
    /// Size of the bundle that was read.
    pub bytes_before: u64,
    /// Size of the one that was written.
    pub bytes: u64,
}

/// Makes the bundle `output` of the bundle `input`, with every weight as `recipe` says. Golden vectors and metrics are those of other weights, and
/// left out. `progress` is told of bytes as they are done and of all there will be.
///
/// # Errors
/// Says which file, rule or tensor is wrong and what to do; nothing is left at `output` then, unless it cannot be read again.
pub fn quantize(input: &Path, output: &Path, recipe: &Recipe, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, QuantizeError> {
    let load = |source| QuantizeError::Load { path: input.to_owned(), source };
    if let (Ok(from), Ok(to)) = (input.canonicalize(), output.canonicalize())
        && from == to
    {
        return Err(QuantizeError::Same { path: input.to_owned() });
    }
    let bundle = Bundle::open(input)?;
    let Some(rows) = registry::rows(bundle.manifest()).map_err(load)? else {
        return Err(QuantizeError::Already { path: input.to_owned(), family: bundle.manifest().family.clone() });
    };
    let recipes = recipe.policy.recipes(&rows).map_err(|error| recipe.at_line(error))?;
    // Damage would get new checksums, which say that it is right.
    bundle.verify()?;
    table::check(&bundle, &rows).map_err(load)?;

    let mut planned = Vec::new();
    for (row, to) in rows.iter().zip(recipes) {
        let from = weights::stored_as(&bundle, &row.name).map_err(load)?;
        planned.push((row, from, to.unwrap_or(from)));
    }
    let mut manifest = bundle.manifest().clone();
    for (row, _, to) in &planned {
        match to.name() {
            Some(name) => manifest.quantization.insert(row.name.clone(), name.to_owned()),
            None => manifest.quantization.remove(&row.name),
        };
    }
    manifest.golden.clear();
    manifest.metrics = serde_json::Value::Null;
    manifest.provenance.push(Source {
        name: format!("{}, quantized by ocelli: {}", manifest.name, recipe.name),
        revision: bundle.digest(),
        licence: manifest.licence.clone(),
        ..Source::default()
    });
    let name = manifest.name.clone();
    let mut writer = BundleWriter::new(manifest);
    for (key, text) in bundle.texts() {
        let more = if key == "model_card" { format!("\nQuantized by ocelli: {}.\n", recipe.name) } else { String::new() };
        writer.text(key, format!("{text}{more}"))?;
    }
    let total: u64 = planned.iter().map(|(row, _, to)| 2 * fill::bytes(row, *to)).sum();
    for part in planned.iter().flat_map(|(row, _, to)| fill::parts(row, *to)) {
        writer.declare(&part.name, part.dtype, &part.shape)?;
    }
    // What is in no row of the table, and belongs to none.
    let known: BTreeSet<String> = planned.iter().flat_map(|(row, from, _)| fill::parts(row, *from)).map(|part| part.name).collect();
    let others: Vec<_> = bundle.in_file_order().filter(|tensor| !tensor.is_golden() && !known.contains(tensor.name)).collect();
    for tensor in &others {
        writer.declare(tensor.name, tensor.dtype, tensor.shape)?;
    }

    let mut done = 0;
    let mut advance = |bytes: u64| {
        done += bytes;
        progress(done, total);
    };
    let mut file = writer.begin(output)?;
    for tensor in others {
        file.append(tensor.name, tensor.bytes)?;
    }
    for &(row, from, to) in &planned {
        if from == to {
            for part in fill::parts(row, from) {
                let stored = bundle.tensor(&part.name)?.bytes;
                file.append(&part.name, stored)?;
                advance(stored.len() as u64);
            }
            continue;
        }
        let values = weights::values(&bundle, &row.name, &row.shape, to.transposed()).map_err(load)?;
        let half = to.short_name() == "f16";
        if let Some(index) = values.iter().position(|&value| !value.is_finite() || (half && half::f16::from_f32(value).is_infinite())) {
            let (path, tensor, form) = (input.to_owned(), row.name.clone(), to.short_name());
            return Err(QuantizeError::Value { path, tensor, index, value: values[index], form });
        }
        let shape = fill::stored(row, to);
        for block in fill::blocks(&shape) {
            fill::append(&mut file, row, &shape, to, &values[block], &mut advance)?;
        }
    }
    file.finish()?;

    // Measured on what the file gives back, not on what was meant to be in it.
    let written = Bundle::open(output)?;
    let mut tensors = Vec::new();
    for &(row, from, to) in &planned {
        let (before, after) = (fill::bytes(row, from), fill::bytes(row, to));
        if row.kind != Kind::Float {
            let (relative, max) = if from == to { (0.0, 0.0) } else { difference(&bundle, &written, row).map_err(load)? };
            let (from, to, parameters) = (from.short_name(), to.short_name(), row.shape.iter().product::<usize>() as u64);
            tensors.push(Tensor { name: row.name.clone(), from, to, parameters, bytes_before: before, bytes: after, relative, max });
        }
        advance(after);
    }
    Ok(Report { name, recipe: recipe.name.clone(), tensors, bytes_before: bundle.size_bytes(), bytes: written.size_bytes() })
}

/// How far a weight is from what it was: length by length, and the greatest difference.
fn difference(before: &Bundle, after: &Bundle, row: &Row) -> Result<(f64, f32), LoadError> {
    let [was, is] = [before, after].map(|bundle| weights::values(bundle, &row.name, &row.shape, true));
    let (was, is) = (was?, is?);
    let (mut square, mut whole, mut max) = (0.0, 0.0, 0.0f32);
    for (was, is) in was.iter().zip(&is) {
        let difference = is - was;
        square += f64::from(difference).powi(2);
        whole += f64::from(*was).powi(2);
        max = max.max(difference.abs());
    }
    Ok((if square > 0.0 { (square / whole).sqrt() } else { 0.0 }, max))
}

/// What a quantized model says of pictures and texts, against the original.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Pictures that both have seen.
    pub pictures: usize,
    /// Cosines of the pictures' embeddings.
    pub images: Option<Cosines>,
    /// Cosines of the texts' embeddings.
    pub texts: Option<Cosines>,
    /// Captions.
    pub captions: Option<Agreement>,
}

/// Cosines of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosines {
    /// The least.
    pub least: f32,
    /// Their mean.
    pub mean: f32,
}

/// Tokens of captions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Of the original's captions.
    pub tokens: usize,
    /// Places at which the quantized model finds the same token the likeliest.
    pub same: usize,
    /// Whether it was given the original's tokens before each place. Where the model cannot do that it writes captions of its own, and whatever
    /// follows the first other token differs.
    pub given: bool,
}

/// Tokens of a caption that are compared.
const MOST_TOKENS: usize = 64;

/// Shows both models the same pictures and texts.
///
/// # Errors
/// Where one of them fails.
pub fn compare(original: &dyn Model, quantized: &dyn Model, frames: &[Frame], texts: &[&str]) -> Result<Comparison, ModelError> {
    let mut comparison = Comparison { pictures: frames.len(), ..Comparison::default() };
    if let (Some(was), Some(is)) = (original.embedder(), quantized.embedder())
        && !texts.is_empty()
        && let Some((was, is)) = able(was.embed_text(texts, false))?.zip(able(is.embed_text(texts, false))?)
    {
        comparison.texts = cosines(&was, &is);
    }
    let (mut was_seen, mut is_seen) = (Vec::new(), Vec::new());
    for frame in frames {
        let Some((was, is)) = able(original.encode(frame))?.zip(able(quantized.encode(frame))?) else { continue };
        if let (Some(original), Some(quantized)) = (original.embedder(), quantized.embedder()) {
            was_seen.push(original.embed_image(&was, false)?);
            is_seen.push(quantized.embed_image(&is, false)?);
        }
        if let (Some(original), Some(quantized)) = (original.captioner(), quantized.captioner()) {
            let generate = GenerateOptions { max_tokens: Some(MOST_TOKENS), beams: Some(1), ..GenerateOptions::default() };
            let options = CaptionOptions { generate, ..CaptionOptions::default() };
            let tokens = original.caption(&was, &options, &mut ())?.tokens;
            let followed = able(original.follow(&was, &tokens))?.zip(able(quantized.follow(&is, &tokens))?);
            let given = followed.is_some();
            let (was, is) = match followed {
                Some(followed) => followed,
                None => (tokens, quantized.caption(&is, &options, &mut ())?.tokens),
            };
            let all = comparison.captions.get_or_insert(Agreement { tokens: 0, same: 0, given });
            all.tokens += was.len();
            all.same += was.iter().zip(&is).filter(|(was, is)| was == is).count();
        }
    }
    comparison.images = cosines(&was_seen, &is_seen);
    Ok(comparison)
}

/// `None` where the model does not do such a thing.
fn able<T>(result: Result<T, ModelError>) -> Result<Option<T>, ModelError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ModelError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Of embeddings of length 1.
fn cosines(was: &[Embedding], is: &[Embedding]) -> Option<Cosines> {
    let each: Vec<f32> = was.iter().zip(is).map(|(was, is)| was.dot(is)).collect();
    let least = each.iter().copied().reduce(f32::min)?;
    Some(Cosines { least, mean: each.iter().sum::<f32>() / each.len() as f32 })
}

impl Comparison {
    /// For the manifest.
    pub fn metrics(&self) -> serde_json::Value {
        let mut metrics = serde_json::Map::new();
        let mut put = |key: &str, value: Option<f64>| value.map(|value| metrics.insert(format!("quantized.{key}"), json!(value)));
        put("image_cosine", self.images.map(|cosines| f64::from(cosines.mean)));
        put("text_cosine", self.texts.map(|cosines| f64::from(cosines.mean)));
        put("token_agreement", self.captions.and_then(|captions| captions.share()));
        if metrics.is_empty() { serde_json::Value::Null } else { metrics.into() }
    }
}

impl Agreement {
    /// Part of the tokens that are the same; `None` where there are none.
    pub fn share(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.same as f64 / self.tokens as f64)
    }
}
