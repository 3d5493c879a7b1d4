//! Texts that the embedding is trained on: tokenized, what the tower stays near, and captions without pictures.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, ensure};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ocelli_models::nano::embed::normalise;
use ocelli_models::text::tower::pad_batch;
use ocelli_models::text::{TextTower, Tokenizer};
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::data::text_captions;
use crate::embed_data::{EmbedData, tidy};
use crate::texts::TeacherTable;

/// Tokenized texts.
pub struct Texts {
    ids: Vec<Vec<u32>>,
    pad: u32,
}

impl Texts {
    /// Tokenizes.
    pub fn new(tokenizer: &Tokenizer, texts: &[String]) -> Result<Self> {
        let ids = texts.iter().map(|text| Ok(tokenizer.encode(text)?)).collect::<Result<_>>()?;
        Ok(Self { ids, pad: tokenizer.pad })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Those chosen, each without a random share of its tokens; one is left at least.
    pub fn thinned(&self, chosen: &[usize], share: f64, rng: &mut SmallRng) -> Self {
        let thin = |ids: &Vec<u32>, rng: &mut SmallRng| -> Vec<u32> {
            let kept: Vec<u32> = ids.iter().copied().filter(|_| share == 0.0 || !rng.random_bool(share)).collect();
            if kept.is_empty() { ids.clone() } else { kept }
        };
        Self { ids: chosen.iter().map(|&i| thin(&self.ids[i], rng)).collect(), pad: self.pad }
    }

    /// Embeds those chosen, or all: `[texts, joint]`, not normalised. Sorted by length and cut into pieces, so that little is padding.
    pub fn embed(&self, tower: &TextTower, chosen: Option<&[usize]>, device: &Device) -> Tensor<2> {
        let all: Vec<usize> = (0..self.ids.len()).collect();
        let chosen = chosen.unwrap_or(&all);
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|&i| self.ids[chosen[i]].len());
        let [max_tokens, _] = tower.positions.dims();
        let pieces: Vec<Tensor<2>> = order
            .chunks(128)
            .map(|piece| {
                let texts: Vec<Vec<u32>> = piece.iter().map(|&i| self.ids[chosen[i]].clone()).collect();
                let (ids, lengths) = pad_batch(&texts, self.pad, max_tokens, device);
                tower.forward(ids, &lengths)
            })
            .collect();
        let mut back = vec![0i32; order.len()];
        for (at, &i) in order.iter().enumerate() {
            back[i] = at as i32;
        }
        Tensor::cat(pieces, 0).select(0, Tensor::<1, Int>::from_ints(back.as_slice(), device))
    }
}

/// What the text tower stays near in the teacher's dimensions.
pub enum Teacher {
    /// The sentence teacher's vectors.
    Table(TeacherTable, Texts),
    /// The tower as it was before this training.
    Before(Box<TextTower>, Texts, usize),
}

impl Teacher {
    /// From the folder that teacher.py fills; without one, from `tower`, whose first `named` dimensions are the teacher's.
    pub fn new(folder: Option<&Path>, tower: &TextTower, named: usize, data: &EmbedData, tokenizer: &Tokenizer) -> Result<Self> {
        if let Some(folder) = folder {
            let table = TeacherTable::open(folder)?;
            let texts = Texts::new(tokenizer, &table.texts.iter().map(|t| t.text.clone()).collect::<Vec<_>>())?;
            return Ok(Self::Table(table, texts));
        }
        let captions = data.captioned.iter().flat_map(|picture| &data.captions[picture.captions.clone()]);
        // Names are few, but each of them matters.
        let names = std::iter::repeat_n(data.names.iter().chain(&data.kinds), 4).flatten();
        let texts = Texts::new(tokenizer, &captions.chain(names).cloned().collect::<Vec<_>>())?;
        Ok(Self::Before(Box::new(tower.valid()), texts, named))
    }

    /// One minus the cosine between the tower and what it stays near, over `count` random texts.
    pub fn distance(&self, tower: &TextTower, count: usize, rng: &mut SmallRng, device: &Device) -> Tensor<1> {
        let texts = match self {
            Self::Table(_, texts) | Self::Before(_, texts, _) => texts,
        };
        let chosen: Vec<usize> = (0..count).map(|_| rng.random_range(0..texts.len())).collect();
        let student = texts.embed(tower, Some(&chosen), device);
        let (student, wanted) = match self {
            Self::Table(table, _) => (normalise(student).narrow(1, 0, table.dim), table.vectors(&chosen, device)),
            // Within the teacher's dimensions alone: what lies in the others may grow.
            Self::Before(before, texts, named) => {
                let before = texts.embed(before, Some(&chosen), &Device::flex()).narrow(1, 0, *named);
                (normalise(student.narrow(1, 0, *named)), Tensor::from_data(normalise(before).into_data(), device))
            }
        };
        (student * wanted).sum_dim(1).mean().neg().add_scalar(1.0)
    }
}

/// Files of captions without pictures.
const TEXTS: [&str; 2] = ["coco_captions_text.jsonl", "flickr30k_captions.jsonl"];

/// Captions without pictures, those of one picture together.
pub struct Pairs {
    texts: Texts,
    groups: Vec<Range<usize>>,
}

impl Pairs {
    /// Reads the files that are there. Captions of dev and test pictures are left out.
    pub fn open(data: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let (mut all, mut groups) = (Vec::new(), Vec::new());
        for name in TEXTS {
            let zipped = data.join(format!("{name}.gz"));
            let plain = data.join(name);
            let Some(path) = [plain, zipped].into_iter().find(|path| path.exists()) else { continue };
            for captions in text_captions(&path)?.iter().filter(|captions| captions.len() > 1) {
                let start = all.len();
                all.extend(captions.iter().map(|caption| tidy(caption)));
                groups.push(start..all.len());
            }
        }
        ensure!(!groups.is_empty(), "{} has none of {TEXTS:?}: give --pairs 0", data.display());
        Ok(Self { texts: Texts::new(tokenizer, &all)?, groups })
    }

    /// Two captions each of `count` pictures: `([count, joint], [count, joint])`, L2-normalised. Words are left out as in [`Texts::thinned`].
    pub fn choose(&self, tower: &TextTower, count: usize, share: f64, rng: &mut SmallRng, device: &Device) -> (Tensor<2>, Tensor<2>) {
        let groups: Vec<&Range<usize>> = self.groups.choose_multiple(rng, count).collect();
        let two: Vec<[usize; 2]> = groups
            .iter()
            .map(|group| {
                let first = rng.random_range(0..group.len());
                let second = (first + rng.random_range(1..group.len())) % group.len();
                [group.start + first, group.start + second]
            })
            .collect();
        let chosen: Vec<usize> = two.iter().map(|two| two[0]).chain(two.iter().map(|two| two[1])).collect();
        let vectors = normalise(self.texts.thinned(&chosen, share, rng).embed(tower, None, device));
        (vectors.clone().narrow(0, 0, two.len()), vectors.narrow(0, two.len(), two.len()))
    }
}
