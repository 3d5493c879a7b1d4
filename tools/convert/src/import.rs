//! A checkpoint becomes a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ocelli_bundle::{BundleWriter, Manifest};
use ocelli_models::plan::Declared;
use ocelli_models::registry;
use ocelli_models::table::Storage;
use ocelli_models::weights::Recipe;

use crate::checkpoint::Checkpoint;
use crate::lora::{Adapters, Lora};
use crate::source::Source;
use crate::{ImportError, chat, fill, names, pictures, provenance, tokenizer};

/// What the bundle shall be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How weights are kept.
    pub storage: Storage,
    /// They are kept as in the checkpoint instead: the integers of a GGUF file's Q8_0, Q5_0 and Q4_0 stay what they are, those of its other types
    /// are rounded to int8 in groups of 32, and floats stay floats.
    pub as_they_are: bool,
    /// The bundle's name; default: the last part of the checkpoint's.
    pub name: Option<String>,
    /// The `mmproj` file that belongs to a GGUF language model.
    pub projector: Option<PathBuf>,
    /// Adapters that are added to the weights.
    pub loras: Vec<Lora>,
}

/// What became of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The bundle's name.
    pub name: String,
    /// The class of the checkpoint.
    pub class: String,
    /// The family of the bundle.
    pub family: String,
    /// What it can do.
    pub tasks: Vec<String>,
    /// Tensors of weights in the bundle, their scales not counted.
    pub tensors: usize,
    /// Weights, all in all.
    pub parameters: u64,
    /// Size of the bundle in bytes.
    pub bytes: u64,
    /// The licence that the checkpoint names; empty where it names none.
    pub licence: String,
    /// Tensors of the checkpoint that the model has no use for.
    pub unused: Vec<String>,
}

