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

/// As many buffers in turn as a camera's driver and its pool have.
const BUFFERS: usize = 4;

/// What capturing costs: the driver's buffer into the pool's.
#[divan::bench(args = CAMERAS)]
fn capture_yuyv(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    let mut camera = Camera::new(size);
    bencher.bench_local(|| black_box(camera.straight()));
}

/// What it costs where every frame is converted.
#[divan::bench(args = CAMERAS)]
fn capture_yuyv_to_rgb(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    let mut camera = Camera::new(size);
    bencher.bench_local(|| black_box(camera.by_rgb()));
}

/// Captured, then nano's input of it.
#[divan::bench(args = CAMERAS)]
fn squash_224_yuyv(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    let (mut camera, mut squash, mut out) = (Camera::new(size), Squash::new(224, [0.485; 3], [0.229; 3]), Vec::new());
    bencher.bench_local(|| squash.normalised(&camera.straight(), &mut out));
}

/// The same where every frame is converted.
#[divan::bench(args = CAMERAS)]
fn squash_224_yuyv_to_rgb(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    let (mut camera, mut squash, mut out) = (Camera::new(size), Squash::new(224, [0.485; 3], [0.229; 3]), Vec::new());
    bencher.bench_local(|| squash.normalised(&camera.by_rgb(), &mut out));
}

/// A driver's buffers and a pool's, all used in turn.
struct Camera {
    layout: YuvLayout,
    buffers: [(Vec<u8>, Arc<Vec<u8>>); BUFFERS],
    next: usize,
}

impl Camera {
    fn new(size @ (width, height): (u32, u32)) -> Self {
        let buffers = std::array::from_fn(|_| (noise(2 * (width * height) as usize), Arc::default()));
        Self { layout: camera(YuvFormat::Yuyv, size), buffers, next: 0 }
    }

    fn turn(&mut self) -> (YuvLayout, &[u8], &mut Arc<Vec<u8>>) {
        self.next = (self.next + 1) % BUFFERS;
        let (driver, pool) = &mut self.buffers[self.next];
        (self.layout, driver, pool)
    }

    fn straight(&mut self) -> Frame {
        let (layout, driver, pool) = self.turn();
        let buffer = Arc::get_mut(pool).unwrap();
        buffer.clear();
        buffer.extend_from_slice(layout.view(driver).unwrap().bytes());
        Frame::yuv(layout, Arc::clone(pool), FrameMeta::still("noise")).unwrap()
    }

    fn by_rgb(&mut self) -> Frame {
        let (layout, driver, pool) = self.turn();
        layout.view(driver).unwrap().to_rgb(Arc::get_mut(pool).unwrap());
        Frame::new(layout.width, layout.height, Arc::clone(pool), FrameMeta::still("noise")).unwrap()
    }
}
