//! `ocelli import`: somebody else's checkpoint as a bundle.

pub mod golden;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use ocelli_convert::{Lora, Options, Report};
use ocelli_models::table::Storage;
use serde::Serialize;

use crate::failure::Outcome;
use crate::session::Session;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the checkpoint, or its file of weights; a GGUF file
    #[arg(value_name = "DIR|FILE")]
    checkpoint: PathBuf,
    /// Bundle to write
    #[arg(short = 'o', long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    making: Making,
    /// The projector of a GGUF language model: with it the model sees
    #[arg(long, value_name = "FILE.gguf")]
    mmproj: Option<PathBuf>,
}

/// What the bundle shall be; `pull` takes it, too.
#[derive(Debug, clap::Args)]
pub struct Making {
    /// How weights are kept; norms, biases and positions stay f32; default: f32, and of a GGUF file as they are
    #[arg(long, value_enum)]
    dtype: Option<Kept>,
    /// The bundle's name; default: the checkpoint's
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// Adapter (LoRA, as PEFT writes it) to add to the weights, at that scale; may be repeated
    #[arg(long, value_name = "DIR[:SCALE]")]
    lora: Vec<Lora>,
    /// Replace the bundle if it is there already
    #[arg(long)]
    force: bool,
    /// Keep no golden vectors in the bundle: `verify` will have nothing to compare with
    #[arg(long)]
    no_golden: bool,
}

/// `--dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kept {
    /// Single precision
    F32,
    /// Half precision: half the size
    F16,
    /// A quarter of the size, computed with integers
    Int8,
    /// Text layers as int4, about an eighth of their size; towers that see as int8
    Int4,
}

impl From<Kept> for Storage {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::F32 => Self::F32,
            Kept::F16 => Self::F16,
            Kept::Int8 => Self::Int8,
            Kept::Int4 => Self::Int4,
        }
    }
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

/// The contract's line.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    output: &'a str,
    model: &'a str,
    class: &'a str,
    family: &'a str,
    tasks: &'a [String],
    dtype: &'static str,
    tensors: usize,
    parameters: u64,
    bytes: u64,
    licence: &'a str,
    unused: usize,
    seconds: f64,
}

/// Writes the bundle and says what is in it.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    args.making.check(&args.output)?;
    args.making.carry_out(session, &args.checkpoint, args.mmproj, &args.output)
}

impl Making {
    /// Makes sure that the bundle can be written before any work is done.
    pub fn check(&self, output: &Path) -> Result<()> {
        check_output(output, self.force)?;
        if let Some(name) = &self.name {
            ensure!(!name.trim().is_empty(), "--name is empty; give a name, or leave it out");
        }
        Ok(())
    }

    /// Makes the bundle of a checkpoint, and says what became of it.
    pub fn carry_out(&self, session: &Session, checkpoint: &Path, projector: Option<PathBuf>, output: &Path) -> Result<Outcome> {
        let started = Instant::now();
        let gguf = checkpoint.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        let as_they_are = gguf && self.dtype.is_none();
        let storage = self.dtype.unwrap_or(Kept::F32).into();
        let options = Options { storage, as_they_are, name: self.name.clone(), projector, loras: self.lora.clone() };
        let mut bar = None;
        let mut before = 0;
        let mut progress = |done: u64, total: u64| {
            bar.get_or_insert_with(|| session.out.bytes("importing", total)).advance(done - before);
            before = done;
        };
        let report = ocelli_convert::import(checkpoint, output, &options, &mut progress)?;
        drop(bar);
        if !self.no_golden {
            golden::add(session, checkpoint, output, &options)?;
        }
        say(session, output, self.dtype.map_or(if as_they_are { "kept" } else { "f32" }, Kept::name), &report, started)
    }
}

/// Makes sure that a bundle can be written before any work is done.
pub fn check_output(output: &Path, force: bool) -> Result<()> {
    let shown = output.display();
    ensure!(!output.is_dir(), "{shown}: this is a folder; name a file in it with -o");
    ensure!(force || !output.exists(), "{shown}: there is a file already; give another name with -o, or --force to replace it");
    if let Some(folder) = output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        ensure!(folder.is_dir(), "{shown}: there is no folder {}; make it first", folder.display());
    }
    Ok(())
}

fn say(session: &Session, output: &Path, dtype: &'static str, report: &Report, started: Instant) -> Result<Outcome> {
    let bytes = std::fs::metadata(output).map_or(report.bytes, |metadata| metadata.len());
    let seconds = started.elapsed().as_secs_f64();
    if !report.unused.is_empty() {
        let few: Vec<&str> = report.unused.iter().take(3).map(String::as_str).collect();
        let more = if report.unused.len() > few.len() { ", …" } else { "" };
        session.out.note(format!("{} tensors of the checkpoint are of no use here: {}{more}", report.unused.len(), few.join(", ")));
    }
    if report.licence.is_empty() {
        session.out.note("the checkpoint names no licence; look where it is from before you pass the bundle on");
    }
    let output = output.to_string_lossy();
    if session.out.json() {
        session.out.line(&Line {
            r#type: "imported",
            output: &output,
            model: &report.name,
            class: &report.class,
            family: &report.family,
            tasks: &report.tasks,
            dtype,
            tensors: report.tensors,
            parameters: report.parameters,
            bytes,
            licence: &report.licence,
            unused: report.unused.len(),
            seconds,
        })?;
    } else {
        session.out.text(format!(
            "{output}: {} ({}), {}, {:.1} million parameters as {}, {:.1} MB, in {seconds:.1} s",
            report.name,
            report.class,
            report.tasks.join(", "),
            report.parameters as f64 / 1e6,
            dtype,
            bytes as f64 / 1e6,
        ))?;
    }
    Ok(Outcome::Done)
}
