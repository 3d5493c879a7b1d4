//! `ocelli quantize`: small bundles in fewer bits, what is said of it, and recipes that are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::program::{Said, ocelli, text};

struct Imported {
    golden: PathBuf,
    folder: TempDir,
}

impl Imported {
    fn new(name: &str) -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens").join(name);
        let imported = Self { golden, folder: tempdir().unwrap() };
        ocelli(["import", text(&imported.golden), "-o", text(&imported.path("in.ocelli")), "--quiet"]).good();
        imported
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn quantize(&self, recipe: &str, more: &[&str]) -> Said {
        let (input, output) = (self.path("in.ocelli"), self.path("out.ocelli"));
        ocelli(["quantize", text(&input), "-o", text(&output), "--recipe", recipe].iter().chain(more))
    }

    fn recipe(&self, toml: &str) -> String {
        fs::write(self.path("recipe.toml"), toml).unwrap();
        text(&self.path("recipe.toml")).to_owned()
    }

    /// The recipes that `inspect` finds, and the golden vectors that `verify` does.
    fn recipes(&self) -> Value {
        let output = self.path("out.ocelli");
        let verified = ocelli(["verify", text(&output), "--json"]).good().lines_of("verification");
        assert!(!verified.is_empty() && verified.iter().all(|line| line["ok"] == true), "{verified:?}");
        ocelli(["inspect", text(&output), "--json"]).good().lines().remove(0)["recipes"].clone()
    }
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

#[test]
fn vectors_stay_where_they_were() {
    let clip = Imported::new("clip/tiny");
    let picture = clip.golden.join("pictures/wide.png");
    for (recipe, error, cosine) in [
        // Rows of at most 64 values, half a step of a 127th of the greatest each: √64 / 254. Both halves of some ten products, added as they
        // come: .03 · √20, and so a cosine of 1 − .14² / 2.
        ("int8", 64f64.sqrt() / 254.0, 0.99),
        ("int8g", 64f64.sqrt() / 254.0, 0.99),
        // A step is an eighth of the greatest of 32, about two of their standard deviations, and an error a √12th of it: 7 %, up to twice that
        // where a group has one large value. Ten of them are 22 to 44 %: a cosine of .9 at worst.
        ("int4", 0.14, 0.9),
    ] {
        let lines = clip.quantize(recipe, &["--image", text(&picture), "--force", "--json"]).good();
        let tensors = lines.lines_of("quantized_tensor");
        assert!(tensors.iter().all(|line| number(line, "relative") <= error), "{recipe}: {tensors:?}");
        let whole = &lines.lines_of("quantized")[0];
        assert!(number(whole, "relative") > 0.0 && number(whole, "bytes") > 0.0, "{whole}");
        for vectors in ["image_cosine", "text_cosine"] {
            let found = number(&whole[vectors], "least");
            assert!(found >= cosine && found < 1.0 - 1e-7, "{recipe}: {whole}");
        }
        let recipes = clip.recipes();
        let has = |name: &str| recipes.as_object().unwrap().keys().any(|key| key.starts_with(name));
        assert!(has("int8") && has("f32.t.p"), "{recipes}");
        ocelli(["embed", "-m", text(&clip.path("out.ocelli")), "--text", "a cat"]).good();
    }
}

#[test]
fn a_model_that_writes_is_followed() {
    let smol = Imported::new("smolvlm/smolvlm");
    for recipe in ["int8", "int4"] {
        let lines = smol.quantize(recipe, &["--force", "--json"]).good();
        let whole = &lines.lines_of("quantized")[0];
        assert_eq!(whole["teacher_forced"], true);
        assert!(number(whole, "tokens") > 0.0, "{whole}");
        // Random weights have no favourite word, so four bits change most of them; by chance one in 340 would be the same. That the integers are
        // the right ones is tested where they are stored.
        let least = if recipe == "int8" { 0.8 } else { 0.1 };
        assert!(number(whole, "token_agreement") >= least, "{recipe}: {whole}");
        let of = |name: &str| {
            let tensors = lines.lines_of("quantized_tensor");
            let line = tensors.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name} in {tensors:?}"));
            line["to"].as_str().unwrap().to_owned()
        };
        let four = recipe == "int4";
        assert_eq!(of("text.layers.0.qkv.weight"), recipe);
        assert_eq!(of("text.tokens"), if four { "int8g" } else { "int8" });
        // 48 input channels are no whole groups; towers that see keep eight bits.
        assert_eq!((of("text.layers.0.down.weight"), of("vision.layers.0.up.weight")), ("int8".into(), "int8".into()));
        let recipes = smol.recipes();
        assert_eq!(recipes["int4.t.p"].as_u64().unwrap_or(0) > 0, four, "{recipes}");
    }
    let plain = smol.quantize("int4", &["--force", "--no-golden"]).good();
    assert!(plain.stdout.contains("text.layers.0.qkv.weight") && plain.stdout.contains("MB instead of"), "{plain:?}");
}

#[test]
fn a_file_says_what_becomes_of_what() {
    let clip = Imported::new("clip/tiny");
    let recipe = clip.recipe(
        "default = \"keep\"\n[[rule]]\nmatch = \"vision.*\"\nrecipe = \"int8\"\n[[rule]]\nmatch = \"text.tokens.weight\"\nrecipe = \"f16\"\n",
    );
    let lines = clip.quantize(&recipe, &["--json"]).good();
    for line in lines.lines_of("quantized_tensor") {
        let name = line["name"].as_str().unwrap();
        let form = if name.starts_with("vision.") { "int8" } else { "f32" };
        assert_eq!(line["to"], if name == "text.tokens.weight" { "f16" } else { form }, "{line}");
    }
    assert_eq!(lines.lines_of("quantized")[0]["recipe"], "recipe.toml");
    assert_eq!(clip.recipes()["f16.p"], 1);
    clip.quantize("int8", &[]).refused(&["out.ocelli", "--force"]);
}

#[test]
fn recipes_that_are_wrong() {
    let clip = Imported::new("clip/tiny");
    clip.quantize("int3", &[]).refused(&["int3", "--recipe", "int8g"]);
    for (toml, words) in [
        ("default = \"int8\"\n[[rule]]\nmatch = \"decoder.*\"\nrecipe = \"int4\"\n", ["line 3", "text.layers.*"]),
        ("default = \"int8\"\n[[rule]]\nmatch = \"text.*\"\nrecipe = \"int2\"\n", ["line 4", "int2"]),
        ("default = \"int8\"\nrules = 3\n", ["line 2", "rules"]),
        ("default = ", ["line 1", "recipe.toml"]),
    ] {
        clip.quantize(&clip.recipe(toml), &[]).refused(&words);
    }
    assert!(!clip.path("out.ocelli").exists());
    let same = clip.path("in.ocelli");
    ocelli(["quantize", text(&same), "-o", text(&same), "--recipe", "int8", "--force"]).refused(&["another name"]);
    ocelli(["quantize", "nowhere.ocelli", "-o", text(&clip.path("out.ocelli")), "--recipe", "int8"]).refused(&["nowhere.ocelli"]);
}

#[test]
fn import_knows_four_bits() {
    let smol = Imported::new("smolvlm/smolvlm");
    let output = smol.path("out.ocelli");
    ocelli(["import", text(&smol.golden), "-o", text(&output), "--dtype", "int4", "--quiet"]).good();
    assert!(smol.recipes()["int4.t.p"].as_u64().unwrap() > 0);
}
