//! What every command needs, validated: a model that can be opened, a device, threads, and a place to speak.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ocelli_bundle::Bundle;
use ocelli_flow::{Answerer, Captioner, Embedder, Grounder, Model};
use ocelli_linux::memory::give_back_free;
use ocelli_ops::device::DeviceChoice;

use crate::args::Global;
use crate::embedded;
use crate::output::Output;

/// Larger files are verified by `inspect --verify` only: hashing takes about a second a gigabyte.
const VERIFY_UP_TO_BYTES: u64 = 1 << 28;

/// One call of the program.
pub struct Session {
    /// Where results and remarks go.
    pub out: Output,
    /// When the program started.
    pub started: Instant,
    /// The device as it was asked for.
    pub device: DeviceChoice,
    /// CPU threads, as asked for or one a core.
    pub threads: usize,
    model: Option<PathBuf>,
}

impl Session {
    /// Makes sure of what can be made sure of before any work: the device and the threads.
    pub fn new(global: Global, started: Instant) -> Result<Self> {
        ocelli_ops::device::select(global.device).context("--device")?;
        ocelli_ops::cpu::set_isa(global.isa.as_deref()).context("--isa or OCELLI_ISA")?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = global.threads.map_or(cores, usize::from);
        if global.threads.is_some() {
            ocelli_ops::set_threads(threads).context("--threads")?;
        }
        Ok(Self { out: Output::new(global.json, global.quiet), started, device: global.device, threads, model: global.model })
    }

    /// The bundle of `-m`, or nano.
    pub fn bundle(&self) -> Result<Bundle> {
        self.bundle_at(None)
    }

    /// The bundle at `path`, else that of `-m`, or nano. A file that is not very large is compared with its checksums:
    /// a damaged model would not fail, it would see things. nano is part of the program and is not.
    pub fn bundle_at(&self, path: Option<&Path>) -> Result<Bundle> {
        let bundle = self.unverified_bundle_at(path)?;
        let from_file = path.or(self.model.as_deref()).is_some();
        if from_file && bundle.size_bytes() <= VERIFY_UP_TO_BYTES {
            bundle.verify()?;
        }
        Ok(bundle)
    }

    /// The bundle at `path`, else that of `-m`, or nano; only its seal and structure are checked.
    pub fn unverified_bundle_at(&self, path: Option<&Path>) -> Result<Bundle, anyhow::Error> {
        if let Some(path) = path.or(self.model.as_deref()) {
            return Ok(Bundle::open(path)?);
        }
        match embedded::nano() {
            Some(bytes) => Ok(Bundle::from_static(bytes)?),
            None => bail!("this build has no model inside; name a bundle with -m FILE, or build with --features nano"),
        }
    }

    /// The model of `-m`, or nano, on the chosen device.
    pub fn model(&self) -> Result<Box<dyn Model>> {
        self.load(&self.bundle()?)
    }

    /// The model of an opened bundle on the chosen device.
    pub fn load(&self, bundle: &Bundle) -> Result<Box<dyn Model>> {
        let device = ocelli_ops::device::select(self.device).context("--device")?;
        let model = ocelli_models::load(bundle, &device).with_context(|| format!("{}: this model cannot be loaded", bundle.origin()))?;
        give_back_free();
        Ok(model)
    }
}

/// The model's joint embedding, or a sentence that it has none.
pub fn embedder(model: &dyn Model) -> Result<&dyn Embedder> {
    model.embedder().with_context(|| cannot(model, "embed pictures and texts in one space"))
}

/// The model's grounding head, or a sentence that it has none.
pub fn grounder(model: &dyn Model) -> Result<&dyn Grounder> {
    model.grounder().with_context(|| cannot(model, "find phrases in pictures"))
}

/// The model's captioner, or a sentence that it has none.
pub fn captioner(model: &dyn Model) -> Result<&dyn Captioner> {
    model.captioner().with_context(|| cannot(model, "caption pictures"))
}

/// What answers the model's questions, or a sentence that it has none.
pub fn answerer(model: &dyn Model) -> Result<&dyn Answerer> {
    model.answerer().with_context(|| cannot(model, "answer questions"))
}

fn cannot(model: &dyn Model, what: &str) -> String {
    format!("the model {} cannot {what}; choose another with -m, `ocelli inspect` says what a model can do", model.name())
}
