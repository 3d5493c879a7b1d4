//! `--device gpu` against the CPU, on Mesa's lavapipe where there is no GPU. Where there is no adapter at all these tests say so and
//! pass; with OCELLI_EXPECT_GPU set they fail.

use std::io::Read;
use std::path::PathBuf;
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

/// All there are.
const FRAMES: [&str; 8] =
    ["astronaut.jpg", "cameraman.jpg", "cat.jpg", "coffee.jpg", "officer.jpg", "raccoon.jpg", "rocket.jpg", "temple.jpg"];

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
fn both(arguments: &[&str], pictures: &[&str]) -> Vec<(Value, Value)> {
    let pictures: Vec<PathBuf> = pictures.iter().map(|name| frames().join(name)).collect();
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

/// The maps are the very same (`tests/tests/gpu_captions.rs`); what the decoder computes of them is not, to the last bit. So of three photographs
/// captions must be the same, and of all eight one may be another: here one is, and between CPUs one of 75.
#[test]
fn captions_are_the_same() {
    if !adapter("captions") {
        return;
    }
    let mut others = Vec::new();
    for ((cpu, gpu), name) in both(&["caption"], &FRAMES).into_iter().zip(FRAMES) {
        assert_eq!(gpu["image"], cpu["image"]);
        let score = |line: &Value| line["score"].as_f64().unwrap();
        eprintln!("{name}: {} {:.4} and {} {:.4}", cpu["text"], score(&cpu), gpu["text"], score(&gpu));
        if (&gpu["text"], &gpu["tokens"]) != (&cpu["text"], &cpu["tokens"]) {
            others.push(name);
        } else {
            assert!((score(&cpu) - score(&gpu)).abs() <= 0.02);
        }
    }
    assert!(others.len() <= 1 && others.iter().all(|name| !PICTURES.contains(name)), "{others:?}");
}

/// Side of the picture that nano sees, in pixels, whatever the shape of the photograph.
const SIDE: f64 = 224.0;

/// Every detection of one has its counterpart of the other. Corners must be within a pixel of what nano sees, one to three of these photographs';
/// of the same maps they are within less.
#[test]
fn boxes_are_the_same_within_a_pixel() {
    if !adapter("boxes") {
        return;
    }
    let mut found = 0;
    for (cpu, gpu) in both(&["ground", "--phrase", "a cat", "--phrase", "a cup", "--phrase", "a person"], &PICTURES) {
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
            assert!(off <= 0.3 && score <= 0.005, "{cpu}\n{gpu}");
        }
    }
    assert!(found >= PICTURES.len(), "only {found} boxes on pictures of a cat, a cup and a person");
}

#[test]
fn embeddings_point_the_same_way() {
    if !adapter("embeddings") {
        return;
    }
    for (cpu, gpu) in both(&["embed", "--text", "a cat", "--text", "a cup of coffee on a table"], &PICTURES) {
        let (a, b) = (numbers(&cpu["values"]), numbers(&gpu["values"]));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        eprintln!("cosine {cosine:.8}");
        assert!(cosine >= 0.99999, "{cosine}: {} {}", cpu["image"], cpu["text"]);
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
