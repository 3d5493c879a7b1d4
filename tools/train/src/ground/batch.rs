//! A step's pictures, phrases, and what is wanted of each.

use std::collections::{HashMap, HashSet};

use ocelli_models::nano::ground::{CELLS, cell_centre};
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::data::{GroundData, Knowledge, Picture, Sides};

/// Phrases of other pictures in a step, beside those of its own.
const OTHER_PHRASES: usize = 64;
const OTHER_LABELS: usize = 12;
const OTHER_NAMES: usize = 8;
/// A phrase that captions neither mention nor speak against counts this much as a negative.
const UNCERTAIN: f32 = 0.3;
/// A thing's other names count this much as negatives: a picture of one thing shows others, too.
const OTHER_NAME: f32 = 0.5;
/// Boxes of a phrase that are looked at.
const BOXES: usize = 6;
/// Deviation of the Gaussian around a box's centre: of the side, and in pictures.
const SPREAD: (f32, f32) = (0.18, 0.02);
/// A cell with less of the Gaussian than this need not know the box.
const LEAST: f32 = 0.1;

/// One step.
#[derive(Default)]
pub struct Batch {
    /// Rows of the pictures in the cache.
    pub rows: Vec<usize>,
    /// Phrases by number.
    pub phrases: Vec<u32>,
    /// `[pictures][phrases]`: 1 where the phrase is there.
    pub present: Vec<f32>,
    /// `[pictures][phrases]`: how much that counts.
    pub weights: Vec<f32>,
    /// Pairs with boxes: which picture of the step.
    pub pair_pictures: Vec<i32>,
    /// And which phrase of the step.
    pub pair_phrases: Vec<i32>,
    /// `[pairs][CELLS]`: a distribution over the cells.
    pub cells: Vec<f32>,
    /// Cells that know a box, as `pair * CELLS + cell`.
    pub box_cells: Vec<i32>,
    /// `[box_cells]`: a distribution over each pair's.
    pub box_weights: Vec<f32>,
    /// `[box_cells][4]`
    pub boxes: Vec<f32>,
}

/// The order of an epoch: every described picture once, labelled ones `repeat` times, and a sample of the named.
pub fn order<'a>(data: &'a GroundData, repeat: usize, named: usize, rng: &mut SmallRng) -> Vec<&'a Picture> {
    let mut order: Vec<&Picture> = data.described.iter().collect();
    order.extend(std::iter::repeat_n(&data.labelled, repeat).flatten());
    order.extend(data.named.choose_multiple(rng, named));
    order.shuffle(rng);
    order
}

impl Batch {
    /// Draws the phrases of these pictures; mirrors half of them where the cache can.
    pub fn new(pictures: &[&Picture], data: &GroundData, pool: &[u32], rng: &mut SmallRng) -> Self {
        let mirrored: Vec<bool> = pictures.iter().map(|_| data.cache.has_mirrored() && rng.random_bool(0.5)).collect();
        let mut numbers = Numbers::default();
        let mut pairs: Vec<(usize, usize, Vec<Sides>)> = Vec::new();
        for (at, (picture, &mirrored)) in pictures.iter().zip(&mirrored).enumerate() {
            for item in &picture.items {
                let Some(&phrase) = item.phrases.choose(rng) else { continue };
                let place = numbers.of(turned(data, phrase, mirrored));
                if !item.boxes.is_empty() {
                    pairs.push((at, place, item.boxes.iter().take(BOXES).map(|&sides| flipped(sides, mirrored)).collect()));
                }
            }
        }
        data.labels.choose_multiple(rng, OTHER_LABELS).for_each(|&phrase| _ = numbers.of(phrase));
        data.names.choose_multiple(rng, OTHER_NAMES).for_each(|&phrase| _ = numbers.of(phrase));
        (0..OTHER_PHRASES).filter_map(|_| pool.choose(rng)).for_each(|&phrase| _ = numbers.of(phrase));

        let phrases = numbers.list;
        let (labels, names): (HashSet<u32>, HashSet<u32>) = (data.labels.iter().copied().collect(), data.names.iter().copied().collect());
        let (mut present, mut weights) = (Vec::new(), Vec::new());
        for (picture, &mirrored) in pictures.iter().zip(&mirrored) {
            for &phrase in &phrases {
                let phrase = turned(data, phrase, mirrored);
                let there = picture.own.contains(&phrase);
                present.push(f32::from(u8::from(there)));
                weights.push(match &picture.known {
                    _ if there => 1.0,
                    Knowledge::Captions(mentioned) if data.words.absent(&data.table.heads[phrase as usize], mentioned) => 1.0,
                    Knowledge::Captions(_) => UNCERTAIN,
                    Knowledge::Labels if labels.contains(&phrase) => 1.0,
                    Knowledge::Name if names.contains(&phrase) => OTHER_NAME,
                    Knowledge::Labels | Knowledge::Name => 0.0,
                });
            }
        }
        let mut batch = Self {
            rows: pictures
                .iter()
                .zip(&mirrored)
                .map(|(picture, &m)| if m { data.cache.mirrored(picture.row) } else { picture.row })
                .collect(),
            phrases,
            present,
            weights,
            pair_pictures: pairs.iter().map(|pair| pair.0 as i32).collect(),
            pair_phrases: pairs.iter().map(|pair| pair.1 as i32).collect(),
            cells: Vec::with_capacity(pairs.len() * CELLS),
            box_cells: Vec::new(),
            box_weights: Vec::new(),
            boxes: Vec::new(),
        };
        pairs.iter().enumerate().for_each(|(pair, (_, _, boxes))| batch.want(pair, boxes));
        batch
    }

