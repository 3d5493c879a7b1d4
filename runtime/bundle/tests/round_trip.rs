//! What goes in comes out: from a file, from memory, from inside a binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use half::f16;
use ocelli_bundle::{Bundle, BundleError, BundleWriter, DType, Golden, Manifest, Source};
use serde_json::json;

fn manifest() -> Manifest {
    Manifest {
        tasks: vec!["embed".into(), "ground".into()],
        config: json!({"dim": 4}),
        preprocessing: json!({"side": 224}),
        quantization: [("w".to_string(), "int8".to_string())].into(),
        provenance: vec![Source { name: "a package".into(), revision: "1.0".into(), licence: "MIT".into(), files: [].into() }],
        licence: "MIT OR Apache-2.0".into(),
        metrics: json!({"r1": 0.5}),
        golden: vec![Golden {
            name: "first".into(),
            input: "golden/first/input".into(),
            texts: vec!["a cat".into()],
            expected: vec!["golden/first/embedding".into()],
            tolerance: 1e-3,
        }],
        ..Manifest::new("tiny", "example")
    }
}

fn writer() -> BundleWriter {
    let mut writer = BundleWriter::new(manifest());
    writer.i8("w", &[2, 3], &[-128, -1, 0, 1, 2, 127]).unwrap();
    writer.f16("w.scale", &[2], &[f16::from_f32(0.5), f16::from_f32(-2.0)]).unwrap();
    writer.f32("bias", &[], &[1.5]).unwrap();
    writer.tensor("none", DType::F32, &[0, 7], Vec::new()).unwrap();
    writer.u8("golden/first/input", &[1, 2], vec![3, 4]).unwrap();
    writer.f32("golden/first/embedding", &[2], &[0.6, 0.8]).unwrap();
    writer.text("labels", "Katze\nтюлень\n猫").unwrap();
    writer.text("model_card", "").unwrap();
    writer
}

/// Everything that `writer` put in.
fn check(bundle: &Bundle) {
    assert_eq!(*bundle.manifest(), manifest());
    assert_eq!(bundle.texts().collect::<Vec<_>>(), [("labels", "Katze\nтюлень\n猫"), ("model_card", "")]);
    assert_eq!(bundle.text("ocelli.manifest"), None, "the format's own strings are no texts");
    let names: Vec<_> = bundle.tensors().map(|t| t.name).collect();
    assert_eq!(names, ["bias", "golden/first/embedding", "golden/first/input", "none", "w", "w.scale"]);

    let w = bundle.tensor("w").unwrap();
    assert_eq!((w.dtype, w.shape, w.bytes), (DType::I8, &[2, 3][..], &[128, 255, 0, 1, 2, 127][..]));
    let scale = bundle.tensor("w.scale").unwrap();
    assert_eq!((scale.dtype, scale.bytes), (DType::F16, &[0x00, 0x38, 0x00, 0xc0][..]));
    let bias = bundle.tensor("bias").unwrap();
    assert_eq!((bias.shape, bias.elements(), bias.bytes), (&[][..], 1, &1.5f32.to_le_bytes()[..]));
    let none = bundle.tensor("none").unwrap();
    assert_eq!((none.shape, none.elements(), none.bytes), (&[0, 7][..], 0, &[][..]));
    assert!(bundle.tensor("golden/first/input").unwrap().is_golden() && !w.is_golden());
    bundle.verify().unwrap();
}

#[test]
fn through_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    writer().write_to(&path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    check(&bundle);
    assert_eq!(bundle.size_bytes(), std::fs::metadata(&path).unwrap().len());
    assert_eq!(bundle.origin(), path.display().to_string());

    let content = std::fs::read(&path).unwrap();
    for tensor in bundle.tensors() {
        let at = tensor.offset as usize;
        assert_eq!(at % 256, 0, "{tensor:?}");
        assert_eq!(content[at..at + tensor.bytes.len()], *tensor.bytes, "{tensor:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no scratch file is left behind");
}

#[test]
fn a_path_without_extension_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    writer().write_to(&path).unwrap();
    check(&Bundle::open(&path).unwrap());
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    writer().write_to(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), writer().into_bytes().unwrap());
    assert_eq!(writer().into_bytes().unwrap(), writer().into_bytes().unwrap());
}

#[test]
fn nothing_is_copied_and_bytes_outlive_the_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    writer().write_to(&path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let w = bundle.tensor("w").unwrap();
    let (address, shared, burn) = (w.bytes.as_ptr(), w.shared(), w.burn_bytes());
    assert_eq!(shared.as_ptr(), address);
    assert_eq!(burn.as_ptr(), address);
    drop(bundle);
    assert_eq!(shared[..], [128, 255, 0, 1, 2, 127]);
    assert_eq!(burn[..], [128, 255, 0, 1, 2, 127]);
}

