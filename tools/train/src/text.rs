//! Distils the text tower from the teacher's vectors.
//!
//! The loss is one minus the cosine to the teacher's vector, plus the divergence between the similarities within a batch as the
//! teacher and as the student see them: a search ranks texts against each other, so the distances between them matter too
//! (Passalis and Tefas 2018, <https://arxiv.org/abs/1803.10837>).

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::optim::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use ocelli_models::text::tower::pad_batch;
use ocelli_models::text::{TextTower, TextTowerConfig, Tokenizer};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::checkpoint::{Checkpoint, Resumed};
use crate::progress::{Running, bar};
use crate::schedule::Cosine;
use crate::texts::TeacherTable;

/// Distil the text tower.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with texts.jsonl and vectors.safetensors, as teacher.py writes them.
    #[arg(long)]
    teacher: PathBuf,
    /// The tokenizer.json.
    #[arg(long)]
    tokenizer: PathBuf,
    /// Folder of this part: weights and checkpoints.
    #[arg(long)]
    out: PathBuf,
    /// Passes over the texts.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Texts a step.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1.5e-3)]
    rate: f64,
    /// How often phrases and names are seen for each time a caption is.
    #[arg(long, default_value_t = 2)]
    names: usize,
    /// Seed of the order and of the first weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const EMA_DECAY: f64 = 0.999;
/// Texts kept out of training, one in so many captions.
const HELD_OUT: usize = 100;
/// Temperature of the similarities within a batch.
const TEMPERATURE: f32 = 0.05;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let table = TeacherTable::open(&args.teacher)?;
    let json = std::fs::read_to_string(&args.tokenizer).with_context(|| format!("cannot read {}", args.tokenizer.display()))?;
    let tokenizer = Tokenizer::from_json(&json)?;
    let config = TextTowerConfig { vocabulary: tokenizer.vocabulary(), ..TextTowerConfig::default() };
    ensure!(config.joint == table.dim, "the teacher's vectors have {} dimensions, the tower {}", table.dim, config.joint);
    let ids = table.texts.iter().map(|entry| Ok(tokenizer.encode(&entry.text)?)).collect::<Result<Vec<_>>>()?;

    let is_caption = |index: usize| table.texts[index].source.starts_with("caption");
    let held_out: Vec<usize> = (0..ids.len()).filter(|&i| is_caption(i) && i % HELD_OUT == 0).collect();
    let mut order: Vec<usize> = Vec::new();
    for index in (0..ids.len()).filter(|&i| !(is_caption(i) && i % HELD_OUT == 0)) {
        order.extend(std::iter::repeat_n(index, if is_caption(index) { 1 } else { args.names }));
    }

    let device = Device::flex().autodiff();
    device.seed(args.seed);
    let checkpoint = Checkpoint::new(&args.out)?;
    let optimizer =
        AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8).with_grad_clipping(Some(GradientClippingConfig::Norm(1.0))).init();
    let resumed = checkpoint.resume(TextTower::init(&config, &device), EMA_DECAY, optimizer)?;
    let Resumed { mut module, mut ema, mut optimizer, mut state } = resumed;

    let steps_an_epoch = order.len().div_ceil(args.batch);
    let steps = args.epochs * steps_an_epoch;
    let rate = Cosine { peak: args.rate, floor: args.rate * 0.01, warmup: 200, steps };
    let progress = bar(steps as u64, state.step as u64, "text");
    let mut loss_mean = Running::default();
    while state.epoch < args.epochs {
        for batch in batches(&mut order, &ids, args.batch, args.seed + state.epoch as u64) {
            let loss = loss(&module, &batch, &ids, &table, &config, tokenizer.pad, &device);
            loss_mean.push(f64::from(loss.clone().into_scalar::<f32>()));
            let gradients = GradientsParams::from_grads(loss.backward(), &module);
            module = optimizer.step(rate.at(state.step), module, gradients);
            ema.update(&module);
            state.step += 1;
            progress.set_message(format!("loss {:.4} rate {:.1e}", loss_mean.mean(), rate.at(state.step)));
            progress.inc(1);
        }
        state.epoch += 1;
        let cosine = cosine(&ema.module(&module), &held_out, &ids, &table, &config, tokenizer.pad);
        state.best = cosine;
        checkpoint.save(&module, &ema, &optimizer, &state)?;
        checkpoint.log(&serde_json::json!({"epoch": state.epoch, "loss": loss_mean.mean(), "held_out_cosine": cosine}))?;
        progress.println(format!("epoch {} loss {:.4} cosine on held-out captions {cosine:.4}", state.epoch, loss_mean.mean()));
    }
    progress.finish();
    Ok(())
}

/// The epoch's batches: texts of about the same length together, so that little is padding; both orders shuffled.
fn batches(order: &mut [usize], ids: &[Vec<u32>], size: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    order.shuffle(&mut rng);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for pool in order.chunks(size * 32) {
        let mut pool = pool.to_vec();
        pool.sort_by_key(|&index| ids[index].len());
        batches.extend(pool.chunks(size).map(<[usize]>::to_vec));
    }
    batches.shuffle(&mut rng);
    batches
}

fn teacher_batch(batch: &[usize], table: &TeacherTable, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = batch.iter().flat_map(|&i| table.vector(i)).map(|&x: &f16| x.to_f32()).collect();
    Tensor::from_data(TensorData::new(values, [batch.len(), table.dim]), device)
}

fn normalise(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).add_scalar(1e-12).sqrt();
    x / norm
}

fn student_batch(module: &TextTower, batch: &[usize], ids: &[Vec<u32>], config: &TextTowerConfig, pad: u32, device: &Device) -> Tensor<2> {
    let texts: Vec<Vec<u32>> = batch.iter().map(|&i| ids[i].clone()).collect();
    let (ids, lengths) = pad_batch(&texts, pad, config.max_tokens, device);
    normalise(module.forward(ids, &lengths))
}

fn loss(
    module: &TextTower,
    batch: &[usize],
    ids: &[Vec<u32>],
    table: &TeacherTable,
    config: &TextTowerConfig,
    pad: u32,
    device: &Device,
) -> Tensor<1> {
    let student = student_batch(module, batch, ids, config, pad, device);
    let teacher = teacher_batch(batch, table, device);
    let cosine = (student.clone() * teacher.clone()).sum_dim(1).mean();
    let similarities = |x: &Tensor<2>, y: &Tensor<2>| x.clone().matmul(y.clone().transpose()).div_scalar(TEMPERATURE);
    let wanted = softmax(similarities(&teacher, &teacher), 1);
    let seen = log_softmax(similarities(&student, &teacher), 1);
    let relation = (wanted * seen).sum_dim(1).mean().neg();
    cosine.neg().add_scalar(1.0) * 2.0 + relation * 0.2
}

fn cosine(module: &TextTower, held_out: &[usize], ids: &[Vec<u32>], table: &TeacherTable, config: &TextTowerConfig, pad: u32) -> f64 {
    let device = module.devices().into_iter().next().unwrap_or_default();
    let sum: f64 = held_out
        .chunks(256)
        .map(|batch| {
            let student = student_batch(module, batch, ids, config, pad, &device);
            f64::from((student * teacher_batch(batch, table, &device)).sum().into_scalar::<f32>())
        })
        .sum();
    sum / held_out.len() as f64
}
