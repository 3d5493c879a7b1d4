//! A picture to a model's input.

use std::ops::Range;

use ocelli_flow::Frame;

use crate::blur::{Blurring, sigmas};
use crate::filter::{Filter, Scaling};
use crate::passes::CHANNELS;
use crate::plan::{Plan, Span};
use crate::recipe::{MOST_SIDE, Normalise, Recipe, RecipeError, Resize};
use crate::resample::Resample;
use crate::source::Source;
use crate::tiles::{Steps, Tiles, steps};

/// A model's input, made from one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Planar, `[3][height][width]`, red first; for patches `[max_patches][patch * patch * 3]`, each patch row by row, its pixels red,
    /// green, blue; those that remain empty are zeros.
    pub values: Vec<f32>,
    /// Height in pixels; for patches that of the resized picture.
    pub height: u32,
    /// Width in pixels; for patches that of the resized picture.
    pub width: u32,
    /// How the patches lie, where the input is a list of them.
    pub patches: Option<Patches>,
    /// How the tiles lie, where the input is a list of them, `[tiles.count()][3][height][width]`, row by row, the whole picture last.
    pub tiles: Option<Tiles>,
}

/// Rows and columns of patches (`spatial_shapes` of SigLIP 2); they follow each other row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Rows of patches.
    pub rows: u32,
    /// Patches of a row.
    pub columns: u32,
}

impl Patches {
    /// Patches that are not empty (the ones of SigLIP 2's `pixel_attention_mask`).
    pub fn used(&self) -> usize {
        self.rows as usize * self.columns as usize
    }
}

/// A picture that the recipe cannot be applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The recipe has no crop and would make a long picture too large.
    #[error("the picture would be resized to {width} x {height} pixels; {MOST_SIDE} x {MOST_SIDE} are possible: crop it first")]
    TooLarge {
        /// Rows of the resized picture.
        height: u64,
        /// Pixels of a row.
        width: u64,
    },
    /// Tiles of a recipe that makes one input of a picture.
    #[error("this model reads pictures whole; leave out --tiles")]
    NoTiles,
    /// So many rows of the picture count for one row of the input that too much would have to be kept.
    #[error("a picture of {width} x {height} pixels is too long for this input: crop it first")]
    TooLong {
        /// Rows of the picture.
        height: u32,
        /// Pixels of a row.
        width: u32,
    },
}

/// Prepares pictures as a [`Recipe`] says.
///
/// Weights and buffers are kept from picture to picture: a stream of frames of one size computes no weights and, through
/// [`Processor::prepare_into`], allocates nothing. Only the rows and columns that the crop keeps are resized.
///
/// The reference is the torchvision backend of Hugging Face's image processors on a CPU, whose 8-bit resize this reproduces to the bit.
/// OWLv2's floating-point resize is equal but for rounding: within 0.02/255 over hundreds of pictures, 0.00001/255 on average.
#[derive(Debug, Clone)]
pub struct Processor {
    recipe: Recipe,
    levels: Box<[[f32; 256]; CHANNELS]>,
    /// What `weights` were computed for: height and width.
    source: Option<(u32, u32)>,
    plan: Option<Plan>,
    bytes: Resample<i16>,
    floats: Resample<f32>,
}

/// A picture cut into tiles that are not made ready yet: a byte a channel, where the input has four ([`Processor::cut`]).
#[derive(Debug)]
pub struct Cut<'a> {
    levels: &'a [[f32; 256]; CHANNELS],
    picture: Vec<u8>,
    width: u32,
    whole: Option<Vec<u8>>,
    side: u32,
    tiles: Tiles,
}

impl Cut<'_> {
    /// How they lie.
    pub fn tiles(&self) -> Tiles {
        self.tiles
    }

    /// Tile `i` made ready, `[3][side][side]`; they follow each other row by row, the whole picture last.
    pub fn tile(&self, i: usize) -> Vec<f32> {
        let mut tile = vec![0.0; self.len()];
        self.fill(i, &mut tile);
        tile
    }

    /// Floats of a tile.
    fn len(&self) -> usize {
        CHANNELS * (self.side as usize).pow(2)
    }

    fn fill(&self, i: usize, tile: &mut [f32]) {
        let (columns, side) = (self.tiles.columns as usize, self.side as usize);
        let (picture, width, top, left) = match &self.whole {
            _ if i + 1 < self.tiles.count() => (&self.picture, self.width as usize, i / columns * side, i % columns * side),
            Some(whole) => (whole, side, 0, 0),
            None => (&self.picture, self.width as usize, 0, 0),
        };
        for (y, row) in picture.chunks_exact(width * CHANNELS).skip(top).take(side).enumerate() {
            let row = row[left * CHANNELS..][..side * CHANNELS].as_chunks::<CHANNELS>().0;
            for (c, plane) in tile.chunks_exact_mut(side * side).enumerate() {
                let levels = &self.levels[c];
                for (value, pixel) in plane[y * side..][..side].iter_mut().zip(row) {
                    *value = levels[usize::from(pixel[c])];
                }
            }
        }
    }
}