#[test]
fn replacing_the_file_leaves_an_open_bundle_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.ocelli");
    writer().write_to(&path).unwrap();
    let old = Bundle::open(&path).unwrap();
    BundleWriter::new(Manifest::new("other", "example")).write_to(&path).unwrap();
    check(&old);
    assert_eq!(Bundle::open(&path).unwrap().manifest().name, "other");
}

#[test]
fn from_memory_at_any_address() {
    let content = writer().into_bytes().unwrap();
    for shift in 0..64 {
        let mut room = vec![0xaa; shift];
        room.extend_from_slice(&content);
        let bundle = Bundle::from_bytes(bytes::Bytes::from(room).slice(shift..)).unwrap();
        check(&bundle);
        assert!(bundle.tensors().all(|t| t.bytes.as_ptr().addr().is_multiple_of(64)), "shift {shift}");
    }
}

#[test]
fn from_a_binary() {
    // As `include_aligned!` lays it out, and one byte further.
    let content = writer().into_bytes().unwrap();
    let room: &'static mut [u8] = Vec::leak(vec![0; content.len() + 512]);
    let aligned = room.as_ptr().align_offset(256);
    room[aligned..aligned + content.len()].copy_from_slice(&content);
    let room: &'static [u8] = room;
    check(&Bundle::from_static(&room[aligned..aligned + content.len()]).unwrap());

    let room: &'static mut [u8] = Vec::leak(vec![0; content.len() + 512]);
    let unaligned = room.as_ptr().align_offset(256) + 1;
    room[unaligned..unaligned + content.len()].copy_from_slice(&content);
    let room: &'static [u8] = room;
    let error = Bundle::from_static(&room[unaligned..unaligned + content.len()]).unwrap_err();
    assert!(matches!(error, BundleError::Unaligned { required: 64, .. }), "{error}");
    assert!(error.to_string().contains("include_aligned!"), "{error}");
}

#[test]
fn without_any_tensor() {
    let bytes = BundleWriter::new(Manifest::new("empty", "example")).into_bytes().unwrap();
    let bundle = Bundle::from_bytes(bytes.into()).unwrap();
    assert_eq!(bundle.tensors().len(), 0);
    bundle.verify().unwrap();
}

#[test]
fn fields_of_later_versions_are_kept() {
    let mut writer = BundleWriter::new(Manifest::new("tiny", "example"));
    writer.manifest_mut().extra.insert("colour".into(), json!("green"));
    let bundle = Bundle::from_bytes(writer.into_bytes().unwrap().into()).unwrap();
    assert_eq!(bundle.manifest().extra["colour"], "green");
    let again = BundleWriter::new(bundle.manifest().clone()).into_bytes().unwrap();
    assert_eq!(Bundle::from_bytes(again.into()).unwrap().manifest().extra["colour"], "green");
}

#[test]
fn the_writer_refuses_what_a_bundle_cannot_hold() {
    let mut w = writer();
    let refused = [
        w.f32("w", &[1], &[1.0]),
        w.f32("short", &[2, 2], &[1.0]),
        w.tensor("huge", DType::F32, &[usize::MAX, 2], vec![0; 8]),
        w.tensor("flag", DType::Flex32, &[1], vec![0; 4]),
        w.f32("", &[1], &[1.0]),
        w.f32("ocelli.seal", &[1], &[1.0]),
        w.text("labels", "twice"),
        w.text("ocelli.manifest", "{}"),
    ];
    for result in refused {
        assert!(matches!(result, Err(BundleError::Rejected { .. })), "{result:?}");
    }
    // None of it left a trace.
    check(&Bundle::from_bytes(w.into_bytes().unwrap().into()).unwrap());

    let mut w = writer();
    w.manifest_mut().golden[0].expected.push("golden/first/boxes".into());
    let error = w.into_bytes().unwrap_err();
    assert!(error.to_string().contains("golden/first/boxes"), "{error}");
}

#[test]
fn a_write_that_cannot_happen_names_the_file() {
    let error = writer().write_to("/proc/nowhere/tiny.ocelli".as_ref()).unwrap_err();
    assert!(matches!(&error, BundleError::Write { bundle, .. } if bundle == "/proc/nowhere/tiny.ocelli"), "{error}");
}

#[test]
fn a_tensor_that_is_not_there_is_named() {
    let bundle = Bundle::from_bytes(writer().into_bytes().unwrap().into()).unwrap();
    let error = bundle.tensor("w.zero").unwrap_err();
    assert!(matches!(&error, BundleError::MissingTensor { tensor, .. } if tensor == "w.zero"), "{error}");
}

#[test]
fn the_digest_stands_for_the_content() {
    let digest = |writer: BundleWriter| Bundle::from_bytes(writer.into_bytes().unwrap().into()).unwrap().digest();
    assert_eq!(digest(writer()), digest(writer()));
    let mut other = writer();
    other.u8("one more", &[1], vec![0]).unwrap();
    assert_ne!(digest(writer()), digest(other));
}
