//! Trains the captioner.
//!
//! An epoch mixes two kinds of batches. Picture batches carry the cached feature maps of 32 pictures, their image vectors if there are any,
//! and five captions each. Text batches carry captions without pictures, and the *text* vectors of those captions in the image vectors' place:
//! from them the decoder learns words for what no training picture shows (CapDec, Nukrai et al. 2022, <https://arxiv.org/abs/2211.00575>).
//! Vectors and pictures are left out at random, so that the decoder can do without either.
//!
//! | module | what |
//! |---|---|
//! | `groups` | captions that belong together, and batches of them |
//! | `vectors` | points of the joint space: of texts, of pictures, and the support they are projected onto |
//! | `loss` | cross-entropy with label smoothing, its gradient written out |
//! | `dev` | captions of dev pictures, and what they score |

mod dev;
mod groups;
mod loss;
mod vectors;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::module::{Module, Param};
use burn::optim::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use ocelli_models::nano::caption::{Captioner, CaptionerConfig, Specials};
use ocelli_models::nano::config::CaptionSearch;
use ocelli_models::text::Tokenizer;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::checkpoint::{Checkpoint, Resumed, load};
use crate::features::{FeatureCache, Map};
use crate::mean::mean;
use crate::progress::{Running, bar};
use crate::schedule::Cosine;
use dev::{Input, Judge};
use groups::{Batch, Groups};
use vectors::{PictureVectors, TextVectors};

