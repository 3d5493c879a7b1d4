//! Bundles of small CLIP, SigLIP and OWL-ViT checkpoints at work: their numbers are compared with transformers' in `tests/tests/families.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::program::{Said, ocelli, text};

/// A checkpoint of the goldens as a bundle.
struct Imported {
    golden: PathBuf,
    folder: TempDir,
}

impl Imported {
    fn new(name: &str) -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens").join(name);
        let imported = Self { golden, folder: tempdir().unwrap() };
        ocelli(["import", text(&imported.golden), "-o", text(&imported.bundle()), "--quiet"]).good();
        imported
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("model.ocelli")
    }

    fn picture(&self, name: &str) -> String {
        text(&self.golden.join("pictures").join(format!("{name}.png"))).to_owned()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Said {
        let bundle = self.bundle();
        ocelli([command, "-m", text(&bundle)].iter().chain(arguments))
    }

    /// The picture as `preprocess` writes it.
    fn prepared(&self, picture: &str) -> String {
        let file = self.folder.path().join(format!("{picture}.safetensors"));
        self.run("preprocess", &["--image", &self.picture(picture), "-o", text(&file)]).good();
        text(&file).to_owned()
    }
}

fn numbers(line: &Value) -> Vec<f64> {
    line["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn what_preprocess_writes_stands_in_for_the_picture() {
    for name in ["clip/tiny", "siglip/naflex"] {
        let model = Imported::new(name);
        let (picture, file) = (model.picture("wide"), model.prepared("wide"));
        let lines = model.run("embed", &["--image", &picture, "--pixels", &file, "--text", "a cat", "--json"]).good().lines();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1]["image"], file.as_str());
        assert_eq!(numbers(&lines[0]), numbers(&lines[1]), "{name}");
        let length: f64 = numbers(&lines[2]).iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    let owl = Imported::new("owl/owlv2");
    let (picture, file) = (owl.picture("tall"), owl.prepared("tall"));
    let ground = |source: [&str; 2]| {
        let mut line = owl.run("ground", &[source[0], source[1], "--phrase", "a photo of a cat", "--json"]).good().lines().remove(0);
        line["image"] = Value::Null;
        line
    };
    let from_picture = ground(["--image", &picture]);
    assert!(!from_picture["detections"].as_array().unwrap().is_empty());
    assert!(from_picture["detections"][0]["objectness"].is_number());
    assert_eq!(from_picture, ground(["--pixels", &file]));
}

#[test]
fn scores_are_of_the_models_kind() {
    let sum = |model: &Imported| {
        let said = model.run("classify", &["--image", &model.picture("wide"), "--label", "a cat", "--label", "a red bus", "--json"]);
        let line = said.good().lines().remove(0);
        line["scores"].as_array().unwrap().iter().map(|score| score["score"].as_f64().unwrap()).sum::<f64>()
    };
    assert!((sum(&Imported::new("clip/tiny")) - 1.0).abs() < 1e-5);
    assert!((sum(&Imported::new("siglip/tiny")) - 1.0).abs() > 1e-3);
}

#[test]
fn what_a_model_cannot_do_is_said() {
    let seeing = Imported::new("clip/vision");
    seeing.run("embed", &["--text", "a cat"]).refused(&["cannot read texts"]);
    seeing.run("embed", &["--image", &seeing.picture("wide")]).good();
    let reading = Imported::new("clip/text");
    reading.run("embed", &["--text", "a cat"]).good();
    reading.run("ground", &["--image", &seeing.picture("wide"), "--phrase", "a cat"]).refused(&["cannot find phrases"]);
    let said = reading.run("embed", &["--image", &seeing.picture("wide")]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("cannot read pictures"), "{said:?}");
    let nano = ocelli(["ground", "--image", &seeing.picture("wide"), "--query-image", &seeing.picture("wide")]);
    assert_eq!(nano.code, Some(2), "{nano:?}");
}

