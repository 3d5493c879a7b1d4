//! What the image embedding is trained and measured on.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};
use ocelli_eval::retrieval::retrieval;
use ocelli_models::nano::backbone::{Backbone, CLASSES};
use ocelli_models::nano::embed::{JointSpace, normalise};

use crate::checkpoint::load;
use crate::data::{data_sets, with_rows};
use crate::embed_texts::Texts;
use crate::features::{FeatureCache, Map};

/// A picture and which of [`EmbedData::captions`] are its.
#[derive(Debug, Clone)]
pub struct Captioned {
    /// Row in the feature cache.
    pub row: usize,
    /// Its captions.
    pub captions: Range<usize>,
}

/// Pictures, captions and names.
pub struct EmbedData {
    /// Features of all pictures.
    pub cache: FeatureCache,
    /// Names of the backbone's classes.
    pub names: Vec<String>,
    /// Names of the objects in `named_train`.
    pub kinds: Vec<String>,
    /// All captions, of training and dev.
    pub captions: Vec<String>,
    /// Training pictures with captions.
    pub captioned: Vec<Captioned>,
    /// Dev pictures with captions.
    pub dev: Vec<Captioned>,
    /// Training pictures with a name: (row, kind).
    pub named_train: Vec<(usize, usize)>,
    /// Pictures with a name that are only measured on.
    pub named_dev: Vec<(usize, usize)>,
    /// `[HEAD][CLASSES]`
    classifier: Tensor<2>,
    /// `[CLASSES][HEAD]`
    rows: Vec<f32>,
}

/// Of pictures with a name, and of COCO's with captions, one in so many is kept for measuring.
const HELD_OUT: usize = 5;

impl EmbedData {
    /// Reads the data sets flickr8k, coco and caltech of `data` with the features in `work/cache`.
    pub fn open(data: &Path, work: &Path, names: &Path) -> Result<Self> {
        let cache = FeatureCache::open(&work.join("cache"))?;
        let names: Vec<String> = std::fs::read_to_string(names)
            .with_context(|| format!("cannot read {}", names.display()))?
            .lines()
            .map(str::to_owned)
            .collect();
        ensure!(names.len() == CLASSES, "{} names for {CLASSES} classes", names.len());
        let backbone = load(Backbone::init(&Device::flex()), &work.join("backbone/weights.bpk"))?;
        let classifier = backbone.classifier.weight.val();
        let rows = classifier.clone().transpose().into_data().iter::<f32>().collect();
        let mut out = Self {
            cache,
            names,
            kinds: Vec::new(),
            captions: Vec::new(),
            captioned: Vec::new(),
            dev: Vec::new(),
            named_train: Vec::new(),
            named_dev: Vec::new(),
            classifier,
            rows,
        };
        for (name, set) in data_sets(data, &[])? {
            if out.cache.rows(&name).is_none() {
                continue;
            }
            if set.has("captions") {
                for (row, record) in with_rows(&out.cache, &name, set.captions(None)?, |r| &r.file)? {
                    let picture = out.add(row, record.captions);
                    match record.split.as_deref() {
                        Some("dev") => out.dev.push(picture),
                        _ => out.captioned.push(picture),
                    }
                }
            } else if set.has("boxes") {
                let boxed = with_rows(&out.cache, &name, set.boxes(None)?, |r| &r.file)?;
                for (at, (row, record)) in boxed.into_iter().filter(|(_, r)| r.captions.len() >= 3).enumerate() {
                    if at % HELD_OUT != 0 {
                        let picture = out.add(row, record.captions);
                        out.captioned.push(picture);
                    }
                }
            }
            if set.has("labels") {
                for (at, (row, record)) in with_rows(&out.cache, &name, set.labels()?, |r| &r.file)?.into_iter().enumerate() {
                    let kind = out.kinds.iter().position(|kind| *kind == record.label).unwrap_or_else(|| {
                        out.kinds.push(record.label.clone());
                        out.kinds.len() - 1
                    });
                    if at % HELD_OUT == 0 { out.named_dev.push((row, kind)) } else { out.named_train.push((row, kind)) }
                }
            }
        }
        ensure!(!out.captioned.is_empty() && !out.dev.is_empty(), "no pictures with captions in {}", data.display());
        Ok(out)
    }

