//! Trains the image head, and the text tower with it, so that pictures and their captions meet in the joint space.
//!
//! Six losses: captions find their pictures and pictures their captions among a batch (InfoNCE, Radford et al. 2021,
//! <https://arxiv.org/abs/2103.00020>); ImageNet's names are ranked as the backbone ranks its classes, on pictures as they are and on
//! pictures whose features are pushed towards a random class, so that all thousand are met; Caltech's names are told apart; two
//! captions of a picture that is not there find each other; and the text tower stays near its teacher.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::module::{Module, Param};
use burn::optim::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_models::nano::embed::{ImageHeadConfig, JointSpace, normalise, whitened};
use ocelli_models::text::{TextTower, TextTowerConfig, Tokenizer};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::checkpoint::{Checkpoint, Resumed, load};
use crate::embed_data::{EmbedData, evaluate};
use crate::embed_texts::{Pairs, Teacher, Texts};
use crate::features::Map;
use crate::mean::mean;
use crate::pack::{INT4, recipe};
use crate::progress::{Running, bar};
use crate::rounded::rounded;
use crate::schedule::Cosine;

/// Train the image embedding.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the data sets flickr8k, coco and caltech.
    #[arg(long)]
    data: PathBuf,
    /// Folder of the training: reads backbone/, cache/, text/ and tokenizer.json, writes embed/.
    #[arg(long)]
    work: PathBuf,
    /// Folder with texts.jsonl and vectors.safetensors, as teacher.py writes them. Without it the text tower stays near --init.
    #[arg(long, required_unless_present = "init")]
    teacher: Option<PathBuf>,
    /// Begin with these weights (a weights.bpk, as `embed` or `unpack` leaves it) instead of the distilled text tower; given more than
    /// once, with the mean of them.
    #[arg(long)]
    init: Vec<PathBuf>,
    /// What the dimensions beyond the teacher's are multiplied with in the weights of --init.
    #[arg(long, default_value_t = 1.0, requires = "init")]
    widen: f64,
    /// A file with a name a line for the backbone's classes, in their order.
    #[arg(long)]
    names: PathBuf,
    /// Folder of this part, where it is not `embed` in the folder of the training.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Passes over the pictures. With 0 the weights that it begins with are measured and written.
    #[arg(long, default_value_t = 24)]
    epochs: usize,
    /// Captioned pictures a step.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Captions of each picture a step.
    #[arg(long, default_value_t = 2)]
    captions: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1e-3)]
    rate: f64,
    /// Weight of the names' ranking beside the captions'.
    #[arg(long, default_value_t = 2.0)]
    name_weight: f64,
    /// Captions without pictures a step, two of each picture that nobody sees: they find each other.
    #[arg(long, default_value_t = 0)]
    pairs: usize,
    /// Share of captions' words that are left out.
    #[arg(long, default_value_t = 0.0)]
    word_dropout: f64,
    /// Compute the losses with weights as `pack` rounds them.
    #[arg(long)]
    rounded: bool,
    /// Seed of the order and of the first weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const EMA_DECAY: f64 = 0.99;
