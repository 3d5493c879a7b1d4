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
use ocelli_bundle::Bundle;
use ocelli_eval::dataset::Pictures;
use ocelli_flow::{Frame, FrameMeta};
use ocelli_models::nano::backbone::{Backbone, Features, SIDE, squash};
use ocelli_models::weights;
use ocelli_pipeline::picture;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
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
    /// Compute with the backbone of this bundle, in integers as a device does and several times as fast, instead of with backbone/.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Of the mirrored pictures too.
    #[arg(long)]
    flip: bool,
    /// Of so many random crops of each picture too, every other one mirrored. Seeded by the picture's name.
    #[arg(long, default_value_t = 0)]
    crops: usize,
}

/// What is computed of each picture beside itself.
#[derive(Clone, Copy)]
struct Views {
    mirrored: bool,
    crops: usize,
}

/// Smallest share of the picture's area in a crop, and the most that its sides are stretched against each other.
const LEAST_AREA: f64 = 0.4;
const MOST_STRETCH: f64 = 4.0 / 3.0;

/// Pictures between two writes.
const CHUNK: usize = 16;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let device = ocelli_ops::select(ocelli_ops::DeviceChoice::Cpu)?;
    let (backbone, checksum) = match &args.bundle {
        Some(path) => of_bundle(path, &device)?,
        None => of_training(&args.work, &device)?,
    };

    let folder = args.work.join("cache");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (set, data) in data_sets(&args.data, &args.sets)? {
        let pictures = data.pictures()?;
        let (files, backbone_sha256) = (pictures.names()?, checksum.clone());
        let index =
            Index { format: FORMAT, backbone: backbone_sha256, record_bytes: RECORD_BYTES, flipped: args.flip, crops: args.crops, files };
        cache_set(&folder, &set, &pictures, &index, &backbone, &device).with_context(|| format!("data set {set}"))?;
    }
    Ok(())
}

/// The training's own backbone and its checksum.
fn of_training(work: &Path, device: &Device) -> Result<(Backbone, String)> {
    let weights = work.join("backbone/weights.bpk");
    let record = ModuleRecord::load(&weights)
        .with_context(|| format!("cannot load {}: run `ocelli-train import-backbone` first", weights.display()))?;
    let backbone = Backbone::init(device).try_load_record(record).with_context(|| format!("{} is not the backbone", weights.display()))?;
    let checksum = checksum(&backbone);
    Ok((backbone, checksum))
}

/// A bundle's backbone as it runs, and its checksum.
fn of_bundle(path: &Path, device: &Device) -> Result<(Backbone, String)> {
    let bundle = Bundle::open(path)?;
    let floats: Backbone = weights::load(Backbone::init(device), "backbone", &bundle, device)?;
    let backbone = weights::open(Backbone::init(device), "backbone", &bundle, device)?;
    Ok((backbone, format!("{} as packed", checksum(&floats))))
}

