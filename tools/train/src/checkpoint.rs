//! What a training keeps on disk so that it can be taken up again, and what it leaves behind.
//!
//! A part's folder holds `weights.bpk` (the averaged weights: the result), and while it runs `module.bpk`,
//! `optimizer.bpk` and `state.json` (to go on from), and `log.jsonl` (a line an epoch).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use serde::{Deserialize, Serialize};

use crate::ema::Ema;

/// How far a training is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Epochs finished.
    pub epoch: usize,
    /// Optimizer steps done.
    pub step: usize,
    /// Best figure on dev so far.
    pub best: f64,
}

/// A part's folder.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
}

impl Checkpoint {
    /// Makes the folder.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The averaged weights.
    pub fn weights(&self) -> PathBuf {
        self.folder.join("weights.bpk")
    }

    /// A file of this part.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Fails where a training lies in the folder already, which other weights must not take the place of.
    pub fn ensure_new(&self) -> Result<()> {
        ensure!(!self.file("state.json").exists(), "{} holds a training: give another folder with --out", self.folder.display());
        Ok(())
    }

    /// Keeps all that is needed to go on. The state is written last: without it there is nothing to go on from.
    pub fn save<M: Module>(&self, module: &M, ema: &Ema, optimizer: &ModuleOptimizer, state: &State) -> Result<()> {
        module.clone().into_record().save(self.file("module.bpk"))?;
        ema.module(module).into_record().save(self.weights())?;
        optimizer.save(self.file("optimizer.bpk"))?;
        let unfinished = self.file("state.json.part");
        fs::write(&unfinished, serde_json::to_vec(state)?)?;
        fs::rename(&unfinished, self.file("state.json"))?;
        Ok(())
    }

    /// Takes up a training: the module, its average, the optimizer and the state as they were saved; `None` if there is none.
    pub fn resume<M: Module>(&self, module: M, decay: f64, optimizer: ModuleOptimizer) -> Result<Resumed<M>> {
        let path = self.file("state.json");
        if !path.exists() {
            let ema = Ema::new(&module, decay);
            return Ok(Resumed { module, ema, optimizer, state: State::default() });
        }
        let state = serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("{} is damaged", path.display()))?;
        let averaged = load(module.clone(), &self.weights())?;
        let ema = Ema::new(&averaged, decay);
        let module = load(module, &self.file("module.bpk"))?;
        let optimizer = optimizer.load(self.file("optimizer.bpk")).with_context(|| "cannot read the optimizer's state")?;
        Ok(Resumed { module, ema, optimizer, state })
    }

    /// Adds a line to the log.
    pub fn log(&self, line: &serde_json::Value) -> Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.file("log.jsonl"))?;
        writeln!(file, "{line}")?;
        Ok(())
    }
}

/// A training taken up, or begun.
pub struct Resumed<M> {
    /// The weights.
    pub module: M,
    /// Their average.
    pub ema: Ema,
    /// The optimizer.
    pub optimizer: ModuleOptimizer,
    /// How far it is.
    pub state: State,
}

/// Loads a record into a module of the same shape.
pub fn load<M: Module>(module: M, path: &Path) -> Result<M> {
    let record = ModuleRecord::load(path).with_context(|| format!("cannot read {}", path.display()))?;
    module.try_load_record(record).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}