/// Train the caption decoder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of data sets: flickr8k/, coco/, coco_captions_text.jsonl, flickr30k_captions.jsonl.
    #[arg(long)]
    data: PathBuf,
    /// Folder of the training: reads cache/ and tokenizer.json.
    #[arg(long)]
    work: PathBuf,
    /// Folder of this part: weights and checkpoints.
    #[arg(long)]
    out: PathBuf,
    /// Begin with these weights (a weights.bpk) instead of random ones; given more than once, with the mean of them.
    #[arg(long)]
    init: Vec<PathBuf>,
    /// Dimension of the vectors that --init was trained on, where it was smaller.
    #[arg(long)]
    init_dim: Option<usize>,
    /// Vectors of texts and pictures: weights of the joint space, as `embed` leaves them.
    #[arg(long, required_unless_present = "teacher")]
    joint: Option<PathBuf>,
    /// Vectors of texts without a trained joint space: a folder with texts.jsonl and vectors.safetensors, as teacher.py writes them.
    #[arg(long, conflicts_with = "joint")]
    teacher: Option<PathBuf>,
    /// Vectors of pictures to go with --teacher: a safetensors file with `vectors [rows of the cache, dim]`, f16 or f32.
    #[arg(long, conflicts_with = "joint")]
    pictures: Option<PathBuf>,
    /// Passes over the pictures. With 0 the weights that it begins with are measured and written.
    #[arg(long, default_value_t = 9)]
    epochs: usize,
    /// Pictures a step, five captions each.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Text batches for each picture batch.
    #[arg(long, default_value_t = 0.5)]
    text: f64,
    /// Highest learning rate.
    #[arg(long, default_value_t = 7e-4)]
    rate: f64,
    /// Temperature of the projection onto the support.
    #[arg(long, default_value_t = 0.05)]
    temperature: f32,
    /// Dropout on residual branches and features.
    #[arg(long, default_value_t = 0.15)]
    dropout: f64,
    /// Train on every other captioned COCO picture too; the rest is for measuring.
    #[arg(long)]
    coco: bool,
    /// Only measure the weights of --init or of --out.
    #[arg(long)]
    only_dev: bool,
    /// Stop after so many steps, to measure the time of one.
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the order and of the first weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Averages are taken every fourth step: .996 is what .999 a step would be.
const EMA_DECAY: f64 = 0.996;
const EMA_EVERY: usize = 4;
const LABEL_SMOOTHING: f32 = 0.1;
const WEIGHT_DECAY: f32 = 0.05;
const WARMUP: usize = 150;
/// How often a picture batch goes without its vectors, and without its feature maps.
const NO_VECTORS: f64 = 0.1;
const NO_MAPS: f64 = 0.25;
/// Dev pictures that are captioned after every epoch.
const DEV_PICTURES: usize = 200;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let path = args.work.join("tokenizer.json");
    let json = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let tokenizer = Tokenizer::from_json(&json)?;
    let cache = FeatureCache::open(&args.work.join("cache"))?;
    let (texts, pictures) = match (&args.joint, &args.teacher) {
        (Some(weights), _) => {
            let (joint, config) = vectors::joint_space(weights, &tokenizer)?;
            (TextVectors::of_tower(joint.text, config), Some(PictureVectors::of_head(&joint.image, &cache)?))
        }
        (None, Some(folder)) => {
            let pictures = args.pictures.as_ref().map(|path| PictureVectors::open(path, cache.len())).transpose()?;
            (TextVectors::of_teacher(folder)?, pictures)
        }
        (None, None) => anyhow::bail!("give --joint or --teacher"),
    };
    let config = CaptionerConfig {
        vocabulary: tokenizer.vocabulary(),
        joint: texts.dim(),
        temperature: args.temperature,
        dropout: args.dropout,
        ..CaptionerConfig::default()
    };
    let groups = Groups::read(&args.data, &cache, &tokenizer, texts, args.coco, config.max_tokens - 1)?;
    let judge = Judge::read(&args.data, &cache, &tokenizer, args.coco)?;

    let device = Device::flex().autodiff();
    device.seed(args.seed);
    let narrow = CaptionerConfig { joint: args.init_dim.unwrap_or(config.joint), ..config.clone() };
    let begun = args.init.iter().map(|path| load(Captioner::init(&narrow, &device), path)).collect::<Result<Vec<_>>>()?;
    let module = match mean(begun) {
        Some(begun) => widened(begun, config.joint)?,
        None => Captioner::init(&config, &device),
    };
    let checkpoint = Checkpoint::new(&args.out)?;
    let clipping = GradientClippingConfig::Norm(1.0);
    let optimizer = AdamWConfig::new().with_weight_decay(WEIGHT_DECAY).with_epsilon(1e-8).with_grad_clipping(Some(clipping)).init();
    let fresh = !args.init.is_empty() && !checkpoint.file("state.json").exists();
    ensure!(
        args.epochs > 0 || fresh || args.only_dev,
        "--epochs 0 writes the weights of --init: give some, and an --out without a training in it"
    );
    let Resumed { mut module, mut ema, mut optimizer, mut state } = checkpoint.resume(module, EMA_DECAY, optimizer)?;
    let support = vectors::support(&groups.text_vectors()?, config.support, args.seed);
    let support = Tensor::from_data(support, &Device::flex());
    module = module.with_support(Tensor::from_inner(support.clone()));

    let specials = Specials { pad: tokenizer.pad, start: tokenizer.start, end: tokenizer.end };
    let steps_an_epoch = groups.steps(args.batch, args.text);
    let rate = Cosine { peak: args.rate, floor: args.rate * 0.01, warmup: WARMUP, steps: args.epochs * steps_an_epoch };
    let progress = bar(rate.steps as u64, state.step as u64, "caption");
    let (mut loss_mean, mut text_mean) = (Running::default(), Running::default());
    while state.epoch < args.epochs && !args.only_dev {
        let mut rng = SmallRng::seed_from_u64(args.seed + state.epoch as u64);
        let begun = std::time::Instant::now();
        for batch in groups.epoch(args.batch, args.text, &mut rng) {
            let memory = memory(&module, &batch, &groups, &cache, pictures.as_ref(), &mut rng, &device)?;
            let (loss, surrogate) = loss::loss(&module, memory, &batch.sentences, specials, LABEL_SMOOTHING, &device)?;
            if batch.pictures {
                loss_mean.push(loss)
            } else {
                text_mean.push(loss)
            }
            let gradients = GradientsParams::from_grads(surrogate.backward(), &module);
            module = optimizer.step(rate.at(state.step), module, gradients);
            state.step += 1;
            if state.step.is_multiple_of(EMA_EVERY) {
                ema.update(&module);
            }
            let message =
                format!("loss {:.3} text {:.3} rate {:.1e} dev {:.3}", loss_mean.mean(), text_mean.mean(), rate.at(state.step), state.best);
            progress.set_message(message);
            progress.inc(1);
            if args.steps.is_some_and(|steps| state.step >= steps) {
                progress.finish();
                println!("{:.3} s a step", begun.elapsed().as_secs_f64() / state.step as f64);
                return Ok(());
            }
        }
        state.epoch += 1;
        let averaged = ema.module(&module).with_support(support.clone());
        let greedy = CaptionSearch { beams: 1, ..CaptionSearch::default() };
        let found = judge.flickr8k(&averaged, &cache, pictures.as_ref(), Input::Both, specials, &greedy, DEV_PICTURES)?;
        state.best = found.cider_d;
        checkpoint.save(&module, &ema, &optimizer, &state)?;
        checkpoint.log(&serde_json::json!({
            "epoch": state.epoch, "step": state.step, "loss": loss_mean.mean(), "text_loss": text_mean.mean(),
            "dev_200_greedy": found, "seconds": begun.elapsed().as_secs(),
        }))?;
        progress.println(format!("epoch {} loss {:.3} dev {found:?}", state.epoch, loss_mean.mean()));
    }
    progress.finish();
    let averaged = ema.module(&module).with_support(support);
    if args.epochs == 0 && !args.only_dev {
        averaged.clone().into_record().save(checkpoint.weights())?;
    }
    judge.report(&averaged, &cache, pictures.as_ref(), groups.texts(), specials, &checkpoint)
}

