//! `--lora`: merged by `import`, and beside a bundle.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::tempdir;

use crate::program::{ocelli, text};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens")
}

#[test]
fn merged_and_beside_write_what_peft_writes() {
    let (folder, base, adapter) = (tempdir().unwrap(), goldens().join("smolvlm/smolvlm"), goldens().join("lora/plain"));
    let [plain, merged] = ["plain.ocelli", "merged.ocelli"].map(|name| folder.path().join(name));
    let half = format!("{}:0.5", text(&adapter));
    ocelli(["import", text(&base), "-o", text(&plain), "--no-golden"]).good();
    ocelli(["import", text(&base), "-o", text(&merged), "--no-golden", "--lora", &half]).good();
    let facts: Value = serde_json::from_slice(&std::fs::read(adapter.join("expected.json")).unwrap()).unwrap();
    let tokens = |scale: f64| {
        let mut cases = facts["cases"].as_array().unwrap().iter();
        cases.find(|case| case["name"] == "none" && case["scale"] == scale).unwrap()["tokens"].clone()
    };
    let ask = |bundle: &Path, more: &[&str]| {
        let asked = ["ask", "-m", text(bundle), "Where is the river?", "--max-tokens", "20", "--json"];
        ocelli(asked.iter().chain(more)).good().lines()[0]["tokens"].clone()
    };
    assert_eq!(ask(&merged, &[]), tokens(0.5));
    assert_eq!(ask(&plain, &["--lora", &half]), tokens(0.5));
    assert_eq!(ask(&plain, &["--lora", text(&adapter)]), tokens(1.0));
    assert_ne!(ask(&plain, &[]), tokens(1.0));
    let picture = base.join("pictures/wide.png");
    let caption = |bundle: &Path, more: &[&str]| {
        let asked = ["caption", "-m", text(bundle), "--image", text(&picture), "--max-tokens", "12", "--json"];
        ocelli(asked.iter().chain(more)).good().lines()[0]["tokens"].clone()
    };
    assert_eq!(caption(&merged, &[]), caption(&plain, &["--lora", &half]));
    assert_ne!(caption(&merged, &[]), caption(&plain, &[]));
    ocelli(["ask", "-m", text(&plain), "a?", "--lora", text(&base)]).refused(&["adapter_config.json", "PEFT"]);
}