/// Ridge of the class vectors' whitening.
const WHITENING: f64 = 0.2;
/// Steps for which the names' vectors are taken as they were.
const NAMES_STAY: usize = 10;
/// Pictures with a name a step, and texts that hold the tower to its teacher.
const NAMED: usize = 48;
const TEACHER_TEXTS: usize = 64;
/// Pictures a step whose features are pushed towards a random class.
const PUSHED: usize = 64;
/// Weight of the captions without pictures.
const PAIRED_WEIGHT: f64 = 0.5;
/// Share of pictures that a crop stands for, where the cache has crops of them.
const CROPPED: f64 = 0.7;
/// Fewest different cells that a picture keeps.
const LEAST_CELLS: usize = 20;
/// Share of a picture's channels that are left out, in all its cells.
const CHANNEL_DROPOUT: f64 = 0.2;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let device = Device::flex().autodiff();
    let plain = Device::flex();
    device.seed(args.seed);
    let path = args.work.join("tokenizer.json");
    let json = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let tokenizer = Tokenizer::from_json(&json)?;
    let data = EmbedData::open(&args.data, &args.work, &args.names)?;
    let checkpoint = Checkpoint::new(args.out.clone().unwrap_or_else(|| args.work.join("embed")))?;

    let image = ImageHeadConfig::default();
    let text = TextTowerConfig { vocabulary: tokenizer.vocabulary(), joint: image.joint, dropout: 0.1, ..TextTowerConfig::default() };
    let mut joint = JointSpace::init(&text, &image, &device);
    let begun = args.init.iter().map(|init| load(joint.clone(), init)).collect::<Result<Vec<_>>>()?;
    match mean(begun) {
        Some(begun) => joint = widened(begun, image.named, args.widen),
        None => joint.text = distilled(&args.work, &text, image.named, &device)?,
    }
    let names = Texts::new(&tokenizer, &data.names)?;
    let text_tower = joint.text.valid();
    joint = with_class_vectors(joint, &text_tower, &names, &image, &device);
    let teacher = Teacher::new(args.teacher.as_deref(), &joint.text, image.named, &data, &tokenizer)?;
    let pairs = if args.pairs > 0 { Some(Pairs::open(&args.data, &tokenizer)?) } else { None };
    let as_packed = |joint: &JointSpace| {
        if args.rounded { rounded(joint, "joint", &|name, shape| recipe(name, shape, &INT4)) } else { joint.clone() }
    };

    let optimizer = AdamWConfig::new()
        .with_beta_2(0.98)
        .with_weight_decay(0.05)
        .with_epsilon(1e-8)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    if args.epochs == 0 {
        ensure!(!args.init.is_empty(), "--epochs 0 writes the weights of --init: give some");
        checkpoint.ensure_new()?;
    }
    let Resumed { module: mut joint, mut ema, mut optimizer, mut state } = checkpoint.resume(joint, EMA_DECAY, optimizer)?;

    let kinds = Texts::new(&tokenizer, &data.kinds.iter().map(|kind| format!("a photo of a {kind}")).collect::<Vec<_>>())?;
    let bare_kinds = Texts::new(&tokenizer, &data.kinds)?;
    let captions = Texts::new(&tokenizer, &data.captions)?;
    let steps_an_epoch = data.captioned.len() / args.batch;
    ensure!(steps_an_epoch > 0, "{} captioned pictures are less than one batch of {}", data.captioned.len(), args.batch);
    let rate = Cosine { peak: args.rate, floor: args.rate * 0.02, warmup: 30, steps: args.epochs * steps_an_epoch };
    let progress = bar(rate.steps as u64, state.step as u64, "embed");
    let mut means = [Running::default(); 6];
    // Vectors of names and kinds, taken anew every few steps: no gradient passes through them.
    let mut fixed: Vec<Tensor<2>> = Vec::new();
    let measured = |joint: JointSpace| -> Result<(JointSpace, serde_json::Value)> {
        let text = as_packed(&joint).text;
        let joint = with_class_vectors(joint, &text, &names, &image, &plain);
        let dev = evaluate(&as_packed(&joint), &data, &captions, &names, &bare_kinds)?;
        Ok((joint, dev))
    };
    if args.epochs == 0 {
        let (joint, dev) = measured(joint.valid())?;
        joint.into_record().save(checkpoint.weights())?;
        checkpoint.log(&serde_json::json!({"epoch": 0, "dev": dev}))?;
        println!("{dev}");
        return Ok(());
    }
    while state.epoch < args.epochs {
        let mut rng = SmallRng::seed_from_u64(args.seed * 1000 + state.epoch as u64);
        let mut order = data.captioned.clone();
        order.shuffle(&mut rng);
        for batch in order.chunks_exact(args.batch) {
            let used = as_packed(&joint);
            // Pictures: captioned ones first, then named ones.
            let named: Vec<_> = data.named_train.choose_multiple(&mut rng, NAMED).copied().collect();
            let mut rows: Vec<usize> = batch.iter().map(|picture| picture.row).chain(named.iter().map(|&(row, _)| row)).collect();
            rows.iter_mut().for_each(|row| *row = data.cache.view(*row, CROPPED, true, &mut rng));
            let head = data.cache.map(Map::Head, &rows, &device)?;
            let logits: Tensor<2> = data.cache.map(Map::Logits, &rows, &device)?.squeeze_dim(1);
            let (head, logits) = varied(head, logits, &data, &mut rng);
            let images = normalise(used.image.forward(fewer_channels(head.clone(), &mut rng), logits.clone()));

            let mut chosen = Vec::new();
            for picture in batch {
                let all: Vec<usize> = picture.captions.clone().collect();
                chosen.extend(all.choose_multiple(&mut rng, args.captions).copied());
            }
            ensure!(chosen.len() == batch.len() * args.captions, "a picture has fewer than {} captions", args.captions);
            let texts = normalise(captions.thinned(&chosen, args.word_dropout, &mut rng).embed(&used.text, None, &device));
            let of_captioned = images.clone().narrow(0, 0, batch.len());
            let contrast = contrast(of_captioned, texts, used.caption_scale.val(), args.captions);

            if state.step.is_multiple_of(NAMES_STAY) || fixed.is_empty() {
                let text = used.text.valid();
                joint = with_class_vectors(joint, &text, &names, &image, &device);
                fixed = [&names, &kinds, &bare_kinds]
                    .iter()
                    .map(|texts| Tensor::from_data(normalise(texts.embed(&text, None, &plain)).into_data(), &device))
                    .collect();
            }
            let ranked = rank(images.clone(), &fixed[0], used.label_scale.val(), logits.clone());
            let some = rows.len() - PUSHED..rows.len();
            let (pushed_head, pushed_logits) = push(&head.slice([some.clone()]), &logits.slice([some]), &data, &mut rng, &device);
            let pushed = normalise(used.image.forward(pushed_head, pushed_logits.clone()));
            let ranked_pushed = rank(pushed, &fixed[0], used.label_scale.val(), pushed_logits);

            let kind_vectors = fixed[rng.random_range(1..=2)].clone();
            let wanted: Vec<i32> = named.iter().map(|&(_, kind)| kind as i32).collect();
            let of_named = images.narrow(0, batch.len(), rows.len() - batch.len());
            let scores = of_named.matmul(kind_vectors.transpose()) * used.label_scale.val().exp().unsqueeze::<2>();
            let told = cross_entropy(scores, &wanted, &device);

            let near = teacher.distance(&used.text, TEACHER_TEXTS, &mut rng, &device);
            let paired = match &pairs {
                Some(pairs) => {
                    let (one, other) = pairs.choose(&used.text, args.pairs, args.word_dropout, &mut rng, &device);
                    self::contrast(one, other, used.caption_scale.val(), 1)
                }
                None => near.zeros_like(),
            };

            for (mean, loss) in means.iter_mut().zip([&contrast, &ranked, &ranked_pushed, &told, &near, &paired]) {
                mean.push(f64::from(loss.clone().into_scalar::<f32>()));
            }
            let loss = contrast + (ranked + ranked_pushed * 0.5) * args.name_weight + told * 0.5 + near * 8.0 + paired * PAIRED_WEIGHT;
            let gradients = GradientsParams::from_grads(loss.backward(), &used);
            joint = optimizer.step(rate.at(state.step), joint, gradients);
            ema.update(&joint);
            state.step += 1;
            progress.set_message(format!(
                "captions {:.3} names {:.3} pushed {:.3} kinds {:.3} teacher {:.3} pairs {:.3}",
                means[0].mean(),
                means[1].mean(),
                means[2].mean(),
                means[3].mean(),
                means[4].mean(),
                means[5].mean()
            ));
            progress.inc(1);
        }
        state.epoch += 1;
        let losses: Vec<f64> = means.iter().map(Running::mean).collect();
        let (averaged, dev) = measured(ema.module(&joint))?;
        state.best = dev["text_to_image"][0].as_f64().unwrap_or_default();
        checkpoint.save(&joint, &ema, &optimizer, &state)?;
        averaged.into_record().save(checkpoint.weights())?;
        let line = serde_json::json!({"epoch": state.epoch, "losses": losses, "dev": dev});
        checkpoint.log(&line)?;
        eprintln!("{line}");
    }
    progress.finish();
    Ok(())
}

