//! `ocelli inspect`: what is in a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ocelli_bundle::{Bundle, BundleError, Source};
use serde::Serialize;
use serde_json::Value;

use crate::failure::{Outcome, sentence};
use crate::output::Output;
use crate::session::Session;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle; default: that of -m, or nano
    #[arg(value_name = "M")]
    bundle: Option<PathBuf>,
    /// Compare every byte with its checksum: exit code 1 where they differ
    #[arg(long)]
    verify: bool,
}

/// The contract's line.
#[derive(Serialize)]
struct Report<'a> {
    r#type: &'static str,
    bundle: &'a str,
    format_version: u32,
    name: &'a str,
    family: &'a str,
    tasks: &'a [String],
    licence: &'a str,
    bytes: u64,
    parameters: usize,
    sizes: BTreeMap<&'static str, usize>,
    recipes: BTreeMap<&'a str, usize>,
    config: &'a Value,
    preprocessing: &'a Value,
    provenance: &'a [Source],
    metrics: &'a Value,
    tensors: Vec<Tensor<'a>>,
    texts: BTreeMap<&'a str, usize>,
    golden: Vec<&'a str>,
    extra: &'a serde_json::Map<String, Value>,
    digest: String,
    /// Whether every byte was compared with its checksum.
    verified: bool,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [usize],
    bytes: usize,
    recipe: &'a str,
}

/// A table, or the contract's line.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let path = args.bundle.as_deref();
    let opened = if args.verify { session.unverified_bundle_at(path) } else { session.bundle_at(path) };
    let checked = opened.and_then(|bundle| if args.verify { Ok(bundle.verify().map(|()| bundle)?) } else { Ok(bundle) });
    match checked {
        Ok(bundle) => show(&session.out, &report(&bundle, args.verify)).map(|()| Outcome::Done),
        // Here the question was whether it is damaged, and this is the answer.
        Err(error) if args.verify && error.downcast_ref().is_some_and(is_damage) => {
            session.out.problem(&path.unwrap_or(Path::new("")).to_string_lossy(), &sentence(&error))?;
            Ok(Outcome::SomeBad)
        }
        Err(error) => Err(error),
    }
}

fn is_damage(error: &BundleError) -> bool {
    matches!(error, BundleError::Damaged { .. } | BundleError::Truncated { .. })
}

fn report(bundle: &Bundle, verified: bool) -> Report<'_> {
    let manifest = bundle.manifest();
    let recipe = |name: &str| manifest.quantization.get(name).map(String::as_str);
    let mut recipes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sizes: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut parameters = 0;
    let mut tensors = Vec::new();
    for tensor in bundle.tensors() {
        *sizes.entry(if tensor.is_golden() { "golden" } else { "weights" }).or_default() += tensor.bytes.len();
        let recipe = recipe(tensor.name);
        if !tensor.is_golden() {
            *recipes.entry(recipe.unwrap_or("as stored")).or_default() += 1;
            // int4 holds two weights a byte; scales are no parameters of their own, but few enough to count.
            let int4 = recipe.is_some_and(|recipe| recipe.starts_with("int4"));
            parameters += tensor.elements() * if int4 { 2 } else { 1 };
        }
        let dtype = format!("{:?}", tensor.dtype).to_lowercase();
        tensors.push(Tensor { name: tensor.name, shape: tensor.shape, bytes: tensor.bytes.len(), recipe: recipe.unwrap_or("none"), dtype });
    }
    let texts: BTreeMap<&str, usize> = bundle.texts().map(|(key, text)| (key, text.len())).collect();
    sizes.insert("texts", texts.values().sum());
    Report {
        r#type: "bundle",
        bundle: bundle.origin(),
        format_version: manifest.format_version,
        name: &manifest.name,
        family: &manifest.family,
        tasks: &manifest.tasks,
        licence: &manifest.licence,
        bytes: bundle.size_bytes(),
        parameters,
        sizes,
        recipes,
        config: &manifest.config,
        preprocessing: &manifest.preprocessing,
        provenance: &manifest.provenance,
        metrics: &manifest.metrics,
        tensors,
        texts,
        golden: manifest.golden.iter().map(|golden| golden.name.as_str()).collect(),
        extra: &manifest.extra,
        digest: bundle.digest(),
        verified,
    }
}

fn show(out: &Output, report: &Report) -> Result<()> {
    if out.json() {
        return out.line(report);
    }
    out.text(format!("{} ({} family), {}, {:.1} MB", report.name, report.family, report.bundle, megabytes(report.bytes as usize)))?;
    let recipes: Vec<String> = report.recipes.iter().map(|(recipe, count)| format!("{count} tensors {recipe}")).collect();
    let sizes: Vec<String> = report.sizes.iter().map(|(part, bytes)| format!("{part} {:.2} MB", megabytes(*bytes))).collect();
    out.text(format!("can         {}", report.tasks.join(", ")))?;
    out.text(format!("licence     {}", report.licence))?;
    out.text(format!("parameters  {:.2} M ({})", report.parameters as f64 / 1e6, recipes.join(", ")))?;
    out.text(format!("sizes       {}", sizes.join(", ")))?;
    for (what, value) in [("config", report.config), ("pixels", report.preprocessing), ("metrics", report.metrics)] {
        for (key, value) in value.as_object().into_iter().flatten() {
            out.text(format!("{what:<10}  {key} = {value}"))?;
        }
    }
    for source in report.provenance {
        let licence = if source.licence.is_empty() { "licence not stated" } else { &source.licence };
        let revision = if source.revision.is_empty() { String::new() } else { format!(" {}", source.revision) };
        out.text(format!("made from   {}{revision} ({licence})", source.name))?;
    }
    for (key, bytes) in &report.texts {
        out.text(format!("text        {key}, {bytes} bytes"))?;
    }
    out.text(format!("checksums   {}", if report.verified { "all compared, all right" } else { "not compared here (--verify does)" }))?;
    let widest = report.tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    out.text(format!("\n{:<widest$}  {:<5} {:<18} {:>10}  recipe", "tensor", "dtype", "shape", "bytes"))?;
    for tensor in &report.tensors {
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
        out.text(format!("{:<widest$}  {:<5} {shape:<18} {:>10}  {}", tensor.name, tensor.dtype, tensor.bytes, tensor.recipe))?;
    }
    Ok(())
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use ocelli_bundle::{BundleWriter, Manifest};

    use super::*;

    #[test]
    fn the_line_names_tensors_and_recipes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.ocelli");
        let mut manifest = Manifest::new("tiny", "example");
        manifest.quantization.insert("w".into(), "int8".into());
        let mut writer = BundleWriter::new(manifest);
        writer.f32("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        writer.f32("b", &[2], &[1.0, 2.0]).unwrap();
        writer.text("labels", "cat\ndog").unwrap();
        writer.write_to(&path).unwrap();

        let bundle = Bundle::open(&path).unwrap();
        let line = serde_json::to_value(report(&bundle, false)).unwrap();
        assert_eq!(line["type"], "bundle");
        assert_eq!(line["parameters"], 6);
        assert_eq!(line["tensors"][1]["recipe"], "int8");
        assert_eq!(line["tensors"][1]["shape"], serde_json::json!([2, 2]));
        assert_eq!(line["recipes"], serde_json::json!({"as stored": 1, "int8": 1}));
        assert_eq!(line["texts"]["labels"], 7);
    }
}