/// The captioner for vectors of more dimensions: it does not look at the new ones yet.
fn widened(mut module: Captioner, dim: usize) -> Result<Captioner> {
    let [narrow, width] = module.vector.weight.dims();
    ensure!(narrow <= dim, "the weights of --init are for vectors of {narrow} dimensions, these have {dim}");
    if narrow == dim {
        return Ok(module);
    }
    let weight = module.vector.weight.val().inner();
    let rest = Tensor::zeros([dim - narrow, width], &weight.device());
    // Through data: a parameter must not remember what it was made of.
    let wide = Tensor::cat(vec![weight, rest], 0).into_data();
    module.vector.weight = Param::from_data(wide, &module.vector.weight.device());
    Ok(module)
}

/// Memory tokens of a batch, a row a group.
fn memory(
    module: &Captioner,
    batch: &Batch,
    groups: &Groups,
    cache: &FeatureCache,
    pictures: Option<&PictureVectors>,
    rng: &mut SmallRng,
    device: &Device,
) -> Result<Tensor<3>> {
    if !batch.pictures {
        return Ok(module.vector_tokens(groups.mean_vectors(&batch.groups, rng, device)?));
    }
    let draw: f64 = rng.random();
    let mut tokens = Vec::new();
    if pictures.is_none() || draw >= NO_MAPS {
        let rows = groups.rows(&batch.groups, cache, rng);
        tokens.push(module.picture_tokens(cache.map(Map::Head, &rows, device)?, cache.map(Map::Stride16, &rows, device)?));
    }
    if let Some(pictures) = pictures.filter(|_| !(NO_MAPS..NO_MAPS + NO_VECTORS).contains(&draw)) {
        let rows: Vec<usize> = groups.cache_rows(&batch.groups);
        tokens.push(module.vector_tokens(pictures.rows(&rows, device)));
    }
    ensure!(!tokens.is_empty(), "a batch without any memory");
    Ok(Tensor::cat(tokens, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_widened_captioner_says_the_same_and_still_learns() {
        let device = Device::flex().autodiff();
        let config =
            CaptionerConfig { width: 8, hidden: 8, layers: 1, heads: 2, vocabulary: 9, joint: 6, support: 3, ..Default::default() };
        let narrow = Captioner::init(&config, &device);
        let before: Vec<f32> = narrow.vector.weight.val().into_data().iter::<f32>().collect();
        let wide = widened(narrow, 10).unwrap();
        let after = wide.vector.weight.val();
        assert_eq!(after.dims()[0], 10);
        let values: Vec<f32> = after.clone().into_data().iter::<f32>().collect();
        assert_eq!(&values[..before.len()], before);
        assert!(values[before.len()..].iter().all(|&x| x == 0.0));
        let mut gradients = after.clone().powi_scalar(2).sum().backward();
        assert!(after.grad_remove(&mut gradients).is_some());
        assert!(widened(wide, 6).is_err());
    }
}