impl Processor {
    /// A processor that follows `recipe`, if that is possible ([`Recipe::validate`]).
    pub fn new(recipe: Recipe) -> Result<Self, RecipeError> {
        recipe.validate()?;
        let levels = recipe.levels();
        Ok(Self { recipe, levels, source: None, plan: None, bytes: Resample::default(), floats: Resample::default() })
    }

    /// What it follows.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The input made from a frame.
    ///
    /// # Errors
    /// A picture that is too long for the recipe.
    pub fn prepare(&mut self, frame: &Frame) -> Result<Prepared, PrepareError> {
        self.prepare_source(&Source::frame(frame))
    }

    /// The input made from a picture wherever it lies, equal to that of its RGB copy.
    ///
    /// # Errors
    /// A picture that is too long for the recipe.
    pub fn prepare_source(&mut self, source: &Source<'_>) -> Result<Prepared, PrepareError> {
        let mut prepared = Prepared { values: Vec::new(), height: 0, width: 0, patches: None, tiles: None };
        self.prepare_into(source, &mut prepared)?;
        Ok(prepared)
    }

    /// The input of a picture that is cut into at most `most` tiles beside its whole, whatever the recipe says of cutting; 1: none.
    ///
    /// # Errors
    /// A recipe that makes no tiles, or a picture that is too long for it.
    pub fn prepare_tiles(&mut self, source: &Source<'_>, most: u32) -> Result<Prepared, PrepareError> {
        let Some(Resize::Tiles { side, longest, .. }) = self.recipe.resize else { return Err(PrepareError::NoTiles) };
        let mut prepared = Prepared { values: Vec::new(), height: side, width: side, patches: None, tiles: None };
        prepared.tiles = Some(self.tiled(source, [side, longest, most], &mut prepared.values)?);
        Ok(prepared)
    }

    /// How many tiles a picture of this size becomes; `None` where the recipe makes none.
    pub fn tiles(&self, width: u32, height: u32) -> Option<Tiles> {
        match self.recipe.resize {
            Some(Resize::Tiles { side, longest, split }) => Some(steps(height, width, side, longest, most_tiles(split)).tiles),
            _ => None,
        }
    }

    /// The same into the buffer of an earlier input, which is kept if it is large enough. After an error `prepared` is as it was, but for
    /// its values.
    ///
    /// # Errors
    /// A picture that is too long for the recipe.
    pub fn prepare_into(&mut self, source: &Source<'_>, prepared: &mut Prepared) -> Result<(), PrepareError> {
        if let Some(Resize::Tiles { side, longest, split }) = self.recipe.resize {
            prepared.tiles = Some(self.tiled(source, [side, longest, most_tiles(split)], &mut prepared.values)?);
            (prepared.height, prepared.width, prepared.patches) = (side, side, None);
            return Ok(());
        }
        let plan = self.fill(source, &mut prepared.values)?;
        prepared.patches = self.patches(&plan);
        prepared.tiles = None;
        (prepared.height, prepared.width) = (plan.rows.output, plan.columns.output);
        Ok(())
    }

    fn patches(&self, plan: &Plan) -> Option<Patches> {
        let Some(Resize::Patches { patch, .. }) = self.recipe.resize else { return None };
        Some(Patches { rows: plan.rows.output / patch, columns: plan.columns.output / patch })
    }

    fn fill(&mut self, source: &Source<'_>, values: &mut Vec<f32>) -> Result<Plan, PrepareError> {
        let plan = self.plan(source.height(), source.width())?;
        match self.recipe.resize {
            Some(Resize::PadSquare(_)) => self.padded(source, &plan, values),
            Some(Resize::Patches { patch, max_patches }) => self.patched(source, &plan, [patch, max_patches], values),
            _ => self.planar(source, &plan, values),
        }
        Ok(plan)
    }

