use std::fs;
use std::path::{Path, PathBuf};

use ocelli_bundle::{Bundle, BundleWriter, Manifest};
use ocelli_convert::quantize::Report;
use ocelli_convert::recipe::Recipe;
use ocelli_convert::{Options, QuantizeError, import, quantize};
use ocelli_models::table::{self, Kind, Row, Storage};
use ocelli_models::{registry, weights};
use tempfile::{TempDir, tempdir};

use crate::checkpoints::Checkpoint;

struct Made {
    folder: TempDir,
    rows: Vec<Row>,
}

impl Made {
    fn new(storage: Storage) -> Self {
        let folder = tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        fs::create_dir(&checkpoint).unwrap();
        Checkpoint::clip().write(&checkpoint);
        let bundle = folder.path().join("in.ocelli");
        import(&checkpoint, &bundle, &Options { storage, ..Options::default() }, &mut |_, _| ()).unwrap();
        let rows = registry::rows(Bundle::open(&bundle).unwrap().manifest()).unwrap().unwrap();
        Self { folder, rows }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn quantized(&self, from: &str, to: &str, recipe: &Recipe) -> Result<Report, QuantizeError> {
        let mut last = (0, 1);
        let report = quantize(&self.path(from), &self.path(to), recipe, &mut |done, total| {
            assert!(done >= last.0 && done <= total, "{done} of {total} after {last:?}");
            last = (done, total);
        })?;
        assert_eq!(last.0, last.1, "the bar reaches its end");
        Ok(report)
    }

    fn recipe(&self, text: &str) -> Recipe {
        fs::write(self.path("recipe.toml"), text).unwrap();
        Recipe::read(self.path("recipe.toml").to_str().unwrap()).unwrap()
    }
}

fn open(path: &Path) -> Bundle {
    let bundle = Bundle::open(path).unwrap();
    bundle.verify().unwrap();
    bundle
}

#[test]
fn weights_are_within_half_a_step() {
    let made = Made::new(Storage::F32);
    let before = open(&made.path("in.ocelli"));
    for storage in [Storage::F16, Storage::Int8, Storage::Int8Groups, Storage::Int4] {
        let report = made.quantized("in.ocelli", "out.ocelli", &Recipe::of(storage)).unwrap();
        let after = open(&made.path("out.ocelli"));
        table::check(&after, &made.rows).unwrap();
        assert_eq!((report.bytes, report.bytes_before), (after.size_bytes(), before.size_bytes()));
        assert!(report.bytes < report.bytes_before);
        assert_eq!(report.tensors.len(), made.rows.iter().filter(|row| row.kind != Kind::Float).count());
        for row in &made.rows {
            let recipe = row.recipe(storage);
            assert_eq!(weights::stored_as(&after, &row.name).unwrap(), recipe, "{}", row.name);
            let [was, is] = [&before, &after].map(|bundle| weights::values(bundle, &row.name, &row.shape, true).unwrap());
            // Values are within ±.5: a step is at most .5 / 127, and .5 / 7 of four bits, whose scale may be chosen so that the greatest value
            // of a group is a step off; a half has eleven bits.
            let bound = match recipe.short_name() {
                "f32" => 0.0,
                "f16" => 0.5 / 2048.0,
                "int4" => 0.5 / 7.0,
                _ => 0.5 / 127.0 / 2.0 * 1.001,
            };
            let most = was.iter().zip(&is).map(|(was, is)| (was - is).abs()).fold(0.0f32, f32::max);
            assert!(most <= bound, "{} as {}: {most}", row.name, recipe.short_name());
            if let Some(said) = report.tensors.iter().find(|tensor| tensor.name == row.name) {
                assert_eq!((said.max, said.to, said.from), (most, recipe.short_name(), "f32"));
                assert_eq!(said.relative > 0.0, most > 0.0);
            }
        }
    }
}

#[test]
fn what_is_kept_is_kept_bit_by_bit() {
    let made = Made::new(Storage::Int8);
    let recipe = made.recipe("[[rule]]\nmatch = \"text.layers.0.*\"\nrecipe = \"int4\"\n");
    let report = made.quantized("in.ocelli", "out.ocelli", &recipe).unwrap();
    let [before, after] = [open(&made.path("in.ocelli")), open(&made.path("out.ocelli"))];
    for tensor in before.tensors().filter(|tensor| !tensor.name.starts_with("text.layers.0.")) {
        assert_eq!(after.tensor(tensor.name).unwrap().bytes, tensor.bytes, "{}", tensor.name);
    }
    let changed: Vec<&str> = report.tensors.iter().filter(|tensor| tensor.from != tensor.to).map(|tensor| tensor.name.as_str()).collect();
    assert!(!changed.is_empty() && changed.iter().all(|name| name.starts_with("text.layers.0.")), "{changed:?}");
    assert!(report.tensors.iter().all(|tensor| (tensor.relative > 0.0) == (tensor.from != tensor.to)));

    // To floats and back: every integer is found again.
    made.quantized("in.ocelli", "f32.ocelli", &Recipe::of(Storage::F32)).unwrap();
    made.quantized("f32.ocelli", "back.ocelli", &Recipe::of(Storage::Int8)).unwrap();
    let back = open(&made.path("back.ocelli"));
    for tensor in before.tensors().filter(|tensor| !tensor.name.ends_with(".scale")) {
        assert_eq!(back.tensor(tensor.name).unwrap().bytes, tensor.bytes, "{}", tensor.name);
    }
}

#[test]
fn texts_and_origin_go_with_it() {
    let made = Made::new(Storage::F32);
    made.quantized("in.ocelli", "out.ocelli", &Recipe::of(Storage::Int4)).unwrap();
    let [before, after] = [open(&made.path("in.ocelli")), open(&made.path("out.ocelli"))];
    assert_eq!(after.text("tokenizer.json"), before.text("tokenizer.json"));
    assert!(after.text("model_card").unwrap().ends_with("Quantized by ocelli: int4.\n"));
    let provenance = &after.manifest().provenance;
    assert_eq!(provenance.len(), before.manifest().provenance.len() + 1);
    assert_eq!(provenance[1].revision, before.digest());
    assert_eq!(after.manifest().config, before.manifest().config);
}

#[test]
fn what_cannot_be_is_refused() {
    let made = Made::new(Storage::F32);
    let int8 = Recipe::of(Storage::Int8);
    assert!(matches!(made.quantized("in.ocelli", "in.ocelli", &int8), Err(QuantizeError::Same { .. })));
    let unmatched = made.recipe("default = \"int8\"\n[[rule]]\nmatch = \"decoder.*\"\nrecipe = \"int4\"\n");
    let said = made.quantized("in.ocelli", "out.ocelli", &unmatched).unwrap_err().to_string();
    assert!(said.contains("recipe.toml: line 3: ") && said.contains("decoder.*") && said.contains("vision.layers.*.qkv.weight"), "{said}");
    let norms = made.recipe("[[rule]]\nmatch = \"*.gamma\"\nrecipe = \"int4\"\n");
    assert!(made.quantized("in.ocelli", "out.ocelli", &norms).unwrap_err().to_string().contains("stay f32"));

    BundleWriter::new(Manifest::new("nano", "nano")).write_to(&made.path("nano.ocelli")).unwrap();
    assert!(matches!(made.quantized("nano.ocelli", "out.ocelli", &int8), Err(QuantizeError::Already { .. })));
    let mut bytes = fs::read(made.path("in.ocelli")).unwrap();
    let at = open(&made.path("in.ocelli")).tensor("text.layers.0.qkv.weight").unwrap().offset as usize;
    bytes[at] ^= 1;
    fs::write(made.path("damaged.ocelli"), bytes).unwrap();
    assert!(matches!(made.quantized("damaged.ocelli", "out.ocelli", &int8), Err(QuantizeError::Bundle(_))));
    assert!(!made.path("out.ocelli").exists(), "nothing is left behind");
}
