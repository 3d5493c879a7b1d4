//! Computes the backbone's features of all pictures once: the backbone is frozen, so every epoch of every head reads the same.
//!
//! Taken up where it was broken off: only whole records count.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;
use ocelli_flow::{Frame, FrameMeta};
use ocelli_models::nano::backbone::{Backbone, Features, MEAN, SIDE, STD};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::Pictures;
use crate::features::{FORMAT, Index, RECORD, RECORD_BYTES, paths};
use crate::progress::bar;

/// Compute the backbone's features of all pictures.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of data sets, or one data set: a folder with images/ or images.tar in it.
    #[arg(long)]
    data: PathBuf,
    /// Data set in that folder; all of them where none is named.
    #[arg(long = "set")]
    sets: Vec<String>,
    /// Folder of the training: reads backbone/weights.bpk, writes cache/.
    #[arg(long)]
    work: PathBuf,
    /// Of the mirrored pictures too.
    #[arg(long)]
    flip: bool,
}

/// Pictures between two writes.
const CHUNK: usize = 16;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let device = Device::flex();
    let weights = args.work.join("backbone/weights.bpk");
    let bytes = fs::read(&weights).with_context(|| format!("cannot read {}: run `ocelli-train import-backbone` first", weights.display()))?;
    let checksum = hex(&Sha256::digest(&bytes));
    let record = ModuleRecord::load(&weights).with_context(|| format!("cannot load {}", weights.display()))?;
    let backbone = Backbone::init(&device).try_load_record(record).with_context(|| format!("{} is not the backbone", weights.display()))?;

    let folder = args.work.join("cache");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (set, pictures) in data_sets(&args.data, &args.sets)? {
        let index =
            Index { format: FORMAT, backbone: checksum.clone(), record_bytes: RECORD_BYTES, flipped: args.flip, files: pictures.names().to_vec() };
        cache_set(&folder, &set, &pictures, &index, &backbone, &device).with_context(|| format!("data set {set}"))?;
    }
    Ok(())
}

/// Names and pictures of the data sets in `folder`, or of the one that it is.
fn data_sets(folder: &Path, wanted: &[String]) -> Result<Vec<(String, Pictures)>> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut folders = Vec::new();
    if Pictures::are_in(folder) {
        let whole = folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
        folders.push(whole);
    } else if wanted.is_empty() {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            folders.extend(Some(entry?.path()).filter(|path| Pictures::are_in(path)));
        }
        folders.sort();
    } else {
        folders.extend(wanted.iter().map(|set| folder.join(set)));
    }
    ensure!(!folders.is_empty(), "{} has no folder with images/ or images.tar in it", folder.display());
    folders.iter().map(|path| Ok((name(path), Pictures::open(path)?))).collect()
}

/// Appends what is missing to the files of one data set.
fn cache_set(folder: &Path, set: &str, pictures: &Pictures, index: &Index, backbone: &Backbone, device: &Device) -> Result<()> {
    let [index_path, plain, mirrored] = paths(folder, set);
    let text = serde_json::to_vec(index)?;
    let mut files: Vec<PathBuf> = vec![plain];
    files.extend(index.flipped.then_some(mirrored));
    if fs::read(&index_path).ok().as_deref() != Some(&text) {
        // Other pictures, another backbone, or nothing yet: from the start. The index comes last, so that it never speaks of other records.
        for file in &files {
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        }
        fs::write(&index_path, &text).with_context(|| format!("cannot write {}", index_path.display()))?;
    }
    let mut records = Vec::new();
    for path in &files {
        records.push(OpenOptions::new().append(true).create(true).open(path).with_context(|| format!("cannot write {}", path.display()))?);
    }
    let mut done = pictures.names().len();
    for file in &records {
        done = done.min((file.metadata()?.len() / RECORD_BYTES as u64) as usize);
    }
    for file in &records {
        file.set_len((done * RECORD_BYTES) as u64)?;
    }

    let (bar, start) = (bar(pictures.names().len() as u64, done as u64, set), Instant::now());
    let rest: Vec<usize> = (done..pictures.names().len()).collect();
    for chunk in rest.chunks(CHUNK) {
        let computed: Vec<Vec<Vec<u8>>> =
            chunk.par_iter().map(|&i| features_of(pictures, i, index.flipped, backbone, device)).collect::<Result<_>>()?;
        for (way, file) in records.iter_mut().enumerate() {
            let bytes: Vec<u8> = computed.iter().flat_map(|picture| &picture[way]).copied().collect();
            file.write_all(&bytes)?;
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish();
    if !std::io::stderr().is_terminal() {
        eprintln!("{set}: {} pictures, {} of them now, {:.0} s", pictures.names().len(), rest.len(), start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The record of a picture, and that of its mirror image if asked for.
fn features_of(pictures: &Pictures, index: usize, flip: bool, backbone: &Backbone, device: &Device) -> Result<Vec<Vec<u8>>> {
    let name = &pictures.names()[index];
    let bytes = pictures.read(index)?;
    let rgb = image::load_from_memory(&bytes).with_context(|| format!("{name} is no picture"))?.into_rgb8();
    let (width, height) = rgb.dimensions();
    let Some(frame) = Frame::new(width, height, rgb.into_raw(), FrameMeta::still(name.as_str())) else { bail!("{name} is empty") };
    let pixels = ocelli_preprocess::squash(&frame, SIDE as u32, [MEAN; 3], [STD; 3]);
    let mut batch = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, SIDE, SIDE]), device);
    if flip {
        batch = Tensor::cat(vec![batch.clone(), batch.flip([3])], 0);
    }
    records(backbone.forward(batch))
}

/// A record for each picture of a batch.
fn records(features: Features) -> Result<Vec<Vec<u8>>> {
    let [batch, _] = features.logits.dims();
    let Features { stride8, stride16, stride32, head, pooled, logits } = features;
    // In the order of `MAPS`.
    let maps = [stride8.flatten::<2>(1, 2), stride16.flatten(1, 2), stride32.flatten(1, 2), head.flatten(1, 2), pooled, logits];
    let mut records = vec![Vec::with_capacity(RECORD); batch];
    for map in maps {
        let values = map.into_data().into_vec::<f32>().map_err(|e| anyhow::anyhow!("features are not f32: {e:?}"))?;
        for (record, values) in records.iter_mut().zip(values.chunks(values.len() / batch)) {
            record.extend_from_slice(values);
        }
    }
    Ok(records.iter().map(|record| bytes_of_f16(record)).collect())
}

fn bytes_of_f16(values: &[f32]) -> Vec<u8> {
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(values);
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
