//! `ocelli bench`: how long each stage takes on this machine.

mod architecture;
mod peak;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use ocelli_flow::{CaptionOptions, FrameMeta, GroundOptions, Model};
use ocelli_models::architecture::Precision;
use ocelli_models::nano::{self, backbone::MULTIPLICATIONS};
use ocelli_pipeline::picture;
use serde::Serialize;

use crate::failure::Outcome;
use crate::generating::Generating;
use crate::output::Output;
use crate::session::Session;
use crate::stats::{median, min};
use crate::text;
use crate::usage::{self, Took, timed};

use self::peak::Peak;

/// Loading is repeated less often: it is long, and happens once.
const LOAD_RUNS: usize = 5;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Picture to work on; default: a made-up JPEG of 640×480
    #[arg(long, value_name = "P")]
    image: Option<PathBuf>,
    /// What to look for; may be repeated; default: three phrases
    #[arg(long, value_name = "S", num_args = 1..)]
    phrase: Vec<String>,
    /// Measure a known architecture with random weights instead of a model: clip-vit-b32, clip-vit-b16, siglip-b16-224, owlvit-b32-768,
    /// smollm2-135m, smolvlm-256m, or nano
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "image", "phrase"])]
    arch: Option<String>,
    /// Precision of --arch's weights: f32, int8 or int4; default: int8
    #[arg(long, value_name = "T", requires = "arch")]
    dtype: Option<String>,
    /// Times each stage is run
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    #[command(flatten)]
    generating: Generating,
}

/// The contract's line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    r#type: &'static str,
    arch: &'a str,
    dtype: &'a str,
    stage: &'static str,
    ms_min: f64,
    ms_median: f64,
    cpu_ms_min: f64,
    cpu_ms_median: f64,
    runs: usize,
    threads: usize,
    device: String,
    isa: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_s: Option<f64>,
    /// Thousands of millions of multiplications a second, in the fastest run.
    #[serde(skip_serializing_if = "Option::is_none")]
    gmacs: Option<f64>,
    /// The same as a part of what the machine was measured to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_peak: Option<f64>,
}

/// What one process needed, after the stages.
#[derive(Debug, Serialize)]
struct Summary {
    r#type: &'static str,
    /// From the start of the process to the first complete result, in milliseconds.
    first_frame_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_bytes: Option<u64>,
    /// What the machine was measured to do.
    #[serde(flatten)]
    peak: Option<Peak>,
}

impl Summary {
    fn new(first_frame_ms: f64, peak: Option<Peak>) -> Self {
        Self { r#type: "bench_summary", first_frame_ms, peak_rss_bytes: usage::peak_rss_bytes(), peak }
    }
}

/// A stage and what each of its runs took.
struct Stage {
    name: &'static str,
    took: Vec<Took>,
    /// Tokens a run generates, where it generates any.
    tokens: Option<usize>,
    /// Multiplications a run, where they are counted.
    multiplications: Option<usize>,
}

impl Stage {
    fn new(name: &'static str) -> Self {
        Self { name, took: Vec::new(), tokens: None, multiplications: None }
    }

    fn multiplying(self, multiplications: usize) -> Self {
        Self { multiplications: Some(multiplications), ..self }
    }