/// With the class vectors that belong to the text tower as it is: computed, not learned, and taken anew as the tower moves.
fn with_class_vectors(mut joint: JointSpace, text: &TextTower, names: &Texts, image: &ImageHeadConfig, device: &Device) -> JointSpace {
    let vectors = names.embed(text, None, &Device::flex()).narrow(1, 0, image.named);
    let vectors: Vec<f32> = normalise(vectors).into_data().iter::<f32>().collect();
    let classes = TensorData::new(whitened(&vectors, image.named, WHITENING), joint.image.classes.dims());
    joint.image.classes = Param::initialized(joint.image.classes.id, Tensor::from_data(classes, device)).set_require_grad(false);
    joint
}

/// The distilled tower, with more dimensions behind the teacher's for what the teacher does not know.
fn distilled(work: &std::path::Path, config: &TextTowerConfig, named: usize, device: &Device) -> Result<TextTower> {
    let narrow = TextTowerConfig { joint: named, ..config.clone() };
    let mut tower = load(TextTower::init(&narrow, device), &work.join("text/weights.bpk"))?;
    let more = TextTower::init(config, device).joint;
    let keep = |old: Tensor<2>, new: Tensor<2>| Tensor::cat(vec![old, new.narrow(1, named, config.joint - named).mul_scalar(0.3)], 1);
    let weight = keep(tower.joint.weight.val(), more.weight.val());
    if let (Some(old), Some(new)) = (&tower.joint.bias, &more.bias) {
        let bias = Tensor::cat(vec![old.val(), new.val().narrow(0, named, config.joint - named).mul_scalar(0.0)], 0);
        tower.joint.bias = Some(Param::from_data(bias.into_data(), device));
    }
    tower.joint.weight = Param::from_data(weight.into_data(), device);
    Ok(tower)
}

