//! Pictures of common sizes to the inputs of common models: `cargo bench -p ocelli-preprocess`. One thread.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "benchmarks")]

use std::sync::Arc;

use divan::{Bencher, black_box};
use ocelli_flow::{Frame, FrameMeta, YuvFormat, YuvLayout, YuvRange};
use ocelli_preprocess::{Prepared, Processor, Recipe, Source, Squash};
use serde_json::json;

fn main() {
    divan::main();
}

/// A camera's usual size, its largest, and a photograph's.
const SIZES: [(u32, u32); 3] = [(640, 480), (1920, 1080), (4000, 3000)];
/// Cameras' sizes.
const CAMERAS: [(u32, u32); 3] = [(640, 480), (1280, 720), (1920, 1080)];

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn frame((width, height): (u32, u32)) -> Frame {
    Frame::new(width, height, noise(3 * (width * height) as usize), FrameMeta::still("noise")).unwrap()
}

fn camera(format: YuvFormat, (width, height): (u32, u32)) -> YuvLayout {
    YuvLayout { format, width, height, stride: 0, range: YuvRange::Limited }
}

fn processor(class: &str, side: u32) -> Processor {
    let size = if class == "CLIPImageProcessor" { json!(side) } else { json!([side, side]) };
    let config = json!({ "image_processor_type": class, "size": size, "crop_size": side });
    Processor::new(Recipe::from_processor(&config).unwrap()).unwrap()
}

fn prepare(bencher: Bencher<'_, '_>, mut processor: Processor, source: &Source<'_>) {
    let mut prepared: Prepared = processor.prepare_source(source).unwrap();
    bencher.bench_local(|| processor.prepare_into(black_box(source), &mut prepared).unwrap());
}

/// Shorter edge, bicubic, and a crop.
#[divan::bench(args = SIZES)]
fn clip_224(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    prepare(bencher, processor("CLIPImageProcessor", 224), &Source::frame(&frame(size)));
}

/// Squashed, bicubic.
#[divan::bench(args = SIZES)]
fn siglip_224(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    prepare(bencher, processor("SiglipImageProcessor", 224), &Source::frame(&frame(size)));
}

/// Squashed, bicubic.
#[divan::bench(args = SIZES)]
fn owlvit_768(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    prepare(bencher, processor("OwlViTImageProcessor", 768), &Source::frame(&frame(size)));
}

/// Padded, blurred, bilinear, in floating point.
#[divan::bench(args = SIZES)]
fn owlv2_960(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    prepare(bencher, processor("Owlv2ImageProcessor", 960), &Source::frame(&frame(size)));
}

/// Bilinear, in patches.
#[divan::bench(args = SIZES)]
fn siglip2_256_patches(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    prepare(bencher, processor("Siglip2ImageProcessor", 0), &Source::frame(&frame(size)));
}

/// nano's: squashed, bilinear.
#[divan::bench(args = SIZES)]
fn squash_224(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    let (frame, mut squash, mut out) = (frame(size), Squash::new(224, [0.485; 3], [0.229; 3]), Vec::new());
    bencher.bench_local(|| squash.normalised(black_box(&frame), &mut out));
}

/// CLIP's, straight from a camera's pixels.
#[divan::bench(args = SIZES)]
fn clip_224_yuyv(bencher: Bencher<'_, '_>, size @ (width, height): (u32, u32)) {
    let bytes = noise(2 * (width * height) as usize);
    prepare(bencher, processor("CLIPImageProcessor", 224), &Source::yuv(camera(YuvFormat::Yuyv, size).view(&bytes).unwrap()));
}

/// The same from two planes.
#[divan::bench(args = SIZES)]
fn clip_224_nv12(bencher: Bencher<'_, '_>, size @ (width, height): (u32, u32)) {
    let bytes = noise((width * height * 3 / 2) as usize);
    prepare(bencher, processor("CLIPImageProcessor", 224), &Source::yuv(camera(YuvFormat::Nv12, size).view(&bytes).unwrap()));
}

/// nano's, from the driver's buffer on: copied into the pool's, then read as it is.
#[divan::bench(args = CAMERAS)]
fn squash_224_yuyv(bencher: Bencher<'_, '_>, size @ (width, height): (u32, u32)) {
    let (driver, mut squash, mut out) = (noise(2 * (width * height) as usize), Squash::new(224, [0.485; 3], [0.229; 3]), Vec::new());
    let mut pool = Arc::new(Vec::new());
    bencher.bench_local(|| {
        let buffer = Arc::get_mut(&mut pool).unwrap();
        buffer.clear();
        buffer.extend_from_slice(black_box(&driver));
        let frame = Frame::yuv(camera(YuvFormat::Yuyv, size), Arc::clone(&pool), FrameMeta::still("noise")).unwrap();
        squash.normalised(&frame, &mut out);
    });
}

/// The same by way of a whole RGB copy in the pool's buffer.
#[divan::bench(args = CAMERAS)]
fn squash_224_yuyv_by_rgb(bencher: Bencher<'_, '_>, size @ (width, height): (u32, u32)) {
    let (driver, mut squash, mut out) = (noise(2 * (width * height) as usize), Squash::new(224, [0.485; 3], [0.229; 3]), Vec::new());
    let mut pool = Arc::new(Vec::new());
    bencher.bench_local(|| {
        let buffer = Arc::get_mut(&mut pool).unwrap();
        camera(YuvFormat::Yuyv, size).view(black_box(&driver)).unwrap().to_rgb(buffer);
        let frame = Frame::new(width, height, Arc::clone(&pool), FrameMeta::still("noise")).unwrap();
        squash.normalised(&frame, &mut out);
    });
}
