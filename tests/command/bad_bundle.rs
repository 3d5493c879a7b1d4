//! A bundle that is not what it should be: one sentence that names the file and the part, exit code 2.

use std::path::{Path, PathBuf};

use ocelli_bundle::{Bundle, BundleWriter, Manifest};
use tempfile::tempdir;

use crate::pictures;
use crate::program::{ocelli, text};

/// A whole bundle of a family that nobody knows: enough to be damaged.
fn tiny(folder: &Path) -> PathBuf {
    let path = folder.join("tiny.ocelli");
    let mut writer = BundleWriter::new(Manifest::new("tiny", "none-such"));
    writer.f32("weight", &[64, 64], &[0.5; 64 * 64]).unwrap();
    writer.f32("bias", &[64], &[0.25; 64]).unwrap();
    writer.write_to(&path).unwrap();
    path
}

/// Every command that opens a bundle refuses it with these words.
fn refused_everywhere(bundle: &Path, picture: &Path, words: &[&str]) {
    let (bundle, picture) = (text(bundle), text(picture));
    ocelli(["run", picture, "-m", bundle]).refused(words);
    ocelli(["caption", "--image", picture, "-m", bundle]).refused(words);
    ocelli(["embed", "--text", "a cat", "-m", bundle]).refused(words);
    ocelli(["inspect", bundle]).refused(words);
}

#[test]
fn cut_in_half_or_no_bundle_at_all() {
    let folder = tempdir().unwrap();
    let picture = pictures::put(folder.path(), "a.jpg", &pictures::jpeg());
    let whole = std::fs::read(tiny(folder.path())).unwrap();
    let half = pictures::put(folder.path(), "half.ocelli", &whole[..whole.len() / 2]);
    refused_everywhere(&half, &picture, &["half.ocelli", "cut short"]);
    let empty = pictures::put(folder.path(), "empty.ocelli", b"");
    refused_everywhere(&empty, &picture, &["empty.ocelli", "empty"]);
    refused_everywhere(&picture, &picture, &["a.jpg", "not an ocelli bundle"]);
    refused_everywhere(&folder.path().join("absent.ocelli"), &picture, &["absent.ocelli", "no such file"]);
    refused_everywhere(folder.path(), &picture, &["folder"]);
}

#[test]
fn one_flipped_byte() {
    let folder = tempdir().unwrap();
    let picture = pictures::put(folder.path(), "a.jpg", &pictures::jpeg());
    let path = tiny(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let offset = Bundle::open(&path).unwrap().tensor("bias").unwrap().offset as usize;
    for (at, part) in [(offset + 7, "tensor `bias`"), (40, "header or manifest"), (whole.len() - 1, "seal")] {
        let mut bad = whole.clone();
        bad[at] ^= 0x20;
        let bad = pictures::put(folder.path(), "flipped.ocelli", &bad);
        refused_everywhere(&bad, &picture, &["flipped.ocelli", part, "damaged"]);
        let said = ocelli(["inspect", "--verify", text(&bad)]).one_sentence(&["flipped.ocelli", part]);
        assert_eq!(said.code, Some(1), "{said:?}");
    }
    ocelli(["inspect", "--verify", text(&path)]).good();
}

#[test]
fn a_family_that_nobody_knows() {
    let folder = tempdir().unwrap();
    let picture = pictures::put(folder.path(), "a.jpg", &pictures::jpeg());
    ocelli(["caption", "--image", text(&picture), "-m", text(&tiny(folder.path()))]).refused(&["tiny.ocelli", "none-such"]);
}