/// With the dimensions beyond the first `named` multiplied by `factor`, in both towers.
fn widened(mut joint: JointSpace, named: usize, factor: f64) -> JointSpace {
    for last in [&mut joint.text.joint, &mut joint.image.joint] {
        let scaled = |x: Tensor<2>| {
            let [_, all] = x.dims();
            Tensor::cat(vec![x.clone().narrow(1, 0, named), x.narrow(1, named, all - named).mul_scalar(factor)], 1)
        };
        last.weight = Param::from_data(scaled(last.weight.val()).into_data(), &last.weight.val().device());
        if let Some(bias) = last.bias.take() {
            let row = scaled(bias.val().unsqueeze::<2>()).squeeze_dim::<1>(0);
            last.bias = Some(Param::from_data(row.into_data(), &bias.val().device()));
        }
    }
    joint
}

fn cross_entropy(scores: Tensor<2>, wanted: &[i32], device: &Device) -> Tensor<1> {
    let wanted = Tensor::<1, Int>::from_ints(wanted, device).unsqueeze_dim::<2>(1);
    log_softmax(scores, 1).gather(1, wanted).mean().neg()
}

/// Each picture has `each` captions, in a row. Both ways: a caption finds its picture, a picture its captions.
fn contrast(images: Tensor<2>, texts: Tensor<2>, scale: Tensor<1>, each: usize) -> Tensor<1> {
    let device = images.device();
    let [pictures, _] = images.dims();
    let scores = texts.matmul(images.transpose()) * scale.exp().unsqueeze::<2>(); // [captions, pictures]
    let wanted: Vec<i32> = (0..pictures * each).map(|caption| (caption / each) as i32).collect();
    let to_image = cross_entropy(scores.clone(), &wanted, &device);
    let log = log_softmax(scores.transpose(), 1); // [pictures, captions]
    let wanted: Vec<i32> = (0..(pictures * each) as i32).collect();
    let wanted = Tensor::<1, Int>::from_ints(wanted.as_slice(), &device).reshape([pictures, each]);
    let to_text = log.gather(1, wanted).mean().neg();
    (to_image + to_text) * 0.5
}

