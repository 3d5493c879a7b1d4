//! `ocelli pull`: from a small Hub on this machine, whole and broken off.

use std::fs;
use std::path::Path;

use ocelli_hub::testing::{Fault, Hub, Model};
use tempfile::{TempDir, tempdir};

use crate::program::{Said, command, text};

const REPO: &str = "org/tiny";
const WEIGHTS: &str = "model.safetensors";

/// A Hub with a small CLIP, and an empty cache.
struct Place {
    hub: Hub,
    home: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/clip/tiny");
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        let small = ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"];
        let model = small.iter().fold(Model::new(), |model, name| model.small(name, read(name))).large(WEIGHTS, read(WEIGHTS));
        let hub = Hub::start().unwrap();
        hub.add(REPO, model.licence("mit").small("README.md", "---\nlicense: mit\n---\n"));
        Self { hub, home: tempdir().unwrap() }
    }

    fn pull(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Said {
        let mut command = command(["pull"].iter().chain(arguments));
        for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", self.hub.endpoint()).env("NO_PROXY", "127.0.0.1");
        command.envs(settings.iter().copied()).output().unwrap().into()
    }
}

#[test]
fn a_model_is_fetched_and_imported_and_computes() {
    let place = Place::new();
    let output = place.home.path().join("tiny.ocelli");
    let said = place.pull(&[REPO, "-o", text(&output), "--json"], &[]).good();
    let line = &said.lines_of("imported")[0];
    assert_eq!((line["model"].as_str(), line["licence"].as_str()), (Some("tiny"), Some("mit")));
    let inspected = crate::program::ocelli(["inspect", text(&output), "--json"]).good();
    let source = &inspected.lines()[0]["provenance"][0];
    assert_eq!(source["name"], REPO);
    assert_eq!(source["revision"].as_str().map(str::len), Some(40), "{source}");
    assert_eq!(source["files"][WEIGHTS].as_str().map(str::len), Some(64), "{source}");
    let verified = crate::program::ocelli(["verify", text(&output), "--json"]).good();
    let stages: Vec<_> = verified.lines().iter().map(|line| line["stage"].as_str().unwrap().to_owned()).collect();
    assert_eq!(stages, ["pixels", "prompt_ids", "embedding", "text_embeddings", "logits"]);

    // Once more, offline: everything is in the cache.
    place.hub.take_seen();
    let again = place.pull(&[REPO, "-o", text(&output), "--force", "--quiet"], &[("HF_HUB_OFFLINE", "1")]).good();
    assert!(again.stderr.is_empty(), "{again:?}");
    assert!(place.hub.take_seen().is_empty(), "offline, a connection was opened");
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let place = Place::new();
    let output = place.home.path().join("tiny.ocelli");
    place.hub.fault(WEIGHTS, Fault::BreakAfter(1000));
    let said = place.pull(&[REPO, "-o", text(&output)], &[]).good();
    assert!(said.stderr.contains("trying again"), "{said:?}");
    let ranges = place.hub.take_seen().iter().filter(|seen| seen.headers.contains_key("range")).count();
    assert!(ranges > 0, "it began anew");
    crate::program::ocelli(["verify", text(&output)]).good();
}

#[test]
fn what_arrives_damaged_is_not_imported() {
    let place = Place::new();
    let output = place.home.path().join("tiny.ocelli");
    place.hub.fault(WEIGHTS, Fault::Damaged);
    let said = place.pull(&[REPO, "-o", text(&output), "--quiet"], &[]);
    said.refused(&[WEIGHTS]);
    assert!(!output.exists());
}

#[test]
fn names_that_are_none_are_refused_before_anything_is_opened() {
    let place = Place::new();
    for name in ["tiny", "../etc", "org/../../tiny", "org/tiny@", "org/ti ny"] {
        let said = place.pull(&[name, "-o", text(&place.home.path().join("x.ocelli"))], &[]);
        assert_eq!(said.code, Some(2), "{name}: {said:?}");
    }
    assert!(place.hub.take_seen().is_empty());
    let said = place.pull(&["org/other", "-o", text(&place.home.path().join("x.ocelli"))], &[]);
    said.refused(&["org/other"]);
}