/// Appends what is missing to the files of one data set.
fn cache_set(folder: &Path, set: &str, pictures: &Pictures, index: &Index, backbone: &Backbone, device: &Device) -> Result<()> {
    let [index_path, plain, mirrored, crops] = paths(folder, set);
    let text = serde_json::to_vec(index)?;
    let mut files: Vec<PathBuf> = vec![plain];
    files.extend(index.flipped.then_some(mirrored));
    files.extend((index.crops > 0).then_some(crops));
    let views = Views { mirrored: index.flipped, crops: index.crops };
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
    // Bytes of a picture in each file.
    let sizes: Vec<usize> = views.counts().map(|count| count * RECORD_BYTES).collect();
    let mut done = index.files.len();
    for (file, size) in records.iter().zip(&sizes) {
        done = done.min((file.metadata()?.len() / *size as u64) as usize);
    }
    for (file, size) in records.iter().zip(&sizes) {
        file.set_len((done * size) as u64)?;
    }

    let (bar, start) = (bar(index.files.len() as u64, done as u64, set), Instant::now());
    for chunk in index.files[done..].chunks(CHUNK) {
        let computed: Vec<Vec<Vec<u8>>> =
            chunk.par_iter().map(|file| features_of(pictures, file, views, backbone, device)).collect::<Result<_>>()?;
        let mut first = 0;
        for (count, file) in views.counts().zip(&mut records) {
            let bytes: Vec<u8> = computed.iter().flat_map(|picture| picture[first..first + count].concat()).collect();
            file.write_all(&bytes)?;
            first += count;
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

impl Views {
    /// Records of a picture in each of the files that there are: the picture's own, the mirrored one, the crops'.
    fn counts(self) -> impl Iterator<Item = usize> {
        [1, usize::from(self.mirrored), self.crops].into_iter().filter(|&count| count > 0)
    }
}

/// The record of a picture, that of its mirror image if asked for, and those of its crops.
fn features_of(pictures: &Pictures, file: &str, views: Views, backbone: &Backbone, device: &Device) -> Result<Vec<Vec<u8>>> {
    let frame = picture::decode_bytes(&pictures.read(file)?, Path::new(file), FrameMeta::still(file))?;
    let mut squash = squash();
    let mut pixels = |frame: &Frame| {
        let mut pixels = Vec::new();
        squash.normalised(frame, &mut pixels);
        Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, SIDE, SIDE]), device)
    };
    let plain = pixels(&frame);
    let mut batch = vec![plain.clone()];
    batch.extend(views.mirrored.then(|| plain.flip([3])));
    let mut rng = SmallRng::seed_from_u64(seed(file));
    for at in 0..views.crops {
        let cropped = pixels(&crop(&frame, &mut rng));
        batch.push(if at % 2 == 1 { cropped.flip([3]) } else { cropped });
    }
    records(backbone.forward(Tensor::cat(batch, 0)))
}

/// A random part of a picture: at least [`LEAST_AREA`] of it, its sides stretched against the picture's by [`MOST_STRETCH`] at most.
fn crop(frame: &Frame, rng: &mut SmallRng) -> Frame {
    let (area, stretch) = (rng.random_range(LEAST_AREA..1.0f64), rng.random_range(-1.0..1.0f64));
    let stretch = MOST_STRETCH.powf(stretch).sqrt();
    let side = |length: u32, share: f64| ((f64::from(length) * share.min(1.0)).round() as u32).clamp(1, length);
    let (width, height) = (side(frame.width(), area.sqrt() * stretch), side(frame.height(), area.sqrt() / stretch));
    let (left, top) = (rng.random_range(0..=frame.width() - width), rng.random_range(0..=frame.height() - height));
    let line = 3 * frame.width() as usize;
    let rows = frame.rgb().chunks_exact(line).skip(top as usize).take(height as usize);
    let rgb: Vec<u8> = rows.flat_map(|row| &row[3 * left as usize..3 * (left + width) as usize]).copied().collect();
    Frame::new(width, height, rgb, frame.meta().clone()).unwrap_or_else(|| frame.clone())
}

/// The same for the same name, on every machine.
fn seed(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(8).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_parts_of_the_picture_and_the_same_every_time() {
        let (width, height) = (60u32, 40u32);
        let rgb: Vec<u8> = (0..width * height).flat_map(|i| [(i % width) as u8, (i / width) as u8, 7]).collect();
        let frame = Frame::new(width, height, rgb, FrameMeta::still("a.jpg")).unwrap();
        let all = |name: &str| -> Vec<Frame> {
            let mut rng = SmallRng::seed_from_u64(seed(name));
            (0..50).map(|_| crop(&frame, &mut rng)).collect()
        };
        let crops = all("a.jpg");
        let corner = |crop: &Frame| [crop.rgb()[0], crop.rgb()[1]];
        for crop in &crops {
            let area = f64::from(crop.width() * crop.height()) / f64::from(width * height);
            assert!((LEAST_AREA - 0.05..=1.0).contains(&area), "{area}");
            let [left, top] = corner(crop);
            let last = crop.rgb().len() - 3;
            let end = [u32::from(left) + crop.width() - 1, u32::from(top) + crop.height() - 1];
            assert_eq!([crop.rgb()[last], crop.rgb()[last + 1]].map(u32::from), end);
        }
        let corners = |crops: &[Frame]| crops.iter().map(corner).collect::<Vec<_>>();
        assert_eq!(corners(&crops), corners(&all("a.jpg")));
        assert_ne!(corners(&crops), corners(&all("b.jpg")));
    }
}
