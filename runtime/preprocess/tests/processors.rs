//! Against goldens that Hugging Face's image processors made (`tools/reference/preprocess.py`), and properties of what they cannot cover.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

use std::path::{Path, PathBuf};

use ocelli_flow::{BoundingBox, Frame, FrameMeta, YuvFormat, YuvLayout, YuvRange};
use ocelli_preprocess::{Centre, Filter, Normalise, PrepareError, Prepared, Processor, Recipe, Resize, Size, Source, Squash};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

mod made;
use made::made;

#[derive(Deserialize)]
struct Case {
    name: String,
    width: u32,
    height: u32,
    config: serde_json::Value,
    shape: Vec<usize>,
    patches: Option<[u32; 2]>,
    #[serde(rename = "box")]
    bbox: Option<[f32; 4]>,
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/preprocess").join(file)
}

fn plain(resize: Option<Resize>, filter: Filter, crop: Option<Size>) -> Recipe {
    Recipe { resize, filter, crop, centre: Centre::Down, rescale: None, normalise: None }
}

#[test]
fn inputs_are_those_of_the_reference() {
    let bytes = std::fs::read(golden("values.safetensors")).unwrap();
    let values = SafeTensors::deserialize(&bytes).unwrap();
    let cases = std::fs::read_to_string(golden("cases.jsonl")).unwrap();
    assert_eq!(cases.lines().count(), values.len());
    for line in cases.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let tensor = values.tensor(&case.name).unwrap();
        let wanted: Vec<f32> = match tensor.dtype() {
            Dtype::U8 => tensor.data().iter().map(|&level| f32::from(level)).collect(),
            Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            other => panic!("{}: {other:?}", case.name),
        };
        let recipe = Recipe::from_processor(&case.config).unwrap();
        let floating = matches!(recipe.resize, Some(Resize::PadSquare(_)));
        let prepared = Processor::new(recipe.clone()).unwrap().prepare(&made(case.width, case.height)).unwrap();
        assert_eq!(prepared.patches.map(|patches| [patches.rows, patches.columns]), case.patches, "{}", case.name);
        match *case.shape.as_slice() {
            [3, height, width] => assert_eq!([prepared.height as usize, prepared.width as usize], [height, width], "{}", case.name),
            [patches, len] => assert_eq!(prepared.values.len(), patches * len, "{}", case.name),
            _ => panic!("{}: {:?}", case.name, case.shape),
        }
        // Where pixels lie is rounded to f32, to half a unit in the last place of up to 210 pixels a few times, and neighbours differ by 1
        // at most, before they are divided by a standard deviation above 0.26.
        let tolerance = if floating { 4.0 * 210.0 * f32::EPSILON / 2.0 / 0.26 } else { 0.0 };
        assert_eq!(prepared.values.len(), wanted.len(), "{}", case.name);
        for (i, (got, wanted)) in prepared.values.iter().zip(&wanted).enumerate() {
            assert!((got - wanted).abs() <= tolerance, "{}: value {i} is {got}, not {wanted}", case.name);
        }
        if let Some([x0, y0, x1, y1]) = case.bbox {
            let (width, height) = (case.width as f32, case.height as f32);
            let clipped = BoundingBox { x0: x0.min(width), y0: y0.min(height), x1: x1.min(width), y1: y1.min(height) };
            let geometry = recipe.geometry(case.width, case.height).unwrap();
            assert_eq!(geometry.to_source([0.25, 0.125, 0.75, 0.5]), clipped, "{}", case.name);
        }
    }
}

#[test]
fn a_long_picture_is_an_error_or_cropped() {
    let long = made(1, 5000);
    let resize = Some(Resize::ShortestEdge { edge: 224, longest: None });
    let error = Processor::new(plain(resize, Filter::Bicubic, None)).unwrap().prepare(&long).unwrap_err();
    assert_eq!(error, PrepareError::TooLarge { height: 1_120_000, width: 224 });
    assert!(error.to_string().contains("224 x 1120000"), "{error}");
    let cropped = Processor::new(plain(resize, Filter::Bicubic, Some(Size::square(224)))).unwrap().prepare(&long).unwrap();
    assert_eq!(cropped.values.len(), 3 * 224 * 224);
}

