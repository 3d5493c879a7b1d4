//! Trains phrase grounding.
//!
//! An epoch passes over pictures with captions whose phrases have boxes, pictures with labelled boxes, and a sample of pictures of one named
//! thing. A step asks each of its pictures for the phrases of all of them and some more; which of those are absent is told by the captions'
//! words, or by labels that say everything.
//!
//! | module | what |
//! |---|---|
//! | `words` | head nouns, and which may mean the same |
//! | `data` | pictures, phrases and boxes |
//! | `vectors` | points of the joint space |
//! | `batch` | a step |
//! | `loss` | what is wanted |
//! | `dev` | what is measured, and the calibration |

mod batch;
mod data;
mod dev;
mod loss;
mod vectors;
mod words;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::module::Param;
use burn::optim::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use ocelli_models::nano::embed::normalise;
use ocelli_models::nano::ground::{GroundConfig, GroundHead};
use ocelli_models::text::Tokenizer;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::checkpoint::{Checkpoint, Resumed, load};
use crate::features::{FeatureCache, Map};
use crate::progress::{Running, bar};
use crate::schedule::Cosine;
use batch::{Batch, order};
use data::GroundData;
use loss::Loss;
use vectors::{Joint, PictureVectors, TextVectors};

/// Train phrase grounding.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the data sets: pictures with entities and boxes, and, where there are any, with labelled boxes or names.
    #[arg(long)]
    data: PathBuf,
    /// Folder of the training: reads cache/, embed/ (or text/) and tokenizer.json, writes ground/.
    #[arg(long)]
    work: PathBuf,
    /// Folder of this part, where it is not `ground` in the folder of the training.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Begin with these weights (a weights.bpk) instead of random ones.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Passes over the pictures.
    #[arg(long, default_value_t = 10)]
    epochs: usize,
    /// Pictures a step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// How often an epoch passes over pictures with labelled boxes.
    #[arg(long, default_value_t = 4)]
    labelled: usize,
    /// Pictures of one named thing an epoch.
    #[arg(long, default_value_t = 800)]
    named: usize,
    /// Length of the noise on phrases' vectors, which have length 1.
    #[arg(long, default_value_t = 0.4)]
    text_noise: f64,
    /// Length of the noise on pictures' joint vectors: the image head knows its training pictures better than it knows others.
    #[arg(long, default_value_t = 0.5)]
    joint_noise: f64,
    /// Dev pictures that are measured after every epoch but the last, which is measured on all.
    #[arg(long, default_value_t = 400)]
    dev_pictures: usize,
    /// Only measure the weights of this part's folder, and calibrate them.
    #[arg(long)]
    only_dev: bool,
    /// Stop after so many steps, to measure the time of one.
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the order and of the first weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const EMA_DECAY: f64 = 0.995;
const WEIGHT_DECAY: f32 = 0.05;
const WARMUP: usize = 100;
/// Pictures, and phrases, whose mean vectors the head begins with.
const MEAN_OF: usize = 256;
/// Thresholds whose effect is written to the log.
const THRESHOLDS: [f32; 7] = [0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let path = args.work.join("tokenizer.json");
    let json = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let tokenizer = Tokenizer::from_json(&json)?;
    let data = GroundData::open(&args.data, FeatureCache::open(&args.work.join("cache"))?)?;
    let joint = Joint::open(&args.work, &tokenizer)?;
    let texts = joint.texts(&data.table.texts, &tokenizer)?;
    let pictures = PictureVectors::new(joint);
    eprintln!(
        "{} described, {} labelled, {} named pictures, {} phrases, {} + {} dev pictures",
        data.described.len(),
        data.labelled.len(),
        data.named.len(),
        data.table.texts.len(),
        data.dev.len(),
        data.dev_labelled.len()
    );

    let device = Device::flex().autodiff();
    device.seed(args.seed);
    let checkpoint = Checkpoint::new(args.out.clone().unwrap_or_else(|| args.work.join("ground")))?;
    let mut head = GroundHead::init(&GroundConfig::default(), &device);
    let pool: Vec<u32> =
        data.described.iter().flat_map(|picture| picture.items.iter().flat_map(|item| item.phrases.iter().copied())).collect();
    let some: Vec<usize> = data.described.iter().map(|picture| picture.row).take(MEAN_OF).collect();
    head.joint_mean = Param::from_tensor(pictures.rows(&data.cache, &some, &device)?.mean_dim(0).squeeze_dim(0));
    head.text_mean = Param::from_tensor(texts.rows(pool.iter().copied().take(MEAN_OF), &device).mean_dim(0).squeeze_dim(0));
    if let Some(init) = &args.init {
        head = load(head, init)?;
    }
    if args.only_dev {
        let line = finish(
            &load(GroundHead::init(&GroundConfig::default(), &Device::flex()), &checkpoint.weights())?,
            &data,
            &texts,
            &pictures,
            &checkpoint,
        )?;
        println!("{line}");
        return Ok(());
    }

    let optimizer = AdamWConfig::new()
        .with_beta_2(0.98)
        .with_weight_decay(WEIGHT_DECAY)
        .with_epsilon(1e-8)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    let Resumed { module: mut head, mut ema, mut optimizer, mut state } = checkpoint.resume(head, EMA_DECAY, optimizer)?;
    let steps_an_epoch = (data.described.len() + args.labelled * data.labelled.len() + args.named.min(data.named.len())) / args.batch;
    ensure!(steps_an_epoch > 0, "there are fewer pictures than one batch of {}", args.batch);
    let rate = Cosine { peak: args.rate, floor: args.rate * 0.02, warmup: WARMUP, steps: args.epochs * steps_an_epoch };
    let progress = bar(rate.steps as u64, state.step as u64, "ground");
    let mut means = [Running::default(); 4];
    let started = std::time::Instant::now();
    while state.epoch < args.epochs {
        let mut rng = SmallRng::seed_from_u64(args.seed * 1000 + state.epoch as u64);
        for step in order(&data, args.labelled, args.named, &mut rng).chunks_exact(args.batch).take(steps_an_epoch) {
            let batch = Batch::new(step, &data, &pool, &mut rng);
            let [fine, middle, coarse] = [Map::Stride8, Map::Stride16, Map::Head].map(|map| data.cache.map(map, &batch.rows, &device));
            let vectors = noisy(pictures.rows(&data.cache, &batch.rows, &device)?, args.joint_noise, &mut rng);
            let grid = head.encode_maps(fine?, middle?, coarse?, vectors);
            let vectors = noisy(texts.rows(batch.phrases.iter().copied(), &device), args.text_noise, &mut rng);
            let loss = Loss::of(&head, &grid, &head.phrases(vectors), &batch, &device);
            for (mean, part) in means.iter_mut().zip([&loss.cells, &loss.giou, &loss.l1, &loss.presence]) {
                mean.push(f64::from(part.clone().into_scalar::<f32>()));
            }
            let gradients = GradientsParams::from_grads(loss.total().backward(), &head);
            head = optimizer.step(rate.at(state.step), head, gradients);
            ema.update(&head);
            state.step += 1;
            let [cells, giou, l1, presence] = means.map(|mean| mean.mean());
            let message = format!("cells {cells:.3} giou {giou:.3} l1 {l1:.3} presence {presence:.3}");
            if args.steps.is_some() || state.step.is_multiple_of(50) {
                eprintln!(
                    "step {} of {} {message}, {} phrases, {} pairs, {:.0} s",
                    state.step,
                    rate.steps,
                    batch.phrases.len(),
                    batch.pair_pictures.len(),
                    started.elapsed().as_secs_f64()
                );
            }
            progress.set_message(message);
            progress.inc(1);
            if args.steps.is_some_and(|steps| state.step >= steps) {
                return Ok(());
            }
        }
        state.epoch += 1;
        let averaged = ema.module(&head);
        let (tally, answers) = dev::answers(&averaged, &data.dev[..args.dev_pictures.min(data.dev.len())], &data, &texts, &pictures)?;
        let (labelled, labels) = dev::answers(&averaged, &data.dev_labelled, &data, &texts, &pictures)?;
        state.best = tally.accuracy();
        checkpoint.save(&head, &ema, &optimizer, &state)?;
        let losses = means.map(|mean| mean.mean());
        let line = serde_json::json!({"epoch": state.epoch, "seconds": started.elapsed().as_secs(), "losses": losses, "dev": dev::figures(&tally, &answers), "labelled": dev::figures(&labelled, &labels)});
        checkpoint.log(&line)?;
        eprintln!("{line}");
    }
    progress.finish();
    finish(&ema.module(&head), &data, &texts, &pictures, &checkpoint)?;
    Ok(())
}