    fn of_tokens(self, tokens: usize) -> Self {
        Self { tokens: Some(tokens), ..self }
    }
}

/// Load, then a first frame as a user meets it, then the same again and again.
pub fn run(session: &Session, mut args: Args) -> Result<Outcome> {
    // nano's weights are in the program: it needs no random ones.
    if let Some(name) = args.arch.clone().filter(|name| name != "nano") {
        return architecture::run(session, &name, &args);
    }
    if let Some(dtype) = args.dtype.as_deref().filter(|&dtype| dtype != "int8") {
        anyhow::bail!("--dtype {dtype}: nano comes in int8 only");
    }
    if args.phrase.is_empty() {
        args.phrase = ["a dog", "a person", "a red car"].map(str::to_owned).into();
    }
    text::check_all("--phrase", &args.phrase)?;
    let preparing = Instant::now();
    let (name, bytes) = match &args.image {
        Some(path) => (path.clone(), picture::decode(path).map(|_| ()).map_err(anyhow::Error::from).and_then(|()| read(path))?),
        None => (PathBuf::from("a made-up picture"), made_up_jpeg(640, 480)?),
    };
    let prepared_ms = preparing.elapsed().as_secs_f64() * 1e3;

    let mut loads = Vec::new();
    let (opened, took) = timed(|| session.bundle().and_then(|bundle| Ok((session.load(&bundle)?, bundle))));
    let (model, bundle) = opened?;
    loads.push(took);
    let manifest = bundle.manifest();
    let mut work = Work::new(&*model, name, bytes, &args)?;
    work.once()?;
    let first_frame_ms = session.started.elapsed().as_secs_f64() * 1e3 - prepared_ms;
    work.forget();

    let mut progress = session.out.progress("runs", Some(u64::from(args.runs)));
    for _ in 0..args.runs {
        work.once()?;
        progress.step();
    }
    drop(progress);
    for _ in 1..LOAD_RUNS.min(args.runs as usize) {
        let (again, took) = timed(|| session.model());
        drop(again?);
        loads.push(took);
    }

    let mut stages = vec![Stage { took: loads, ..Stage::new("load") }];
    stages.extend(work.stages);
    // Of other families' bundles nobody knows the number.
    let peak = (manifest.family == nano::FAMILY).then(|| peak::measure(session.threads));
    if peak.is_some() {
        stages.iter_mut().filter(|stage| stage.name == "image_encode").for_each(|stage| stage.multiplications = Some(MULTIPLICATIONS));
    }
    let quantized = commonest(manifest.quantization.values());
    let most = peak.map_or(0.0, |peak| peak.of(Precision::Int8));
    let lines: Vec<Line> = stages.iter().map(|stage| line(session, &manifest.family, quantized, stage, most)).collect();
    show(&session.out, &lines, &Summary::new(first_frame_ms, peak))?;
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: cannot read this picture", path.display()))
}

/// One frame's work, a stage at a time.
struct Work<'a> {
    model: &'a dyn Model,
    name: PathBuf,
    bytes: Vec<u8>,
    phrases: Vec<&'a str>,
    caption: CaptionOptions,
    stages: Vec<Stage>,
    runs: usize,
}

impl<'a> Work<'a> {
    fn new(model: &'a dyn Model, name: PathBuf, bytes: Vec<u8>, args: &'a Args) -> Result<Self> {
        let (phrases, caption) = (args.phrase.iter().map(String::as_str).collect(), args.generating.captions()?);
        Ok(Self { model, name, bytes, phrases, caption, stages: Vec::new(), runs: 0 })
    }

    /// Decode, encode, embed, ground and caption once.
    fn once(&mut self) -> Result<()> {
        let mut total = Took { wall_ms: 0.0, cpu_ms: 0.0 };
        let mut add = |took: Took| {
            total = Took { wall_ms: total.wall_ms + took.wall_ms, cpu_ms: total.cpu_ms + took.cpu_ms };
        };
        let (frame, took) = timed(|| picture::decode_bytes(&self.bytes, &self.name, FrameMeta::still(self.name.to_string_lossy())));
        let frame = frame?;
        add(took);
        self.note("decode_image", took, None);

        let (inputs, took) = timed(|| self.model.preprocess(&frame));
        let inputs = inputs?;
        add(took);
        self.note("preprocess", took, None);
        let (encoded, took) = timed(|| self.model.encode_inputs(inputs));
        let encoded = encoded?;
        add(took);
        self.note("image_encode", took, None);

        // Models remember texts; these are new ones.
        self.runs += 1;
        let texts: Vec<String> = self.phrases.iter().map(|phrase| format!("{phrase} {}", self.runs)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if let Some(embedder) = self.model.embedder() {
            let (embedding, took) = timed(|| embedder.embed_image(&encoded, false));
            embedding?;
            add(took);
            self.note("embed", took, None);
        }
        if let Some(grounder) = self.model.grounder() {
            // Once a stream, not once a frame: not part of the total.
            let (phrases, took) = timed(|| grounder.phrases(&texts));
            self.note("text_encode", took, None);
            let (phrases, options) = (phrases?, GroundOptions::default());
            let (detections, took) = timed(|| grounder.ground(&encoded, &phrases, &options));
            detections?;
            add(took);
            self.note("ground", took, None);
        } else if let Some(embedder) = self.model.embedder() {
            let (vectors, took) = timed(|| embedder.embed_text(&texts, false));
            vectors?;
            self.note("text_encode", took, None);
        }
        if let Some(captioner) = self.model.captioner() {
            let (caption, took) = timed(|| captioner.caption(&encoded, &self.caption, &mut ()));
            let tokens = caption?.tokens.len();
            add(took);
            self.note("caption", took, Some(tokens));
        }
        self.note("total", total, None);
        Ok(())
    }

    fn note(&mut self, name: &'static str, took: Took, tokens: Option<usize>) {
        match self.stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.took.push(took),
            None => self.stages.push(Stage { took: vec![took], tokens, ..Stage::new(name) }),
        }
    }