#[test]
fn a_long_picture_does_not_stay_in_the_way() {
    let mut processor = Processor::new(plain(Some(Resize::ShortestEdge { edge: 224, longest: None }), Filter::Bicubic, None)).unwrap();
    let wanted = processor.prepare(&made(30, 40)).unwrap();
    for _ in 0..2 {
        processor.prepare(&made(1, 5000)).unwrap_err();
    }
    assert_eq!(processor.prepare(&made(30, 40)).unwrap(), wanted);
}

#[test]
fn crops_know_where_they_are() {
    let recipe = plain(Some(Resize::ShortestEdge { edge: 100, longest: None }), Filter::Bilinear, Some(Size::square(100)));
    let geometry = recipe.geometry(400, 200).unwrap();
    // Resized to 200 x 100: the crop shows the middle 200 x 200 pixels.
    assert_eq!(geometry.pixels_to_source([0.0, 0.0, 100.0, 50.0]), BoundingBox { x0: 100.0, y0: 0.0, x1: 300.0, y1: 100.0 });
    assert_eq!(geometry.to_model(&BoundingBox { x0: 100.0, y0: 0.0, x1: 300.0, y1: 100.0 }), [0.0, 0.0, 1.0, 0.5]);
    assert_eq!(geometry.source(), (400, 200));
    // Black around a small picture is not part of it.
    let geometry = plain(None, Filter::Nearest, Some(Size::square(100))).geometry(50, 20).unwrap();
    assert_eq!(geometry.to_source([0.0, 0.4, 0.5, 1.0]), BoundingBox { x0: 0.0, y0: 0.0, x1: 25.0, y1: 20.0 });
}

#[test]
fn buffers_are_kept() {
    let recipe = Recipe::from_processor(&serde_json::json!({ "image_processor_type": "CLIPImageProcessor" })).unwrap();
    let (frame, mut processor) = (made(320, 240), Processor::new(recipe).unwrap());
    assert_eq!(processor.input_size(), Some((224, 224)));
    let mut prepared = processor.prepare(&frame).unwrap();
    let (at, first) = (prepared.values.as_ptr(), prepared.clone());
    prepared.values.fill(9.0);
    processor.prepare_into(&Source::frame(&frame), &mut prepared).unwrap();
    assert_eq!((prepared.values.as_ptr(), &prepared), (at, &first));
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let size = || (1u32..70, 1u32..70).prop_map(|(height, width)| Size { height, width });
    let resize = prop_oneof![
        Just(None),
        (1u32..70).prop_map(|edge| Some(Resize::ShortestEdge { edge, longest: None })),
        (1u32..70, 1u32..120).prop_map(|(edge, longest)| Some(Resize::ShortestEdge { edge, longest: Some(longest) })),
        size().prop_map(|size| Some(Resize::Squash(size))),
        size().prop_map(|size| Some(Resize::PadSquare(size))),
        (1u32..9, 1u32..60).prop_map(|(patch, max_patches)| Some(Resize::Patches { patch, max_patches })),
    ];
    let filter = prop_oneof![Just(Filter::Nearest), Just(Filter::Bilinear), Just(Filter::Bicubic), Just(Filter::Lanczos)];
    (resize, filter, proptest::option::of(size()), any::<bool>()).prop_map(|(resize, filter, crop, even)| {
        let whole = matches!(resize, Some(Resize::PadSquare(_) | Resize::Patches { .. }));
        Recipe {
            resize,
            filter,
            crop: crop.filter(|_| !whole),
            centre: if even { Centre::Even } else { Centre::Down },
            rescale: Some(1.0 / 255.0),
            normalise: Some(Normalise { mean: [0.5, 0.4, 0.3], std: [0.25, 0.5, 0.75] }),
        }
    })
}

