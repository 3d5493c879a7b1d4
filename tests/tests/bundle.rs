//! nano's bundle as it is shipped in the binary.

use std::path::PathBuf;

use ocelli_bundle::{Bundle, BundleError, FORMAT_VERSION, Part};
use ocelli_models::golden;
use ocelli_ops::{DeviceChoice, select};

use crate::root;

/// What a device downloads and flashes.
const MOST_BYTES: u64 = 12_000_000;

fn path() -> PathBuf {
    root().join("models/nano/nano.ocelli")
}

#[test]
fn it_is_whole_and_small_enough() {
    let bundle = Bundle::open(&path()).unwrap();
    bundle.verify().unwrap();
    assert!(bundle.size_bytes() <= MOST_BYTES, "{} bytes", bundle.size_bytes());
}

#[test]
fn it_says_what_it_is_and_what_it_was_made_of() {
    let bundle = Bundle::open(&path()).unwrap();
    let manifest = bundle.manifest();
    assert_eq!((manifest.format_version, manifest.name.as_str()), (FORMAT_VERSION, "nano"));
    for task in ["embed", "classify", "ground", "caption"] {
        assert!(manifest.tasks.iter().any(|t| t == task), "{task} is not among {:?}", manifest.tasks);
    }
    assert!(!manifest.licence.is_empty());
    assert!(!manifest.provenance.is_empty());
    for source in &manifest.provenance {
        assert!(!source.licence.is_empty(), "{}: licence", source.name);
    }
    assert!(manifest.metrics.as_object().is_some_and(|metrics| !metrics.is_empty()), "no metrics");
    for text in ["tokenizer.json", "labels.txt", "model_card.md"] {
        assert!(bundle.text(text).is_some_and(|text| !text.trim().is_empty()), "no text `{text}`");
    }
    assert!(!manifest.golden.is_empty(), "no golden vectors");
}

#[test]
fn matrices_lie_in_the_kernels_order() {
    let bundle = Bundle::open(&path()).unwrap();
    let packed = bundle.manifest().quantization.values().filter(|recipe| recipe.ends_with(".p")).count();
    // What is not: sixteen depthwise kernels of the backbone and two of the grid, and the stem: few bytes.
    let others = bundle.manifest().quantization.values().filter(|recipe| recipe.starts_with("int") && !recipe.ends_with(".p")).count();
    assert!(packed > 100 && others == 19, "{packed} packed, {others} not");
}

#[test]
fn quantized_tensors_have_their_scales() {
    let bundle = Bundle::open(&path()).unwrap();
    let quantization = &bundle.manifest().quantization;
    assert!(!quantization.is_empty());
    for (name, recipe) in quantization {
        let weight = bundle.tensor(name).unwrap();
        if recipe == "f16" {
            assert_eq!(weight.bytes.len(), 2 * weight.elements(), "{name}");
            continue;
        }
        let scale = bundle.tensor(&format!("{name}.scale")).unwrap();
        let (channels, expected) = (weight.shape[0], format!("{recipe} {name} {:?} with scales {:?}", weight.shape, scale.shape));
        match recipe.replace(".t", "").as_str() {
            "int8" => assert_eq!(scale.elements(), channels, "{expected}"),
            "int4" | "int4.p" => assert_eq!(scale.elements() * 32, weight.bytes.len() * 2, "{expected}"),
            "int8.p" => {
                // Panels of sixteen channels, `[panels][quads][16][4]`, and the sum of each channel's values.
                let sum = bundle.tensor(&format!("{name}.sum")).unwrap();
                assert_eq!((scale.elements(), sum.elements()), (channels * 16, channels * 16), "{expected}");
                assert_eq!(&weight.shape[2..], [16, 4], "{expected}");
            }
            _ => panic!("{expected}: not a recipe"),
        }
    }
}

#[test]
fn one_flipped_byte_is_found_wherever_it_is() {
    let good = std::fs::read(path()).unwrap();
    let names: Vec<(u64, u64, String)> = {
        let bundle = Bundle::open(&path()).unwrap();
        bundle.tensors().map(|t| (t.offset, t.offset + t.bytes.len() as u64, t.name.to_owned())).collect()
    };
    // Evenly over the file, both ends included.
    const PLACES: usize = 24;
    for place in 0..PLACES {
        let at = (good.len() - 1) * place / (PLACES - 1);
        let mut bad = good.clone();
        bad[at] ^= 0x08;
        let error = Bundle::from_bytes(bad.into()).and_then(|bundle| bundle.verify()).expect_err("a flipped byte went unnoticed");
        if let Some((.., name)) = names.iter().find(|(start, end, _)| (*start..*end).contains(&(at as u64))) {
            assert!(
                matches!(&error, BundleError::Damaged { part: Part::Tensor(named), .. } if named == name),
                "byte {at} in {name}: {error}"
            );
        }
    }
}

#[test]
fn cut_in_half_it_does_not_open() {
    let good = std::fs::read(path()).unwrap();
    let error = Bundle::from_bytes(good[..good.len() / 2].to_vec().into()).unwrap_err();
    assert!(matches!(error, BundleError::Truncated { .. }), "{error}");
}

#[test]
fn golden_vectors_are_computed_again() {
    let bundle = Bundle::open(&path()).unwrap();
    let mut devices = vec![DeviceChoice::Cpu];
    devices.extend(cfg!(feature = "ndarray").then_some(DeviceChoice::NdArray));
    for choice in devices {
        let deviations = golden::check(&bundle, &select(choice).unwrap()).unwrap();
        // Pixels, ids, both embeddings, logits, boxes, tokens.
        assert_eq!(deviations.len(), 7 * bundle.manifest().golden.len());
        for deviation in deviations {
            assert!(deviation.is_within(), "{choice:?}: {deviation:?}");
        }
    }
}