    fn add(&mut self, row: usize, captions: Vec<String>) -> Captioned {
        let start = self.captions.len();
        self.captions.extend(captions.iter().map(|caption| tidy(caption)));
        Captioned { row, captions: start..self.captions.len() }
    }

    /// The backbone classifier's weights of a class.
    pub fn classifier_row(&self, class: usize) -> &[f32] {
        let width = self.rows.len() / CLASSES;
        &self.rows[class * width..(class + 1) * width]
    }

    /// The backbone's classifier, `[HEAD, CLASSES]`.
    pub fn classifier(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(self.classifier.clone().into_data(), device)
    }

    fn images(&self, joint: &JointSpace, rows: &[usize], device: &Device) -> Result<(Tensor<2>, Tensor<2>)> {
        let head = self.cache.map(Map::Head, rows, device)?;
        let logits: Tensor<2> = self.cache.map(Map::Logits, rows, device)?.squeeze_dim(1);
        Ok((normalise(joint.image.forward(head, logits.clone())), logits))
    }
}

/// A caption as it is written elsewhere: no space before the full stop.
pub fn tidy(caption: &str) -> String {
    caption.split_whitespace().collect::<Vec<_>>().join(" ").replace(" .", ".").replace(" ,", ",")
}

/// Retrieval on dev, how well the names' ranking keeps the backbone's, and the share of held-out objects that get their name.
pub fn evaluate(joint: &JointSpace, data: &EmbedData, captions: &Texts, names: &Texts, kinds: &Texts) -> Result<serde_json::Value> {
    let device = Device::flex();
    let mut images = Vec::new();
    let (mut same, mut within) = (0usize, 0usize);
    let name_vectors = normalise(names.embed(&joint.text, None, &device)).transpose();
    for pictures in data.dev.chunks(100) {
        let rows: Vec<usize> = pictures.iter().map(|p| p.row).collect();
        let (vectors, logits) = data.images(joint, &rows, &device)?;
        let scores: Vec<f32> = vectors.clone().matmul(name_vectors.clone()).into_data().iter::<f32>().collect();
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        for (ours, theirs) in scores.chunks_exact(CLASSES).zip(logits.chunks_exact(CLASSES)) {
            let wanted = best(theirs);
            let better = ours.iter().filter(|&&score| score > ours[wanted]).count();
            same += usize::from(better == 0);
            within += usize::from(better < 5);
        }
        images.extend(rows_of(vectors));
    }
    let chosen: Vec<usize> = data.dev.iter().flat_map(|p| p.captions.clone()).collect();
    let owner: Vec<usize> = data.dev.iter().enumerate().flat_map(|(i, p)| p.captions.clone().map(move |_| i)).collect();
    let texts = rows_of(normalise(captions.embed(&joint.text, Some(&chosen), &device)));
    let found = retrieval(&images, &texts, &owner);

    let kind_vectors = normalise(kinds.embed(&joint.text, None, &device)).transpose();
    let mut right = 0usize;
    for pictures in data.named_dev.chunks(100) {
        let rows: Vec<usize> = pictures.iter().map(|&(row, _)| row).collect();
        let scores: Vec<f32> = data.images(joint, &rows, &device)?.0.matmul(kind_vectors.clone()).into_data().iter::<f32>().collect();
        right += scores.chunks_exact(data.kinds.len()).zip(pictures).filter(|(row, picture)| best(row) == picture.1).count();
    }
    let share = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    Ok(serde_json::json!({
        "text_to_image": [found.text_to_image.at_1, found.text_to_image.at_5, found.text_to_image.at_10],
        "image_to_text": [found.image_to_text.at_1, found.image_to_text.at_5, found.image_to_text.at_10],
        "names_top1_as_backbone": share(same, data.dev.len()),
        "names_top5_has_backbones_first": share(within, data.dev.len()),
        "kinds_top1": share(right, data.named_dev.len()),
    }))
}

fn best(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0)
}

fn rows_of(x: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, width] = x.dims();
    x.into_data().iter::<f32>().collect::<Vec<_>>().chunks_exact(width).map(<[f32]>::to_vec).collect()
}
