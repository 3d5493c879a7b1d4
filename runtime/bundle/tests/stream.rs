//! A file whose tensors come in pieces is the file that is written at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use std::fs;
use std::path::Path;

use ocelli_bundle::{Bundle, BundleError, BundleFile, BundleWriter, DType, Manifest};
use tempfile::tempdir;

const VALUES: [f32; 700] = [1.25; 700];

fn bytes() -> Vec<u8> {
    VALUES.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn declared() -> BundleWriter {
    let mut writer = BundleWriter::new(Manifest::new("tiny", "example"));
    writer.declare("large", DType::F32, &[70, 10]).unwrap();
    writer.u8("whole", &[3], vec![1, 2, 3]).unwrap();
    writer.declare("large.scale", DType::F32, &[70]).unwrap();
    writer.declare("none", DType::F16, &[0, 5]).unwrap();
    writer.text("labels", "cat").unwrap();
    writer
}

fn begun(path: &Path) -> BundleFile {
    declared().begin(path).unwrap()
}

#[test]
fn the_bytes_are_the_same() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    let mut at_once = BundleWriter::new(Manifest::new("tiny", "example"));
    at_once.f32("large", &[70, 10], &VALUES).unwrap();
    at_once.u8("whole", &[3], vec![1, 2, 3]).unwrap();
    at_once.f32("large.scale", &[70], &VALUES[..70]).unwrap();
    at_once.tensor("none", DType::F16, &[0, 5], Vec::new()).unwrap();
    at_once.text("labels", "cat").unwrap();

    let mut file = begun(&path);
    // By turns, as the blocks of a quantized tensor come.
    for (rows, scales) in bytes().chunks(100).zip(bytes()[..280].chunks(10)) {
        file.append("large", rows).unwrap();
        file.append("large.scale", scales).unwrap();
    }
    assert!(!path.exists(), "nothing is there before the end");
    let size = file.size_bytes();
    file.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), at_once.into_bytes().unwrap());
    let bundle = Bundle::open(&path).unwrap();
    bundle.verify().unwrap();
    assert_eq!(bundle.size_bytes(), size);
    assert_eq!(bundle.in_file_order().map(|tensor| tensor.name).collect::<Vec<_>>(), ["large", "whole", "large.scale", "none"]);
}

#[test]
fn what_is_not_complete_is_not_written() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    let rejected = |error: BundleError, words: &[&str]| {
        let said = error.to_string();
        assert!(matches!(error, BundleError::Rejected { .. }) && words.iter().all(|word| said.contains(word)), "{said}");
    };
    let mut file = begun(&path);
    rejected(file.append("other", &[0]).unwrap_err(), &["`other`", "not declared"]);
    rejected(file.append("whole", &[0]).unwrap_err(), &["`whole`"]);
    file.append("large", &bytes()).unwrap();
    rejected(file.append("large", &[0]).unwrap_err(), &["`large`", "1 bytes more"]);
    rejected(file.finish().unwrap_err(), &["`large.scale`", "280 bytes", "0 of them"]);
    drop(begun(&path));
    rejected(declared().declare("whole", DType::U8, &[1]).unwrap_err(), &["twice"]);
    rejected(declared().declare("vast", DType::F64, &[usize::MAX, 2]).unwrap_err(), &["`vast`"]);
    rejected(declared().into_bytes().unwrap_err(), &["`large`"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_file_that_is_replaced_stays_until_the_new_one_is_there() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    fs::write(&path, b"before").unwrap();
    let mut file = begun(&path);
    file.append("large", &bytes()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    file.append("large.scale", &bytes()[..280]).unwrap();
    file.finish().unwrap();
    Bundle::open(&path).unwrap().verify().unwrap();
}
