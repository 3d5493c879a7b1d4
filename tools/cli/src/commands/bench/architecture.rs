//! `ocelli bench --arch`: a known architecture with random weights.

use anyhow::{Context, Result};
use ocelli_models::architecture::{Architecture, DecoderSample, Precision, VisionLanguageSample, VisionSample};
use ocelli_models::blocks::VisionConfig;
use ocelli_models::llama::DecoderConfig;
use ocelli_models::smolvlm;

use super::{Args, Line, Stage, Summary, line, peak, show};
use crate::failure::Outcome;
use crate::session::Session;
use crate::usage::{Took, timed};

/// Seed of the random weights.
const SEED: u64 = 1;
/// Tokens that are read at once before anything is written.
const PREFILL: usize = 512;
/// Tokens that are written, and those before them.
const DECODE: usize = 64;
const PROMPT: usize = 32;
/// Tokens of a question about a picture, with those that the chat template puts around it.
const QUESTION: usize = 24;

pub(super) fn run(session: &Session, name: &str, args: &Args) -> Result<Outcome> {
    let architecture: Architecture = name.parse().context("--arch, beside nano")?;
    let precision: Precision = args.dtype.as_deref().map_or(Ok(Precision::default()), str::parse).context("--dtype")?;
    let peak = peak::measure(session.threads);
    let (stages, first_frame_ms) = match architecture {
        Architecture::Vision(config) => vision(session, &config, precision, args)?,
        Architecture::Decoder(config) => decoder(session, &config, precision, args)?,
        Architecture::VisionLanguage(config) => vision_language(session, &config, precision, args)?,
    };
    let dtype = precision.to_string();
    let lines: Vec<Line> = stages.iter().map(|stage| line(session, name, &dtype, stage, peak.of(precision))).collect();
    let summary = Summary::new(first_frame_ms, Some(peak));
    show(&session.out, &lines, &summary)?;
    Ok(Outcome::Done)
}

fn vision(session: &Session, config: &VisionConfig, precision: Precision, args: &Args) -> Result<(Vec<Stage>, f64)> {
    let device = ocelli_ops::device::select(session.device).context("--device")?;
    let (sample, load) = timed(|| VisionSample::new(config, precision, SEED, &device));
    let sample = sample?;
    sample.encode()?;
    let first_frame_ms = session.started.elapsed().as_secs_f64() * 1e3;
    let mut stages = vec![Stage::new("load"), Stage::new("image_encode").multiplying(config.multiplications())];
    stages[0].took.push(load);
    let mut progress = session.out.progress("runs", Some(u64::from(args.runs)));
    for _ in 0..args.runs {
        let (seen, took) = timed(|| sample.encode());
        seen?;
        stages[1].took.push(took);
        progress.step();
    }
    drop(progress);
    Ok((stages, first_frame_ms))
}

/// A picture of one tile, a question of [`QUESTION`] tokens, and [`DECODE`] tokens of an answer.
fn vision_language(session: &Session, config: &smolvlm::Config, precision: Precision, args: &Args) -> Result<(Vec<Stage>, f64)> {
    let device = ocelli_ops::device::select(session.device).context("--device")?;
    let vision = config.vision.as_ref().context("--arch: an architecture without pictures")?;
    let read = vision.tokens() + QUESTION;
    let (sample, load) = timed(|| VisionLanguageSample::new(config, read + DECODE, precision, SEED, &device));
    let mut sample = sample?;
    let ids: Vec<u32> = (0..QUESTION).map(|i| (i * 7919 % config.text.vocabulary) as u32).collect();
    let seen = sample.see()?;
    sample.read(seen, &ids)?;
    let first_frame_ms = session.started.elapsed().as_secs_f64() * 1e3;
    let output = config.text.width * config.text.vocabulary;
    let mut stages = vec![
        Stage::new("load"),
        Stage::new("image_encode").multiplying(vision.tower.multiplications()),
        Stage::new("prefill").multiplying(read * config.text.multiplications() + output).of_tokens(read),
        Stage::new("first_token"),
        Stage::new("decode").multiplying(DECODE * (config.text.multiplications() + output)).of_tokens(DECODE),
    ];
    stages[0].took.push(load);
    let mut progress = session.out.progress("runs", Some(u64::from(args.runs)));
    for _ in 0..args.runs {
        let (seen, saw) = timed(|| sample.see());
        let seen = seen?;
        let (logits, took) = timed(|| sample.read(seen, &ids));
        let mut id = greatest(&logits?);
        stages[1].took.push(saw);
        stages[2].took.push(took);
        stages[3].took.push(Took { wall_ms: saw.wall_ms + took.wall_ms, cpu_ms: saw.cpu_ms + took.cpu_ms });
        let (written, took) = timed(|| -> Result<()> {
            for _ in 0..DECODE {
                id = greatest(&sample.next(id)?);
            }
            Ok(())
        });
        written?;
        stages[4].took.push(took);
        progress.step();
    }
    drop(progress);
    Ok((stages, first_frame_ms))
}

/// The place of the greatest.
fn greatest(logits: &[f32]) -> u32 {
    let (mut best, mut place) = (f32::NEG_INFINITY, 0);
    for (i, &logit) in logits.iter().enumerate() {
        if logit > best {
            (best, place) = (logit, i as u32);
        }
    }
    place
}

fn decoder(session: &Session, config: &DecoderConfig, precision: Precision, args: &Args) -> Result<(Vec<Stage>, f64)> {
    let device = ocelli_ops::device::select(session.device).context("--device")?;
    let (sample, load) = timed(|| DecoderSample::new(config, precision, SEED, &device));
    let mut sample = sample?;
    let token = |i: usize| (i * 7919 % config.vocabulary) as u32;
    let prompt: Vec<u32> = (0..PREFILL).map(token).collect();
    sample.read(&prompt[..PROMPT])?;
    let first_frame_ms = session.started.elapsed().as_secs_f64() * 1e3;
    let output = config.width * config.vocabulary;
    let mut stages = vec![
        Stage::new("load"),
        Stage::new("prefill").multiplying(PREFILL * config.multiplications() + output).of_tokens(PREFILL),
        Stage::new("decode").multiplying(DECODE * (config.multiplications() + output)).of_tokens(DECODE),
    ];
    stages[0].took.push(load);
    let mut progress = session.out.progress("runs", Some(u64::from(args.runs)));
    for _ in 0..args.runs {
        sample.truncate(0);
        let (logits, took) = timed(|| sample.read(&prompt));
        logits?;
        stages[1].took.push(took);
        sample.truncate(PROMPT);
        let (written, took) = timed(|| -> Result<()> {
            let mut id = token(PROMPT);
            for _ in 0..DECODE {
                let logits = sample.read(&[id])?;
                id = greatest(&logits);
            }
            Ok(())
        });
        written?;
        stages[2].took.push(took);
        progress.step();
    }
    drop(progress);
    Ok((stages, first_frame_ms))
}
