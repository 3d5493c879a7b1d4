//! Against goldens that Pillow made (`tools/reference/pictures.py`), to the bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use std::path::Path;

use ocelli_flow::{Frame, FrameMeta};
use ocelli_preprocess::Squash;
use proptest::prelude::*;

mod made;
use made::made;

const CASES: [(u32, u32, u32); 9] =
    [(640, 480, 112), (301, 17, 32), (19, 300, 32), (33, 20, 48), (1, 1, 16), (40, 100, 40), (100, 40, 40), (48, 48, 48), (1283, 721, 24)];

fn unchanged(side: u32) -> Squash {
    Squash::new(side, [0.0; 3], [1.0; 3])
}

#[test]
fn resizes_as_pillow_does() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/squash");
    for (width, height, side) in CASES {
        let path = goldens.join(format!("{width}x{height}-{side}.png"));
        let golden = image::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_rgb8().into_raw();
        let frame = made(width, height);
        let mut squash = unchanged(side);
        let got = squash.pixels(&frame);
        let wrong = got.iter().zip(&golden).position(|(a, b)| a != b);
        assert_eq!((got.len(), wrong), (golden.len(), None), "{width}x{height} to {side}: first difference");
    }
}

#[test]
fn a_squash_that_saw_other_sizes_gives_the_same() {
    let mut reused = unchanged(32);
    for (width, height) in [(90, 70), (20, 300), (32, 32), (90, 70), (32, 50), (50, 32)] {
        let frame = made(width, height);
        assert_eq!(reused.pixels(&frame), unchanged(32).pixels(&frame), "{width}x{height}");
    }
}

#[test]
fn normalised_is_planar() {
    let frame = Frame::new(2, 2, vec![0, 51, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9], FrameMeta::still("four")).unwrap();
    let (mean, std) = ([0.5, 0.25, 0.0], [0.5, 2.0, 0.1]);
    let mut out = Vec::new();
    Squash::new(2, mean, std).normalised(&frame, &mut out);
    let at = |grey: u8, c: usize| (f32::from(grey) / 255.0 - mean[c]) / std[c];
    assert_eq!(out[0..4], [at(0, 0), at(1, 0), at(4, 0), at(7, 0)]);
    assert_eq!(out[4..8], [at(51, 1), at(2, 1), at(5, 1), at(8, 1)]);
    assert_eq!(out[8..12], [at(255, 2), at(3, 2), at(6, 2), at(9, 2)]);
}

#[test]
fn buffers_are_kept() {
    let (frame, mut squash, mut out) = (made(64, 48), unchanged(32), Vec::new());
    squash.normalised(&frame, &mut out);
    let at = out.as_ptr();
    squash.normalised(&frame, &mut out);
    assert_eq!((at, out.len()), (out.as_ptr(), 3 * 32 * 32));
}

proptest! {
    #[test]
    fn averages_stay_between_the_extremes(width in 1u32..80, height in 1u32..80, side in 1u32..50, low in 0u8..=255, span in 0u8..=255) {
        let high = low.saturating_add(span);
        let pixels = made(width, height).rgb().iter().map(|&p| if p & 1 == 0 { low } else { high }).collect::<Vec<u8>>();
        let frame = Frame::new(width, height, pixels, FrameMeta::still("two greys")).unwrap();
        let mut squash = unchanged(side);
        let got = squash.pixels(&frame);
        prop_assert_eq!(got.len() as u32, 3 * side * side);
        prop_assert!(got.iter().all(|pixel| (low..=high).contains(pixel)));
    }
}

/// `cargo test -p ocelli-preprocess --release -- --ignored --nocapture`
#[test]
#[ignore = "prints times; nothing to fail"]
fn times() {
    for (width, height) in [(640, 480), (1280, 720), (3840, 2160), (224, 224)] {
        let (frame, mut squash, mut out) = (made(width, height), Squash::new(224, [0.485; 3], [0.229; 3]), Vec::new());
        let mut best = std::time::Duration::MAX;
        for _ in 0..30 {
            let began = std::time::Instant::now();
            squash.normalised(&frame, &mut out);
            best = best.min(began.elapsed());
        }
        println!("{width}x{height} to 224: {best:?}");
    }
}