    /// The plan for a picture of this size; its weights are set.
    fn plan(&mut self, height: u32, width: u32) -> Result<Plan, PrepareError> {
        if let Some(plan) = self.plan.filter(|_| self.source == Some((height, width))) {
            return Ok(plan);
        }
        self.plan = None;
        self.source = Some((height, width));
        let plan = Plan::new(&self.recipe, height, width)?;
        let set = if let Some(Resize::PadSquare(size)) = self.recipe.resize {
            let side = height.max(width);
            let [across, down] = sigmas(side, size.height, size.width);
            self.floats.set(|columns, rows| {
                Blurring { side, picture: width, output: size.width, sigma: across }.weights(columns);
                Blurring { side, picture: height, output: size.height, sigma: down }.weights(rows);
            })
        } else {
            let filter = self.recipe.filter;
            let scaling = |Span { source, resized, .. }: Span| Scaling { input: source, output: resized, filter };
            self.bytes.set(|columns, rows| {
                scaling(plan.columns).weights(plan.columns.start, plan.columns.count, columns);
                scaling(plan.rows).weights(plan.rows.start, plan.rows.count, rows);
            })
        };
        set.ok_or(PrepareError::TooLong { height, width })?;
        self.plan = Some(plan);
        Ok(plan)
    }

    /// Resized and cropped, `[3][height][width]`.
    fn planar(&mut self, source: &Source<'_>, plan: &Plan, values: &mut Vec<f32>) {
        let (height, width) = (plan.rows.output as usize, plan.columns.output as usize);
        let plane = height * width;
        let [reds, greens, blues] = &*self.levels;
        values.resize(CHANNELS * plane, 0.0);
        let (red, rest) = values.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        if plan.rows.count < plan.rows.output || plan.columns.count < plan.columns.output {
            red.fill(reds[0]);
            green.fill(greens[0]);
            blue.fill(blues[0]);
        }
        let (top, left, count) = (plan.rows.place as usize, plan.columns.place as usize, plan.columns.count as usize);
        self.bytes.run(source, |i, row| {
            let part = row_of(top + i, width, left, count);
            let (red, green, blue) = (&mut red[part.clone()], &mut green[part.clone()], &mut blue[part]);
            for (((pixel, r), g), b) in row.as_chunks::<CHANNELS>().0.iter().zip(red).zip(green).zip(blue) {
                *r = reds[usize::from(pixel[0])];
                *g = greens[usize::from(pixel[1])];
                *b = blues[usize::from(pixel[2])];
            }
        });
    }

    /// Blurred and interpolated, `[3][height][width]`.
    fn padded(&mut self, source: &Source<'_>, plan: &Plan, values: &mut Vec<f32>) {
        let (height, width) = (plan.rows.output as usize, plan.columns.output as usize);
        let plane = height * width;
        let factor = self.recipe.rescale.unwrap_or(1.0) as f32;
        let Normalise { mean, std } = self.recipe.normalise.unwrap_or(Normalise { mean: [0.0; 3], std: [1.0; 3] });
        // Rescaling and normalising in one.
        let [scale, offset] = [std.map(|std| factor / std), std::array::from_fn(|c| -mean[c] / std[c])];
        values.resize(CHANNELS * plane, 0.0);
        let (red, rest) = values.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        self.floats.run(source, |i, row| {
            let part = row_of(i, width, 0, width);
            let (red, green, blue) = (&mut red[part.clone()], &mut green[part.clone()], &mut blue[part]);
            for (((pixel, r), g), b) in row.as_chunks::<CHANNELS>().0.iter().zip(red).zip(green).zip(blue) {
                *r = pixel[0] * scale[0] + offset[0];
                *g = pixel[1] * scale[1] + offset[1];
                *b = pixel[2] * scale[2] + offset[2];
            }
        });
    }