/// Measures on all of dev, calibrates, and writes both.
fn finish(
    head: &GroundHead,
    data: &GroundData,
    texts: &TextVectors,
    pictures: &PictureVectors,
    checkpoint: &Checkpoint,
) -> Result<serde_json::Value> {
    let (tally, answers) = dev::answers(head, &data.dev, data, texts, pictures)?;
    let (labelled, labels) = dev::answers(head, &data.dev_labelled, data, texts, pictures)?;
    let calibration = dev::calibrate(&answers);
    std::fs::write(checkpoint.file("calibration.json"), serde_json::to_vec_pretty(&calibration)?)?;
    let told = |answers: &[dev::Answer]| THRESHOLDS.map(|threshold| dev::told(answers, &calibration, threshold));
    let line = serde_json::json!({
        "final": dev::figures(&tally, &answers),
        "labelled": dev::figures(&labelled, &labels),
        "calibration": calibration,
        "told": told(&answers),
        "told_labelled": told(&labels),
        "reliability": dev::reliability(&answers, &calibration),
    });
    checkpoint.log(&line)?;
    eprintln!("{line}");
    Ok(line)
}

/// Unit vectors with Gaussian noise of up to this length, made unit vectors again. Zero vectors stay.
fn noisy(vectors: Tensor<2>, length: f64, rng: &mut SmallRng) -> Tensor<2> {
    let [rows, dim] = vectors.dims();
    let device = vectors.device();
    let there = vectors.clone().abs().sum_dim(1).greater_elem(0.0).float();
    let deviation = length * rng.random_range(0.5..1.0) / (dim as f64).sqrt();
    let noise = Tensor::random([rows, dim], Distribution::Normal(0.0, deviation), &device);
    normalise(vectors + noise) * there
}
