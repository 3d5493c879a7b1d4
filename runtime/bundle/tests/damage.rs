//! Damage is found, wherever it is, and named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use ocelli_bundle::{Bundle, BundleError, BundleWriter, Manifest, Part};

fn bundle() -> Vec<u8> {
    let mut writer = BundleWriter::new(Manifest::new("tiny", "example"));
    writer.i8("weight", &[3, 100], &[7; 300]).unwrap();
    writer.f32("bias", &[3], &[1.0, -1.0, 0.0]).unwrap();
    writer.f32("empty", &[0], &[]).unwrap();
    writer.u8("last", &[256], (0..=255).collect()).unwrap();
    writer.text("labels", "cat\ndog").unwrap();
    writer.into_bytes().unwrap()
}

fn open_and_verify(bytes: Vec<u8>) -> Result<(), BundleError> {
    Bundle::from_bytes(bytes.into())?.verify()
}

/// The parts of the bundle in file order, as (end, part): each begins where the one before it ends.
fn parts(bytes: &[u8]) -> Vec<(usize, Part)> {
    let bundle = Bundle::from_bytes(bytes.to_vec().into()).unwrap();
    let mut tensors: Vec<_> =
        bundle.tensors().filter(|t| !t.bytes.is_empty()).map(|t| (t.offset as usize, t.name, t.bytes.len())).collect();
    tensors.sort_unstable();
    let mut parts = vec![(tensors[0].0, Part::Head)];
    for (offset, name, len) in tensors {
        parts.push((offset, Part::PaddingBefore(name.into())));
        parts.push((offset + len, Part::Tensor(name.into())));
    }
    parts.push((bytes.len() - 64, Part::PaddingBefore("ocelli.seal".into())));
    parts.push((bytes.len(), Part::Seal));
    parts
}

#[test]
fn every_flipped_byte_is_found_and_its_part_named() {
    let good = bundle();
    open_and_verify(good.clone()).unwrap();
    let parts = parts(&good);
    for at in 0..good.len() {
        let (_, expected) = parts.iter().find(|(end, _)| at < *end).unwrap();
        for mask in [0x01, 0x10, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            let error = open_and_verify(bad).expect_err("a flipped byte went unnoticed");
            match (&error, at) {
                // Magic number, container version, length of the metadata: damage here looks like another file or a shorter one.
                (BundleError::NotABundle { .. }, 0..4)
                | (BundleError::UnsupportedVersion { .. }, 4..6)
                | (BundleError::Truncated { .. } | BundleError::NotABundle { .. }, 6..10) => {}
                // The same empty tensor may be named for the padding before the one that follows it.
                (BundleError::Damaged { part: Part::PaddingBefore(_), offset, end, .. }, _) => {
                    assert!(matches!(expected, Part::PaddingBefore(_)), "byte {at}: {error}");
                    assert_eq!((*offset as usize, *end as usize), (at, at + 1), "{error}");
                }
                (BundleError::Damaged { part, offset, end, .. }, _) => {
                    assert_eq!(part, expected, "byte {at}: {error}");
                    assert!((*offset..*end).contains(&(at as u64)), "byte {at}: {error}");
                }
                _ => panic!("byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn cut_at_any_length_is_a_typed_error_at_open() {
    let good = bundle();
    for len in 0..good.len() {
        let error = Bundle::from_bytes(good[..len].to_vec().into()).expect_err("a bundle cut short was opened");
        match error {
            BundleError::Truncated { .. } if len >= 10 => {}
            BundleError::NotABundle { .. } if len < 10 => {}
            _ => panic!("{len} bytes: {error}"),
        }
    }
}

#[test]
fn bytes_after_the_end_are_an_error() {
    let mut long = bundle();
    long.extend_from_slice(&[0; 100]);
    let error = open_and_verify(long).unwrap_err();
    assert!(matches!(error, BundleError::Malformed { .. }), "{error}");
}

#[test]
fn damage_after_opening_is_found_by_verify() {
    // Through a file, as a user meets it: the message says which file, which tensor, where, and what to do.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    let mut bytes = bundle();
    let tensor = Bundle::from_bytes(bytes.clone().into()).unwrap();
    let (offset, len) = tensor.tensor("bias").map(|t| (t.offset as usize, t.bytes.len())).unwrap();
    bytes[offset + 5] ^= 4;
    std::fs::write(&path, &bytes).unwrap();

    let opened = Bundle::open(&path).expect("tensors are not read at open");
    let message = opened.verify().unwrap_err().to_string();
    for part in [&path.display().to_string(), "tensor `bias`", &format!("bytes {offset} to {}", offset + len), "copy or download"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn other_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let open = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        Bundle::open(&path).unwrap_err()
    };
    for (content, word) in [(&b""[..], "empty"), (b"\x89PNG\r\n\x1a\n", "magic"), (b"NRUB", "magic")] {
        let error = open(content);
        assert!(matches!(error, BundleError::NotABundle { .. }) && error.to_string().contains(word), "{error}");
    }

    let plain = burn_pack::Writer::new(Vec::new()).with_metadata("producer", "someone else, at some length: ".repeat(9).as_str());
    let mut room = vec![0; plain.size().unwrap() + 256];
    plain.write_into(&mut room).unwrap();
    let error = open(&room);
    assert!(matches!(error, BundleError::NotABundle { .. }) && error.to_string().contains("manifest"), "{error}");

    let error = Bundle::open(folder.path()).unwrap_err();
    assert!(matches!(error, BundleError::NotABundle { .. }), "{error}");
    let error = Bundle::open(&folder.path().join("absent")).unwrap_err();
    assert!(matches!(error, BundleError::Io { .. }), "{error}");
}

#[test]
fn a_later_manifest_is_refused_with_a_cure() {
    let later = Manifest { format_version: 2, ..Manifest::new("tiny", "example") };
    let error = Bundle::from_bytes(BundleWriter::new(later).into_bytes().unwrap().into()).unwrap_err();
    assert!(matches!(error, BundleError::UnsupportedVersion { found: 2, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains("update ocelli"), "{error}");
}