    /// What is wanted of a pair: cells near a box's centre, and that box from each of them.
    fn want(&mut self, pair: usize, boxes: &[Sides]) {
        let near: Vec<(f32, usize)> = (0..CELLS).map(|cell| nearest(cell_centre(cell), boxes)).collect();
        let sum = |least: f32| near.iter().map(|&(near, _)| near).filter(|&near| near > least).sum::<f32>().max(1e-6);
        let (all, most) = (sum(0.0), sum(LEAST));
        self.cells.extend(near.iter().map(|&(near, _)| near / all));
        for (cell, &(near, which)) in near.iter().enumerate().filter(|(_, (near, _))| *near > LEAST) {
            self.box_cells.push((pair * CELLS + cell) as i32);
            self.box_weights.push(near / most);
            self.boxes.extend(boxes[which]);
        }
    }
}

/// The largest of the boxes' Gaussians at a point, and whose it is.
fn nearest((x, y): (f32, f32), boxes: &[Sides]) -> (f32, usize) {
    let at = |[x0, y0, x1, y1]: Sides| {
        let off = |at: f32, low: f32, high: f32| (at - (low + high) / 2.0) / (SPREAD.0 * (high - low).max(0.01) + SPREAD.1);
        (-0.5 * (off(x, x0, x1).powi(2) + off(y, y0, y1).powi(2))).exp()
    };
    let best = boxes.iter().map(|&sides| at(sides)).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or((0.0, 0), |(which, near)| (near, which))
}

fn turned(data: &GroundData, phrase: u32, mirrored: bool) -> u32 {
    if mirrored { data.table.mirrored[phrase as usize] } else { phrase }
}

fn flipped([x0, y0, x1, y1]: Sides, mirrored: bool) -> Sides {
    if mirrored { [1.0 - x1, y0, 1.0 - x0, y1] } else { [x0, y0, x1, y1] }
}

/// Places of phrases in a step, in the order of their first use.
#[derive(Default)]
struct Numbers {
    list: Vec<u32>,
    places: HashMap<u32, usize>,
}

impl Numbers {
    fn of(&mut self, phrase: u32) -> usize {
        *self.places.entry(phrase).or_insert_with(|| {
            self.list.push(phrase);
            self.list.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gaussian_is_of_the_nearest_box() {
        let boxes = [[0.0, 0.0, 0.2, 0.2], [0.5, 0.5, 1.0, 1.0]];
        assert_eq!(nearest((0.1, 0.1), &boxes), (1.0, 0));
        assert_eq!(nearest((0.75, 0.75), &boxes), (1.0, 1));
        let (near, which) = nearest((0.75 + 0.5 * SPREAD.0 + SPREAD.1, 0.75), &boxes);
        assert!((near - (-0.5f32).exp()).abs() < 1e-5 && which == 1);
    }

    #[test]
    fn cells_near_a_centre_know_its_box() {
        let mut batch = Batch::default();
        let boxes = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]];
        batch.want(0, &boxes[..1]);
        batch.want(1, &boxes);
        for pair in batch.cells.chunks_exact(CELLS) {
            assert!((pair.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
        assert!((batch.box_weights.iter().sum::<f32>() - 2.0).abs() < 1e-4);
        assert_eq!((batch.boxes.len(), batch.box_weights.len()), (4 * batch.box_cells.len(), batch.box_cells.len()));
        for (&cell, sides) in batch.box_cells.iter().zip(batch.boxes.chunks_exact(4)) {
            let (x, y) = cell_centre(cell as usize % CELLS);
            let whose = usize::from(cell as usize >= CELLS && x > 0.5);
            assert_eq!(sides, boxes[whose]);
            assert!((sides[0]..sides[2]).contains(&x) && (sides[1]..sides[3]).contains(&y));
        }
    }

    #[test]
    fn mirroring_twice_is_nothing() {
        let sides = [0.1, 0.2, 0.5, 0.9];
        let twice = flipped(flipped(sides, true), true);
        assert!(twice.iter().zip(sides).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!((flipped(sides, true)[0] - 0.5).abs() < 1e-6);
    }
}