    /// The first frame warms caches up and is no measurement of the rest.
    fn forget(&mut self) {
        self.stages.clear();
    }
}

/// The recipe that most quantized tensors have; "f32" of none.
fn commonest<'a>(recipes: impl Iterator<Item = &'a String>) -> &'a str {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    // `int8.t.p` and `int8` differ in their order only.
    recipes.for_each(|recipe| *counts.entry(recipe.split('.').next().unwrap_or(recipe)).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map_or("f32", |(recipe, _)| recipe)
}

/// `peak`: multiplications that the machine can do, in thousands of millions a second.
fn line<'a>(session: &Session, arch: &'a str, dtype: &'a str, stage: &Stage, peak: f64) -> Line<'a> {
    let wall: Vec<f64> = stage.took.iter().map(|took| took.wall_ms).collect();
    let cpu: Vec<f64> = stage.took.iter().map(|took| took.cpu_ms).collect();
    let ms_median = median(&wall);
    let gmacs = stage.multiplications.filter(|_| min(&wall) > 0.0).map(|count| count as f64 / min(&wall) / 1e6);
    Line {
        r#type: "bench",
        arch,
        dtype,
        stage: stage.name,
        ms_min: min(&wall),
        ms_median,
        cpu_ms_min: min(&cpu),
        cpu_ms_median: median(&cpu),
        runs: stage.took.len(),
        threads: session.threads,
        device: session.device.to_string(),
        isa: ocelli_ops::cpu::isa().name(),
        tokens_per_s: stage.tokens.filter(|_| ms_median > 0.0).map(|tokens| tokens as f64 / ms_median * 1e3),
        gmacs,
        of_peak: gmacs.filter(|_| peak > 0.0).map(|gmacs| gmacs / peak),
    }
}

fn show(out: &Output, lines: &[Line], summary: &Summary) -> Result<()> {
    if out.json() {
        lines.iter().try_for_each(|line| out.line(line))?;
        return out.line(summary);
    }
    if let Some(first) = lines.first() {
        out.text(format!("{} {}, device {}, {} threads, {}", first.arch, first.dtype, first.device, first.threads, first.isa))?;
    }
    out.text(format!("{:<13} {:>9} {:>9} {:>9} {:>9} {:>6}", "ms", "min", "median", "CPU min", "CPU med.", "runs"))?;
    for line in lines {
        let mut speed = line.tokens_per_s.map_or_else(String::new, |speed| format!("  {speed:.0} tokens/s"));
        if let Some(gmacs) = line.gmacs {
            speed += &format!("  {gmacs:.0} GMAC/s");
        }
        if let Some(part) = line.of_peak {
            speed += &format!(", {:.0} % of the peak", part * 100.0);
        }
        out.text(format!(
            "{:<13} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>6}{speed}",
            line.stage, line.ms_min, line.ms_median, line.cpu_ms_min, line.cpu_ms_median, line.runs
        ))?;
    }
    if let Some(peak) = &summary.peak {
        out.text(format!("the machine's peak: int8 {:.0} GMAC/s, f32 {:.0} GMAC/s", peak.int8_gmacs, peak.f32_gmacs))?;
    }
    out.text(format!("first frame {:.0} ms after the start", summary.first_frame_ms))?;
    summary.peak_rss_bytes.map_or(Ok(()), |bytes| out.text(format!("peak memory {:.0} MB", bytes as f64 / 1e6)))
}

/// A picture with edges, slopes and grain, so that its JPEG is about as much work as a photograph's.
fn made_up_jpeg(width: u32, height: u32) -> Result<Vec<u8>> {
    let mut grain = 1u32;
    let mut rgb = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (grain >> 28) as u8;
            let disc = u8::from(x.abs_diff(width / 3).pow(2) + y.abs_diff(height / 2).pow(2) < (height / 4).pow(2)) * 90;
            rgb.extend([(x * 160 / width) as u8 + disc / 2 + noise, (y * 160 / height) as u8 + noise, 40 + disc + noise]);
        }
    }
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, 85);
    encoder.write_image(&rgb, width, height, ExtendedColorType::Rgb8).context("the made-up picture")?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_made_up_picture_decodes() {
        let jpeg = made_up_jpeg(64, 48).unwrap();
        let frame = picture::decode_bytes(&jpeg, Path::new("made up"), FrameMeta::still("made up")).unwrap();
        assert_eq!((frame.width(), frame.height()), (64, 48));
    }
}