/// Mostly ordinary, at times very long.
fn sides() -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![6 => (1u32..150, 1u32..150), 1 => (1u32..3, 1u32..4000), 1 => (1u32..4000, 1u32..3)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_picture_is_prepared_or_refused(recipe in recipes(), (width, height) in sides(), (next_width, next_height) in sides()) {
        let mut processor = Processor::new(recipe.clone()).unwrap();
        for (width, height) in [(width, height), (next_width, next_height)] {
            let frame = made(width, height);
            let fresh = Processor::new(recipe.clone()).unwrap().prepare(&frame);
            prop_assert_eq!(&processor.prepare(&frame), &fresh);
            let Ok(Prepared { values, height, width, patches, .. }) = fresh else { continue };
            let wanted = match recipe.resize {
                Some(Resize::Patches { patch, max_patches }) => {
                    let patches = patches.unwrap();
                    prop_assert!(patches.used() <= max_patches as usize);
                    prop_assert_eq!([patches.rows * patch, patches.columns * patch], [height, width]);
                    let len = (patch * patch * 3) as usize;
                    prop_assert!(values[patches.used() * len..].iter().all(|&value| value == 0.0));
                    max_patches as usize * len
                }
                _ => 3 * height as usize * width as usize,
            };
            prop_assert_eq!(values.len(), wanted);
            // (1 - 0.3) / 0.75 and so on lie within, black and white included.
            prop_assert!(values.iter().all(|value| (-2.001..=2.401).contains(value)), "{:?}", values.iter().copied().fold(0.0, f32::max));
        }
    }

    #[test]
    fn a_crop_is_part_of_the_whole(edge in 1u32..60, crop in 1u32..60, (width, height) in (1u32..150, 1u32..150), bicubic in any::<bool>()) {
        let filter = if bicubic { Filter::Bicubic } else { Filter::Bilinear };
        let resize = Some(Resize::ShortestEdge { edge, longest: None });
        let frame = made(width, height);
        let whole = Processor::new(plain(resize, filter, None)).unwrap().prepare(&frame).unwrap();
        let part = Processor::new(plain(resize, filter, Some(Size::square(crop)))).unwrap().prepare(&frame).unwrap();
        let side = crop as i64;
        let offset = |side: u32| (i64::from(side) - i64::from(crop)).div_euclid(2);
        // Padding is rounded the other way: less of it comes first.
        let offset = |side: u32| if side < crop { -i64::from((crop - side) / 2) } else { offset(side) };
        let (top, left) = (offset(whole.height), offset(whole.width));
        for (i, &got) in part.values.iter().enumerate() {
            let (c, y, x) = (i as i64 / (side * side), i as i64 / side % side + top, i as i64 % side + left);
            let inside = (0..i64::from(whole.height)).contains(&y) && (0..i64::from(whole.width)).contains(&x);
            let at = (c * i64::from(whole.height) + y) * i64::from(whole.width) + x;
            prop_assert_eq!(got, if inside { whole.values[at as usize] } else { 0.0 });
        }
    }

    #[test]
    fn a_cameras_pixels_give_what_their_rgb_copy_gives(
        recipe in recipes(), (width, height) in (1u32..90, 1u32..90), padding in 0u32..9, full in any::<bool>(),
        planes in any::<bool>(), side in 1u32..90, fit in 0u8..6,
    ) {
        let range = if full { YuvRange::Full } else { YuvRange::Limited };
        // A squash to either side or to both skips passes.
        let (side, width, height) = match fit {
            0 => (width, width, height),
            1 => (height, width, height),
            2 => (side, side, side),
            _ => (side, width, height),
        };
        let (format, least) = if planes { (YuvFormat::Nv12, width) } else { (YuvFormat::Yuyv, width.next_multiple_of(2) * 2) };
        let layout = YuvLayout { format, width, height, stride: least + padding, range };
        let frame = Frame::yuv(layout, made(200, 200).rgb().to_vec(), FrameMeta::still("camera")).unwrap();
        let copy = Frame::new(width, height, frame.rgb().to_vec(), FrameMeta::still("copy")).unwrap();
        let mut processor = Processor::new(recipe).unwrap();
        prop_assert_eq!(processor.prepare(&frame), processor.prepare(&copy));
        let mut squash = Squash::new(side, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let [mut straight, mut wanted] = [vec![], vec![]];
        squash.normalised(&frame, &mut straight);
        squash.normalised(&copy, &mut wanted);
        prop_assert_eq!(straight, wanted);
        prop_assert_eq!(squash.pixels(&frame).to_vec(), squash.pixels(&copy));
    }
}
