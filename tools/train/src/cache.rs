//! Computes the backbone's features of all pictures once: the backbone is frozen, so every epoch of every head reads the same.
//!
//! Taken up where it was broken off: only whole records count.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;
use ocelli_eval::dataset::Pictures;
use ocelli_flow::{Frame, FrameMeta};
use ocelli_models::nano::backbone::{Backbone, Features, MEAN, SIDE, STD};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::data_sets;
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
    let device = ocelli_ops::select(ocelli_ops::DeviceChoice::Cpu)?;
    let weights = args.work.join("backbone/weights.bpk");
    let record = ModuleRecord::load(&weights)
        .with_context(|| format!("cannot load {}: run `ocelli-train import-backbone` first", weights.display()))?;
    let backbone = Backbone::init(&device).try_load_record(record).with_context(|| format!("{} is not the backbone", weights.display()))?;
    let checksum = checksum(&backbone);

    let folder = args.work.join("cache");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (set, data) in data_sets(&args.data, &args.sets)? {
        let pictures = data.pictures()?;
        let (files, backbone_sha256) = (pictures.names()?, checksum.clone());
        let index = Index { format: FORMAT, backbone: backbone_sha256, record_bytes: RECORD_BYTES, flipped: args.flip, files };
        cache_set(&folder, &set, &pictures, &index, &backbone, &device).with_context(|| format!("data set {set}"))?;
    }
    Ok(())
}

/// Appends what is missing to the files of one data set.
fn cache_set(folder: &Path, set: &str, pictures: &Pictures, index: &Index, backbone: &Backbone, device: &Device) -> Result<()> {
    let [index_path, plain, mirrored] = paths(folder, set);
    let text = serde_json::to_vec(index)?;
    let mut files: Vec<PathBuf> = vec![plain];
    files.extend(index.flipped.then_some(mirrored));
    match fs::read(&index_path) {
        Ok(found) if found == text => {}
        Ok(_) => bail!("{} is of other pictures or of another backbone: remove the data set's files first", index_path.display()),
        Err(_) => {
            // Records without an index could be anyone's. The index is written after they are gone, so that it never speaks of them.
            for file in &files {
                File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
            }
            fs::write(&index_path, &text).with_context(|| format!("cannot write {}", index_path.display()))?;
        }
    }
    let mut records = Vec::new();
    for path in &files {
        records.push(OpenOptions::new().append(true).create(true).open(path).with_context(|| format!("cannot write {}", path.display()))?);
    }
    let mut done = index.files.len();
    for file in &records {
        done = done.min((file.metadata()?.len() / RECORD_BYTES as u64) as usize);
    }
    for file in &records {
        file.set_len((done * RECORD_BYTES) as u64)?;
    }

    let (bar, start) = (bar(index.files.len() as u64, done as u64, set), Instant::now());
    for chunk in index.files[done..].chunks(CHUNK) {
        let computed: Vec<Vec<Vec<u8>>> =
            chunk.par_iter().map(|file| features_of(pictures, file, index.flipped, backbone, device)).collect::<Result<_>>()?;
        for (way, file) in records.iter_mut().enumerate() {
            let bytes: Vec<u8> = computed.iter().flat_map(|picture| &picture[way]).copied().collect();
            file.write_all(&bytes)?;
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish();
    if !std::io::stderr().is_terminal() {
        let (all, seconds) = (index.files.len(), start.elapsed().as_secs_f64());
        eprintln!("{set}: {all} pictures, {} of them now, {seconds:.0} s", all - done);
    }
    Ok(())
}

/// The record of a picture, and that of its mirror image if asked for.
fn features_of(pictures: &Pictures, file: &str, flip: bool, backbone: &Backbone, device: &Device) -> Result<Vec<Vec<u8>>> {
    let bytes = pictures.read(file)?;
    let rgb = image::load_from_memory(&bytes).with_context(|| format!("{file} is no picture"))?.into_rgb8();
    let (width, height) = rgb.dimensions();
    let Some(frame) = Frame::new(width, height, rgb.into_raw(), FrameMeta::still(file)) else { bail!("{file} is empty") };
    let pixels = ocelli_preprocess::squash(&frame, SIDE as u32, MEAN, STD);
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
        let values = map.into_data().try_into_vec::<f32>().map_err(|e| anyhow::anyhow!("features are not f32: {e:?}"))?;
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

/// SHA-256 of the weights themselves: a file of them also holds ids that are new at every import.
fn checksum(backbone: &Backbone) -> String {
    struct Weights(Sha256);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.update(param.val().into_data().as_bytes());
        }
    }
    let mut weights = Weights(Sha256::new());
    backbone.visit(&mut weights);
    weights.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
