//! `--device gpu` against the CPU, on Mesa's lavapipe where there is no GPU. Where there is no adapter at all these tests say so and
//! pass; with OCELLI_EXPECT_GPU set they fail.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use ocelli_ops::{DeviceChoice, DeviceError, select};
use serde_json::Value;

use crate::program::{Said, command, frames, text};

/// A driver that hangs fails a test, it does not stop all of them. A first call compiles some hundred shaders, which takes lavapipe up to
/// half a second each.
const LIMIT: Duration = Duration::from_secs(600);

/// Few pictures: lavapipe is slow.
const PICTURES: [&str; 3] = ["astronaut.jpg", "cat.jpg", "coffee.jpg"];

/// Of two of them it is clear what nano says, of one it is not.
const CAPTIONED: [&str; 3] = ["officer.jpg", "raccoon.jpg", "coffee.jpg"];

/// Whether there is an adapter; if not, that is said.
fn adapter(test: &str) -> bool {
    match select(DeviceChoice::Gpu) {
        Ok(_) => true,
        Err(DeviceError::NoAdapter { reason }) if std::env::var_os("OCELLI_EXPECT_GPU").is_none() => {
            eprintln!("skipped: {test}: {reason}");
            false
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

/// Runs the program to its end, or until [`LIMIT`].
fn within_limit(arguments: &[&str]) -> Said {
    let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start ocelli");
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |pipe: &mut dyn Read| {
        let mut said = String::new();
        pipe.read_to_string(&mut said).expect("it says UTF-8");
        said
    };
    // Read on other threads, so that a full pipe does not stop the program.
    let (stdout, stderr) = (thread::spawn(move || read(&mut out)), thread::spawn(move || read(&mut err)));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("ask for its end") {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill().expect("stop it");
            child.wait().expect("its end");
            panic!("{arguments:?} has not ended for {LIMIT:?}: {}", stderr.join().unwrap());
        }
        thread::sleep(Duration::from_millis(50));
    };
    eprintln!("{arguments:?}: {:.1} s", start.elapsed().as_secs_f32());
    Said { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }.good()
}

/// The lines of a command on pictures, from the CPU and from the GPU.
fn both(arguments: &[&str], pictures: [&str; 3]) -> Vec<(Value, Value)> {
    let pictures = pictures.map(|name| frames().join(name));
    let on = |device: &str| {
        let mut all = arguments.to_vec();
        all.extend(["--json", "--device", device]);
        all.extend(pictures.iter().flat_map(|picture| ["--image", text(picture)]));
        within_limit(&all).lines()
    };
    let (cpu, gpu) = (on("cpu"), on("gpu"));
    assert_eq!(cpu.len(), gpu.len());
    assert!(cpu.len() >= pictures.len());
    cpu.into_iter().zip(gpu).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Copies of a picture in which no level is more than one off, as no camera holds it still.
fn shots(picture: &Path, folder: &Path) -> Vec<PathBuf> {
    const COPIES: usize = 24;
    let original = image::open(picture).expect("a picture").to_rgb8();
    let mut random = 1u64;
    let mut shot = |copy: usize| {
        let mut pixels = original.clone();
        for level in pixels.iter_mut() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *level = match random >> 56 {
                0 => level.saturating_add(1),
                1 => level.saturating_sub(1),
                _ => *level,
            };
        }
        let path = folder.join(format!("{copy}.png"));
        pixels.save(&path).expect("room for a picture");
        path
    };
    (0..COPIES).map(&mut shot).collect()
}

/// What is asked for. Where only AVX2 is there, coffee.jpg's differ: see the test below for why.
#[test]
fn captions_are_the_same() {
    if !adapter("captions") {
        return;
    }
    for (cpu, gpu) in both(&["caption"], PICTURES) {
        assert_eq!((&gpu["image"], &gpu["text"], &gpu["tokens"]), (&cpu["image"], &cpu["text"], &cpu["tokens"]));
    }
}

/// The GPU's caption is the CPU's: of the picture, or of a copy that looks the same.
///
/// Not of the picture alone: maps are a few parts in a hundred apart when a sum's last bit is, as the test of boxes says, and a search that
/// keeps three beams prunes by less than that. Of 24 photographs the GPU writes the same caption for 18, the CPU without fused
/// multiplications for 18, and the CPU itself the same for all copies of 10. Of the very same maps the GPU must write the very same
/// sentences: `tests/tests/gpu_captions.rs`.
#[test]
fn captions_are_those_of_what_looks_the_same() {
    if !adapter("captions of copies") {
        return;
    }
    let mut clear = 0;
    for ((cpu, gpu), name) in both(&["caption"], CAPTIONED).into_iter().zip(CAPTIONED) {
        assert_eq!(gpu["image"], cpu["image"]);
        let folder = tempfile::tempdir().expect("a folder");
        let shots = shots(&frames().join(name), folder.path());
        let mut all = vec!["caption", "--json", "--device", "cpu"];
        all.extend(shots.iter().flat_map(|shot| ["--image", text(shot)]));
        let mut cpus = within_limit(&all).lines();
        assert_eq!(cpus.len(), shots.len());
        cpus.push(cpu);
        let texts: BTreeSet<&str> = cpus.iter().filter_map(|cpu| cpu["text"].as_str()).collect();
        let score = |line: &Value| line["score"].as_f64().expect("a score");
        let same = |cpu: &&Value| cpu["tokens"] == gpu["tokens"] && (score(cpu) - score(&gpu)).abs() <= 0.05;
        let count = cpus.iter().filter(same).count();
        eprintln!("{name}: {} for {count} of {}, among {texts:?}", gpu["text"], cpus.len());
        assert!(count > 0, "{gpu}: not among {texts:?}");
        clear += usize::from(texts.len() == 1);
    }
    // Where the CPU says one thing the GPU has said the same.
    assert!(clear >= 1, "the CPU is sure of no caption");
}

/// Side of the picture that nano sees, in pixels, whatever the shape of the photograph.
const SIDE: f64 = 224.0;

/// Every detection of one has its counterpart of the other, its corners within a pixel of what nano sees: one to three of these photographs'.
///
/// Not of the photograph: the backbone rounds activations to bytes, sums that differ in their last bit round to another byte once in a
/// while, and what follows is as far off as rounding itself is. The CPU's own instruction sets, with and without fused multiplications, are
/// as far from each other.
#[test]
fn boxes_are_the_same_within_a_pixel() {
    if !adapter("boxes") {
        return;
    }
    let mut found = 0;
    for (cpu, gpu) in both(&["ground", "--phrase", "a cat", "--phrase", "a cup", "--phrase", "a person"], PICTURES) {
        let [width, height] = ["width", "height"].map(|side| cpu[side].as_f64().unwrap());
        let (cpu, gpu) = (cpu["detections"].as_array().unwrap(), gpu["detections"].as_array().unwrap());
        assert_eq!(cpu.len(), gpu.len(), "{cpu:?}\n{gpu:?}");
        found += cpu.len();
        for (cpu, gpu) in cpu.iter().zip(gpu) {
            assert_eq!(cpu["phrase"], gpu["phrase"]);
            let corners = numbers(&cpu["box"]).into_iter().zip(numbers(&gpu["box"])).zip([width, height, width, height]);
            let off = corners.map(|((a, b), side)| (a - b).abs() * SIDE / side).fold(0.0, f64::max);
            let score = (cpu["score"].as_f64().unwrap() - gpu["score"].as_f64().unwrap()).abs();
            eprintln!("corners within {off:.2} pixels, score within {score:.4}");
            assert!(off <= 1.0 && score <= 0.02, "{cpu}\n{gpu}");
        }
    }
    assert!(found >= PICTURES.len(), "only {found} boxes on pictures of a cat, a cup and a person");
}

#[test]
fn embeddings_point_the_same_way() {
    if !adapter("embeddings") {
        return;
    }
    for (cpu, gpu) in both(&["embed", "--text", "a cat", "--text", "a cup of coffee on a table"], PICTURES) {
        let (a, b) = (numbers(&cpu["values"]), numbers(&gpu["values"]));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        eprintln!("cosine {cosine:.6}");
        assert!(cosine >= 0.999, "{cosine}: {} {}", cpu["image"], cpu["text"]);
    }
}

/// The loaders of Vulkan and EGL are told of drivers that are not there.
#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_one_is_told_what_to_do() {
    let mut command = command(["caption", "--image", "x.jpg", "--device", "gpu"]);
    for loader in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES"] {
        command.env(loader, "/nonexistent");
    }
    let said = Said::from(command.output().expect("start ocelli"));
    said.refused(&["--device", "no GPU was found", "Vulkan driver", "--device cpu"]);
}
