//! `ocelli preprocess`: a picture as the tensors that the model's towers read.

use std::path::PathBuf;

use anyhow::Result;
use ocelli_pipeline::picture;
use serde::Serialize;

use crate::failure::Outcome;
use crate::pixels;
use crate::session::Session;
use crate::source::Tiling;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Picture to make ready
    #[arg(long, value_name = "P", required = true)]
    image: PathBuf,
    /// File to write (safetensors); other commands read it with --pixels
    #[arg(short = 'o', long, value_name = "F")]
    output: PathBuf,
    #[command(flatten)]
    tiling: Tiling,
}

/// The contract's line.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    image: &'a str,
    output: &'a str,
    width: u32,
    height: u32,
    tensors: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    shape: &'a [usize],
}

/// Writes the file.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let frame = picture::decode(&args.image)?;
    let inputs = args.tiling.preprocess(&frame, &*session.model()?)?;
    let (image, output) = (args.image.to_string_lossy(), args.output.to_string_lossy());
    pixels::write(&inputs, &image, &args.output)?;
    let tensors: Vec<Tensor> = inputs.tensors.iter().map(|tensor| Tensor { name: &tensor.name, shape: &tensor.shape }).collect();
    if session.out.json() {
        let (width, height) = (inputs.width, inputs.height);
        session.out.line(&Line { r#type: "inputs", image: &image, output: &output, width, height, tensors })?;
    } else {
        let shapes: Vec<String> = tensors.iter().map(|tensor| format!("{} {:?}", tensor.name, tensor.shape)).collect();
        session.out.text(format!("{output}: {}", shapes.join(", ")))?;
    }
    Ok(Outcome::Done)
}