/// How far the names' ranking is from the backbone's: the mean divergence of the one from the other.
fn rank(images: Tensor<2>, names: &Tensor<2>, scale: Tensor<1>, logits: Tensor<2>) -> Tensor<1> {
    let scores = images.matmul(names.clone().transpose()) * scale.exp().unsqueeze::<2>();
    let wanted = softmax(logits.clone(), 1);
    let entropy = (wanted.clone() * log_softmax(logits, 1)).sum_dim(1).mean();
    entropy - (wanted * log_softmax(scores, 1)).sum_dim(1).mean()
}

/// Other views of the pictures: of each a random part of the cells, as often as there are cells, and what the backbone's classifier says of them.
///
/// Six thousand pictures are soon known by heart; parts of them are not.
fn varied(head: Tensor<3>, logits: Tensor<2>, data: &EmbedData, rng: &mut SmallRng) -> (Tensor<3>, Tensor<2>) {
    let ([batch, cells, width], device) = (head.dims(), head.device());
    let all: Vec<usize> = (0..cells).collect();
    let mut places = Vec::with_capacity(batch * cells);
    for picture in 0..batch {
        let count = rng.random_range(LEAST_CELLS.min(cells)..=cells);
        let kept: Vec<usize> = all.choose_multiple(rng, count).copied().collect();
        places.extend((0..cells).map(|i| (picture * cells + kept[if i < count { i } else { rng.random_range(0..count) }]) as i32));
    }
    let places = Tensor::<1, Int>::from_ints(places.as_slice(), &device);
    let parts = head.clone().reshape([batch * cells, width]).select(0, places).reshape([batch, cells, width]);
    let moved = (parts.clone().mean_dim(1) - head.mean_dim(1)).reshape([batch, width]);
    (parts, logits + moved.matmul(data.classifier(&device)))
}

/// Leaves out channels of each picture, and makes the others stronger for it.
fn fewer_channels(head: Tensor<3>, rng: &mut SmallRng) -> Tensor<3> {
    let [batch, _, width] = head.dims();
    let kept = 1.0 / (1.0 - CHANNEL_DROPOUT) as f32;
    let mask: Vec<f32> = (0..batch * width).map(|_| if rng.random_bool(CHANNEL_DROPOUT) { 0.0 } else { kept }).collect();
    let mask = Tensor::<3>::from_data(TensorData::new(mask, [batch, 1, width]), &head.device());
    head * mask
}

/// Features pushed along the classifier's rows until a random class wins by up to 5.
fn push(head: &Tensor<3>, logits: &Tensor<2>, data: &EmbedData, rng: &mut SmallRng, device: &Device) -> (Tensor<3>, Tensor<2>) {
    let [batch, classes] = logits.dims();
    let [_, cells, width] = head.dims();
    let values: Vec<f32> = logits.clone().into_data().iter::<f32>().collect();
    let mut pushes = vec![0.0f32; batch * width];
    for (row, push) in values.chunks_exact(classes).zip(pushes.chunks_exact_mut(width)) {
        let top = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        let class = rng.random_range(0..classes);
        let away: f32 = rng.random();
        let (to, from) = (data.classifier_row(class), data.classifier_row(top));
        let direction: Vec<f32> = to.iter().zip(from).map(|(a, b)| a - away * b).collect();
        let slope: f32 = direction.iter().zip(to.iter().zip(from)).map(|(d, (a, b))| d * (a - b)).sum();
        let gap = row[top] - row[class] + rng.random_range(0.0..5.0f32);
        if slope > 1e-3 {
            push.iter_mut().zip(&direction).for_each(|(p, d)| *p = d * gap / slope);
        }
    }
    let pushes = Tensor::<2>::from_data(TensorData::new(pushes, [batch, width]), device);
    let moved = logits.clone() + pushes.clone().matmul(data.classifier(device));
    (head.clone() + pushes.unsqueeze_dim::<3>(1).expand([batch, cells, width]), moved)
}
