//! A pull, from a Hub on this machine.
//!
//! - `whole`: what lies where after a pull, and what is not asked for again
//! - `broken`: connections that break, silence, and servers that do not resume
//! - `wrong`: content that is not what it should be
//! - `refused`: names, tokens, and what a server may say
//! - `offline`: the cache alone
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

mod broken;
mod offline;
mod refused;
mod whole;
mod wrong;

use std::time::Duration;

use ocelli_hub::testing::{Hub, Model};
use ocelli_hub::{HubError, Progress, Request, Settings, Silent, Snapshot, pull};
use tempfile::TempDir;

/// The name that the tests' model has.
const REPO: &str = "org/model";

/// A server, and a cache that is empty at first.
struct Place {
    hub: Hub,
    cache: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { hub: Hub::start().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    /// With the model that [`model`] makes.
    fn with_model() -> Self {
        let place = Self::new();
        place.hub.add(REPO, model());
        place
    }

    fn settings(&self) -> Settings {
        self.hub.settings(self.cache.path())
    }

    fn pull(&self) -> Result<Snapshot, HubError> {
        self.pull_as(REPO, self.settings(), &mut Silent)
    }

    fn pull_as(&self, text: &str, settings: Settings, progress: &mut dyn Progress) -> Result<Snapshot, HubError> {
        pull(&Request::parse(text, settings)?, progress)
    }

    /// Names in the cache's folder of blobs.
    fn blobs(&self) -> Vec<String> {
        let folder = self.cache.path().join("models--org--model/blobs");
        let mut names: Vec<String> =
            folder.read_dir().map(|all| all.map(|one| one.unwrap().file_name().into_string().unwrap()).collect()).unwrap_or_default();
        names.sort();
        names
    }

    /// The ranges that the store was asked for, `None` for a request without one; forgotten with that.
    fn take_ranges(&self) -> Vec<Option<String>> {
        self.hub.take_seen().into_iter().filter(|seen| seen.store).map(|seen| seen.headers.get("range").cloned()).collect()
    }
}

/// Bytes that do not repeat soon, so that a piece in the wrong place is noticed.
fn weights() -> Vec<u8> {
    (0..50_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// What the weights of [`model`] are called.
const WEIGHTS: &str = "model.safetensors";

fn model() -> Model {
    Model::new()
        .licence("apache-2.0")
        .small("README.md", "---\nlicense: apache-2.0\n---\n# A model\n")
        .small("config.json", "{\"model_type\": \"clip\"}")
        .small("tokenizer.json", "{}")
        .large("pytorch_model.bin", "pickles")
        .large("onnx_model.onnx", "graph")
        .large(WEIGHTS, weights())
}

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Notes {
    said: Vec<String>,
    /// Bytes of the file in hand.
    bytes: u64,
    /// Cancels once so many bytes have come.
    stop_at: Option<u64>,
}

impl Progress for Notes {
    fn start(&mut self, file: &str, bytes: u64) {
        self.bytes = 0;
        self.said.push(format!("start {file} {bytes}"));
    }

    fn advance(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn finish(&mut self) {
        self.said.push(format!("finish {}", self.bytes));
    }

    fn plan(&mut self, files: usize, bytes: u64) {
        self.said.push(format!("plan {files} {bytes}"));
    }

    fn retry(&mut self, file: &str, _why: &str, _pause: Duration) {
        self.said.push(format!("retry {file}"));
    }

    fn cancelled(&self) -> bool {
        self.stop_at.is_some_and(|stop| self.bytes >= stop)
    }
}