    /// Resized and cut into patches, `[max_patches][patch][patch][3]`.
    fn patched(&mut self, source: &Source<'_>, plan: &Plan, [patch, max_patches]: [u32; 2], values: &mut Vec<f32>) {
        let patch = patch as usize;
        let (side, len) = (patch * CHANNELS, patch * patch * CHANNELS);
        let columns = plan.columns.output as usize / patch;
        let levels = &self.levels;
        values.clear();
        values.resize(max_patches as usize * len, 0.0);
        self.bytes.run(source, |i, row| {
            let patches = values[i / patch * columns * len..].chunks_exact_mut(len);
            for (part, values) in row.chunks_exact(side).zip(patches) {
                let values = values[i % patch * side..][..side].as_chunks_mut::<CHANNELS>().0;
                for (value, pixel) in values.iter_mut().zip(part.as_chunks::<CHANNELS>().0) {
                    *value = std::array::from_fn(|c| levels[c][usize::from(pixel[c])]);
                }
            }
        });
    }

    /// Cut into tiles, `[tiles][3][side][side]`.
    fn tiled(&mut self, source: &Source<'_>, sizes: [u32; 3], values: &mut Vec<f32>) -> Result<Tiles, PrepareError> {
        let cut = self.cut_to(source, sizes)?;
        let len = cut.len();
        values.resize(cut.tiles.count() * len, 0.0);
        values.chunks_exact_mut(len).enumerate().for_each(|(i, tile)| cut.fill(i, tile));
        Ok(cut.tiles)
    }

    /// A picture that is resized, and whose tiles are made ready one by one: at most `most` beside its whole; `None`: as the recipe says.
    ///
    /// # Errors
    /// A recipe that makes no tiles, or a picture that is too long for it.
    pub fn cut(&mut self, source: &Source<'_>, most: Option<u32>) -> Result<Cut<'_>, PrepareError> {
        let Some(Resize::Tiles { side, longest, split }) = self.recipe.resize else { return Err(PrepareError::NoTiles) };
        self.cut_to(source, [side, longest, most.unwrap_or(most_tiles(split))])
    }

    fn cut_to(&mut self, source: &Source<'_>, [side, longest, most]: [u32; 3]) -> Result<Cut<'_>, PrepareError> {
        let Steps { first, second, tiles } = steps(source.height(), source.width(), side, longest, most);
        let mut picture = self.resized(source, first)?;
        let mut size = first;
        if let Some(second) = second.filter(|&second| second != first) {
            picture = self.resized(&Source::bytes(size, &picture), second)?;
            size = second;
        }
        let whole = if size == [side, side] { None } else { Some(self.resized(&Source::bytes(size, &picture), [side, side])?) };
        // Of an uncut picture only the whole is asked for.
        let (picture, whole) = if tiles.count() == 1 { (whole.unwrap_or(picture), None) } else { (picture, whole) };
        let width = if tiles.count() == 1 { side } else { size[1] };
        Ok(Cut { levels: &self.levels, picture, width, whole, side, tiles })
    }

    /// The picture resized to height and width, RGB bytes.
    fn resized(&mut self, source: &Source<'_>, [height, width]: [u32; 2]) -> Result<Vec<u8>, PrepareError> {
        // The weights are of this step from here on.
        (self.plan, self.source) = (None, None);
        let filter = self.recipe.filter;
        let set = self.bytes.set(|columns, rows| {
            Scaling { input: source.width(), output: width, filter }.weights(0, width, columns);
            Scaling { input: source.height(), output: height, filter }.weights(0, height, rows);
        });
        set.ok_or(PrepareError::TooLong { height: source.height(), width: source.width() })?;
        let mut bytes = vec![0; height as usize * width as usize * CHANNELS];
        let row_bytes = width as usize * CHANNELS;
        self.bytes.run(source, |i, row| bytes[i * row_bytes..][..row_bytes].copy_from_slice(row));
        Ok(bytes)
    }

    /// Whether pictures of any size become inputs of one size, and which: height and width.
    pub fn input_size(&self) -> Option<(u32, u32)> {
        match (self.recipe.crop, self.recipe.resize) {
            (Some(size), _) | (None, Some(Resize::Squash(size) | Resize::PadSquare(size))) => Some((size.height, size.width)),
            _ => None,
        }
    }

    /// The filter in use; OWLv2's blur is none of them.
    pub fn filter(&self) -> Filter {
        self.recipe.filter
    }
}

/// Tiles beside the whole, at most.
fn most_tiles(split: bool) -> u32 {
    if split { u32::MAX } else { 1 }
}

/// The values `left..left + count` of row `y` in a plane of this width.
fn row_of(y: usize, width: usize, left: usize, count: usize) -> Range<usize> {
    let at = y * width + left;
    at..at + count
}
