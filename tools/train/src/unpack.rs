//! Takes a bundle apart again: the parts' weights as `pack` reads them, so that a shipped model can be trained further.
//!
//! Weights come out as the bundle computes with them, dequantized. The backbone too: features cached with it are what a device sees.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::Device;
use ocelli_bundle::Bundle;
use ocelli_models::nano::backbone::Backbone;
use ocelli_models::nano::caption::Captioner;
use ocelli_models::nano::config::NanoConfig;
use ocelli_models::nano::embed::JointSpace;
use ocelli_models::nano::ground::GroundHead;
use ocelli_models::weights;

/// Take a bundle apart into the folder of a training.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// Folder of the training: receives backbone/, embed/, ground/, caption/ and tokenizer.json.
    #[arg(long)]
    work: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let config = NanoConfig::from_json(&bundle.manifest().config)?;
    let tokenizer = bundle.text("tokenizer.json").with_context(|| format!("{} has no tokenizer", args.bundle.display()))?;
    let device = Device::flex();
    write(&args.work.join("tokenizer.json"), tokenizer.as_bytes())?;
    write(&args.work.join("ground/calibration.json"), &serde_json::to_vec(&config.calibration)?)?;
    part(Backbone::init(&device), "backbone", "backbone", &bundle, &args.work)?;
    part(JointSpace::init(&config.text, &config.image, &device), "joint", "embed", &bundle, &args.work)?;
    part(GroundHead::init(&config.ground, &device), "ground", "ground", &bundle, &args.work)?;
    part(Captioner::init(&config.caption, &device), "caption", "caption", &bundle, &args.work)
}

/// Writes `module`, found in the bundle under `prefix`, to `work/folder/weights.bpk`.
fn part<M: Module>(module: M, prefix: &str, folder: &str, bundle: &Bundle, work: &Path) -> Result<()> {
    let module = weights::load(module, prefix, bundle, &Device::flex())?;
    let folder = work.join(folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(module.into_record().save(folder.join("weights.bpk"))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