/// Makes the bundle `output` of the checkpoint at `path`: a folder, or a file of weights in one.
///
/// Everything is checked before the file is begun, but for the weights' values. `progress` is told of bytes as they are done and of all there
/// will be.
///
/// # Errors
/// Says which file or tensor is wrong and what to do; nothing is left at `output` then.
pub fn import(path: &Path, output: &Path, options: &Options, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, ImportError> {
    let source = match &options.projector {
        Some(projector) => Source::of_gguf(path, Some(projector))?,
        None => Source::find(path)?,
    };
    let found = tokenizer::find(&source)?;
    let tokens = found.as_ref().map(|found| found.files.facts());
    let generation = source.json("generation_config.json")?.unwrap_or_default();
    let processor = pictures::processor(&source)?.map_or(serde_json::Value::Null, |(_, config)| config);
    let declared = Declared { config: &source.config, format: source.format, tokens, generation: &generation, processor: &processor };
    let class = declared.class();
    let plan = registry::plan(&declared).map_err(|error| ImportError::Plan { path: source.config_file.clone(), source: error })?;

    let checkpoint = Checkpoint::open(&source.weights)?;
    let prefix = names::prefix(&checkpoint, &plan.rows);
    fill::check(&checkpoint, &plan.rows, prefix).map_err(|reason| ImportError::Tensors {
        path: source.weights.path().to_owned(),
        reason,
        config: source.config_file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    })?;
    let adapters = Adapters::open(&options.loras, &plan.rows)?;
    let tokenizer = plan.text.as_ref().map(|text| tokenizer::build(&source, found.as_ref(), text)).transpose()?;
    let template = if plan.chat { chat::template(&source, found.as_ref())? } else { None };
    let preprocessing = if plan.pictures { pictures::recipe(&source)? } else { serde_json::Value::Null };

    let mut files: Vec<PathBuf> = checkpoint.files.clone();
    if source.gguf.is_none() {
        let others =
            ["preprocessor_config.json", "processor_config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"];
        files.push(source.config_file.clone());
        files.extend(others.map(|name| source.folder.join(name)).into_iter().filter(|path| path.is_file()));
    }
    if plan.text.is_some() {
        files.extend(found.iter().flat_map(|found| found.paths.clone()));
    }
    let adapter_files: Vec<PathBuf> = adapters.files().flat_map(|(_, files)| files.to_vec()).collect();
    // Whatever else it is good for, `--force` must not replace the weights by what is made of them.
    if let Ok(own) = output.canonicalize()
        && files.iter().chain(&adapter_files).any(|file| file.canonicalize().is_ok_and(|file| file == own))
    {
        return Err(ImportError::weights(output, "is a file of the checkpoint or an adapter; give the bundle another name with -o"));
    }
    let storage = (!options.as_they_are).then_some(options.storage);
    let recipes: Vec<Recipe> = plan.rows.iter().map(|row| fill::recipe(row, storage, &checkpoint, prefix)).collect();
    let rounded = fill::rounded(&plan.rows, storage, &checkpoint, prefix);
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let total = files.iter().chain(&adapter_files).map(size).sum::<u64>()
        + plan.rows.iter().zip(&recipes).map(|(row, recipe)| fill::bytes(row, *recipe)).sum::<u64>();
    let mut done = 0;
    let mut advance = |bytes: u64| {
        done += bytes;
        progress(done, total);
    };
    let origin = provenance::provenance(&source, &files, &mut advance)?;
    let name = options.name.clone().unwrap_or_else(|| origin.name.rsplit('/').next().unwrap_or_default().to_owned());

    let mut manifest = Manifest::new(name.clone(), plan.family);
    manifest.tasks.clone_from(&plan.tasks);
    manifest.config = plan.config.clone();
    manifest.preprocessing = preprocessing;
    manifest.licence.clone_from(&origin.licence);
    let licence = origin.licence.clone();
    let card = card(&name, &class, &origin, &weights_said(storage, &rounded), &adapters.described());
    manifest.provenance = vec![origin];
    for (folder, files) in adapters.files() {
        manifest.provenance.push(provenance::of_adapter(folder, files, &mut advance)?);
    }
    for (row, recipe) in plan.rows.iter().zip(&recipes) {
        if let Some(recipe) = recipe.name() {
            manifest.quantization.insert(row.name.clone(), recipe.to_owned());
        }
    }
    let mut writer = BundleWriter::new(manifest);
    if let Some(tokenizer) = tokenizer {
        writer.text("tokenizer.json", tokenizer)?;
    }
    if let Some(template) = template {
        writer.text("chat_template", template)?;
    }
    writer.text("model_card", card)?;
    for part in plan.rows.iter().zip(&recipes).flat_map(|(row, recipe)| fill::parts(row, *recipe)) {
        writer.declare(&part.name, part.dtype, &part.shape)?;
    }
    let mut file = writer.begin(output)?;
    let bytes = file.size_bytes();
    for (row, recipe) in plan.rows.iter().zip(&recipes) {
        fill::fill(&mut file, row, *recipe, &checkpoint, prefix, &adapters.of_row(row)?, &mut advance)?;
    }
    file.finish()?;
    Ok(Report {
        name,
        class,
        family: plan.family.to_owned(),
        tensors: plan.rows.len(),
        parameters: plan.rows.iter().map(|row| row.shape.iter().product::<usize>() as u64).sum(),
        bytes,
        licence,
        unused: names::unused(&checkpoint, &plan.rows, prefix).into_iter().map(str::to_owned).collect(),
        tasks: plan.tasks,
    })
}

/// How weights are kept, in words. `rounded`: types of integers that were rounded to others, and of how many tensors.
fn weights_said(storage: Option<Storage>, rounded: &BTreeMap<String, usize>) -> String {
    let mut weights = storage.map_or("as the source keeps them", Storage::said).to_owned();
    for (kind, count) in rounded {
        weights.push_str(&format!("; {count} tensors of {kind}, rounded anew to int8 in groups of 32"));
    }
    weights
}

/// What a reader of the bundle should know.
fn card(name: &str, class: &str, origin: &ocelli_bundle::Source, weights: &str, adapters: &[String]) -> String {
    let revision = if origin.revision.is_empty() { String::new() } else { format!(", revision {}", origin.revision) };
    let licence = if origin.licence.is_empty() { "not stated by the source" } else { &origin.licence };
    let merged: String = adapters.iter().map(|adapter| format!("LoRA adapter merged into the weights: {adapter}.\n\n")).collect();
    format!(
        "# {name}\n\nImported from {}{revision} ({class}).\n\n{merged}Weights: {weights}. Licence: {licence}.\n\nWhat the model was trained on and how good it is, its source says.\n",
        origin.name
    )
}