#[test]
fn a_picture_is_looked_for_and_drawn() {
    for name in ["owl/owlvit", "owl/owlv2"] {
        let owl = Imported::new(name);
        let drawn = owl.folder.path().join("drawn.png");
        let (target, query) = (owl.picture("wide"), owl.picture("tall"));
        let arguments = ["--image", &target, "--query-image", &query, "--annotate", text(&drawn), "--json"];
        let line = owl.run("ground", &arguments).good().lines().remove(0);
        let found = line["detections"].as_array().unwrap();
        assert!(found[0]["score"].as_f64().unwrap() > 0.99 && found.len() > 1, "{line}");
        assert_eq!(found[0]["phrase"], query.as_str());
        assert_eq!(image::image_dimensions(&drawn).unwrap(), image::image_dimensions(&target).unwrap());
        let prepared = owl.prepared("tall");
        let again = owl.run("ground", &["--image", &target, "--query-pixels", &prepared, "--json"]).good().lines().remove(0);
        assert_eq!(again["detections"][0]["box"], line["detections"][0]["box"]);
        owl.run("ground", &["--image", &target, "--query-image", &query, "--phrase", "a cat"]).refused(&["--phrase"]);
    }
}

#[test]
fn many_labels_and_odd_ones() {
    let model = Imported::new("clip/tiny");
    let picture = model.picture("tiny");
    let labels = model.folder.path().join("labels.txt");
    fs::write(&labels, (0..10_000).map(|i| format!("thing {i}\n")).collect::<String>()).unwrap();
    let line = model.run("classify", &["--image", &picture, "--labels-file", text(&labels), "--json"]).good().lines().remove(0);
    assert_eq!(line["scores"].as_array().unwrap().len(), 10_000);
    model.run("classify", &["--image", &picture, "--label", " "]).refused(&["--label", "empty"]);
    let one = model.folder.path().join("one.png");
    image::RgbImage::from_pixel(1, 1, image::Rgb([9, 200, 3])).save(&one).unwrap();
    model.run("classify", &["--image", text(&one), "--label", "a cat"]).good();
    // Longer than the model reads: cut, as its processor cuts.
    model.run("embed", &["--text", &"word ".repeat(150)]).good();
}

#[test]
fn prepared_tensors_of_another_model_are_refused() {
    let (clip, owl) = (Imported::new("clip/tiny"), Imported::new("owl/owlvit"));
    let file = owl.prepared("wide");
    let said = clip.run("embed", &["--pixels", &file]);
    assert_eq!(said.code, Some(2), "{said:?}");
    said.one_sentence(&["pixel_values", "preprocess"]);
    let none = clip.folder.path().join("none.safetensors");
    fs::write(&none, [0xff; 40]).unwrap();
    let said = clip.run("embed", &["--pixels", text(&none)]);
    assert_eq!(said.code, Some(2), "{said:?}");
    said.one_sentence(&["none.safetensors", "preprocess"]);
    owl.run("ground", &["--pixels", &file, "--phrase", "a cat", "--annotate", "x.png"]).refused(&["--annotate"]);
}

#[test]
fn verify_computes_what_the_import_kept() {
    for (name, dtype) in
        [("clip/tiny", "f32"), ("siglip/naflex", "int8"), ("owl/owlvit", "f16"), ("clip/vision", "int8"), ("clip/text", "f32")]
    {
        let model = Imported::new(name);
        let bundle = model.bundle();
        ocelli(["import", text(&model.golden), "-o", text(&bundle), "--dtype", dtype, "--force", "--quiet"]).good();
        let lines = ocelli(["verify", text(&bundle), "--json"]).good().lines_of("verification");
        assert!(lines.len() >= 2 && lines.iter().all(|line| line["ok"] == true), "{name}: {lines:?}");
    }
    let model = Imported::new("clip/text");
    ocelli(["import", text(&model.golden), "-o", text(&model.bundle()), "--no-golden", "--force", "--quiet"]).good();
    ocelli(["verify", text(&model.bundle())]).refused(&["no golden vectors"]);
}
