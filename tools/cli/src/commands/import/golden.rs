//! Golden vectors for a bundle that was just imported: what its weights compute in single precision on the CPU, whatever the bundle keeps.

use std::path::Path;

use anyhow::{Context, Result};
use ocelli_bundle::Bundle;
use ocelli_convert::{Options, goldens};
use ocelli_flow::{Frame, FrameMeta};
use ocelli_models::golden::{self, Input};
use ocelli_models::table::Storage;
use ocelli_ops::device::DeviceChoice;

use crate::session::Session;

/// Sides of the picture: not square, so that a box on the wrong axis is noticed.
const SIZE: (u32, u32) = (96, 64);
/// What is asked for, and compared with.
const TEXTS: [&str; 3] = ["a cat", "two people in front of a house, at night", "a red car"];
/// Boxes that are kept for each text.
pub const BOXES: usize = 3;

/// What a build may be off by, relative to the greatest value: the order of sums, and what a bundle's weights were rounded to.
pub fn tolerance(storage: Storage) -> f32 {
    match storage {
        // Single precision over some dozen layers: a hundred times what two builds were seen to differ by.
        Storage::F32 => 1e-4,
        // Eleven bits a weight.
        Storage::F16 => 1e-2,
        // A cosine of .999 is 4.5 % of the length; the greatest component may be off by more than the average one.
        Storage::Int8 | Storage::Int8Groups | Storage::Int4 => 1e-1,
    }
}

/// Writes `bundle` again with golden vectors in it. Four bits change what a model says, so such a bundle gets its own, and so does one of GGUF's
/// integers; another one of integers gets those of the same checkpoint in single precision, which is imported for it and deleted again.
pub fn add(session: &Session, checkpoint: &Path, bundle: &Path, options: &Options) -> Result<()> {
    let input = Input { name: "made-up".into(), frame: made_up()?, phrases: TEXTS.map(str::to_owned).to_vec() };
    let outputs = if options.as_they_are || matches!(options.storage, Storage::F32 | Storage::Int4) {
        outputs(bundle, &input)
    } else {
        // Beside the bundle, where there is room for it.
        let folder = bundle.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let scratch = tempfile::Builder::new().prefix(".ocelli-f32-").tempdir_in(folder).context("a folder for the weights as f32")?;
        let exact = scratch.path().join("f32.ocelli");
        let options = Options { storage: Storage::F32, ..options.clone() };
        let mut bar = None;
        let mut before = 0;
        let mut progress = |done: u64, total: u64| {
            bar.get_or_insert_with(|| session.out.bytes("as f32, for golden vectors", total)).advance(done - before);
            before = done;
        };
        ocelli_convert::import(checkpoint, &exact, &options, &mut progress)?;
        outputs(&exact, &input)
    }
    .with_context(|| format!("{}: golden vectors cannot be computed; --no-golden leaves them out", bundle.display()))?;
    // What is kept as it is may be integers, too.
    let tolerance = tolerance(if options.as_they_are { Storage::Int8Groups } else { options.storage });
    Ok(goldens::add(bundle, |writer| golden::record(writer, outputs, &input, tolerance))?)
}

fn outputs(bundle: &Path, input: &Input) -> Result<Vec<golden::Output>> {
    let device = ocelli_ops::device::select(DeviceChoice::Cpu)?;
    let model = ocelli_models::load(&Bundle::open(bundle)?, &device)?;
    Ok(golden::outputs(&*model, input, Some(BOXES))?)
}

/// A disc and a bar on a ramp.
fn made_up() -> Result<Frame> {
    let (width, height) = SIZE;
    let mut rgb = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let disc = (x as i32 - 30).pow(2) + (y as i32 - 34).pow(2) < 400;
            let bar = (60..84).contains(&x) && (8..56).contains(&y);
            rgb.extend(match (disc, bar) {
                (true, _) => [210, 60, 40],
                (_, true) => [40, 90, 200],
                _ => [(x * 2) as u8, (y * 3) as u8, 128],
            });
        }
    }
    Frame::new(width, height, rgb, FrameMeta::still("made-up")).context("a made-up picture")
}
