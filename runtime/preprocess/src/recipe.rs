//! What a processor does to a picture, as a bundle keeps it.

use serde::{Deserialize, Serialize};

use crate::filter::Filter;
use crate::geometry::Geometry;
use crate::plan::Plan;
use crate::processor::PrepareError;

mod hugging_face;
mod open_clip;

/// The longest side of a model's input, of a crop or of a resized edge, in pixels.
pub const MOST_SIDE: u32 = 4096;
/// Values of a model's input, at most: a picture of [`MOST_SIDE`] squared.
pub const MOST_VALUES: usize = 3 * (MOST_SIDE as usize) * (MOST_SIDE as usize);

/// The steps from an RGB picture to a model's input, in this order: resize, crop, rescale, normalise.
///
/// An image processor of Hugging Face's `transformers` is read by [`Recipe::from_processor`], OpenCLIP's description by
/// [`Recipe::open_clip`]. A recipe may come from outside: [`Recipe::validate`] says whether it can be followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The size first of all; `None` leaves the picture as it is.
    #[serde(default)]
    pub resize: Option<Resize>,
    /// How resized pixels average the picture. [`Resize::PadSquare`] has a way of its own.
    #[serde(default)]
    pub filter: Filter,
    /// What is kept around the centre. Where the resized picture is smaller, black is put around it.
    #[serde(default)]
    pub crop: Option<Size>,
    /// Where the centre lies between two pixels.
    #[serde(default)]
    pub centre: Centre,
    /// Grey levels are multiplied by this, mostly 1/255.
    #[serde(default)]
    pub rescale: Option<f64>,
    /// After which each channel is normalised.
    #[serde(default)]
    pub normalise: Option<Normalise>,
}

/// Height and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Rows.
    pub height: u32,
    /// Pixels of a row.
    pub width: u32,
}

impl Size {
    /// `side` by `side` pixels.
    pub fn square(side: u32) -> Self {
        Self { height: side, width: side }
    }
}

/// How the size of a resized picture follows from the picture's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// The shorter edge becomes `edge`, the longer one follows, rounded down (CLIP).
    ShortestEdge {
        /// Pixels.
        edge: u32,
        /// Where the longer edge would be longer than this, it decides instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        longest: Option<u32>,
    },
    /// This size, whatever the aspect ratio (SigLIP, OWL-ViT).
    Squash(Size),
    /// Black is added to the right or at the bottom up to a square, which is blurred by a Gaussian where it shrinks, and then
    /// interpolated bilinearly, all in floating point (OWLv2).
    PadSquare(Size),
    /// As large as `max_patches` patches allow, the aspect ratio kept but for whole patches (SigLIP 2 NaFlex). The input is a list of
    /// patches.
    Patches {
        /// Side of a patch in pixels.
        patch: u32,
        /// Patches of the input, those that remain empty included.
        max_patches: u32,
    },
    /// Tiles of one size, and the whole picture as one more (Idefics3, SmolVLM).
    Tiles {
        /// Side of a tile in pixels.
        side: u32,
        /// The picture's longer edge before it is cut.
        longest: u32,
        /// Whether it is cut at all, where nobody says otherwise.
        split: bool,
    },
}

/// Where a crop begins if what is left over is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// Rounded down, as in `transformers`.
    #[default]
    Down,
    /// Rounded to even, as torchvision's `CenterCrop`, which OpenCLIP uses.
    Even,
}

/// `(value - mean) / std` for each channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue.
    pub std: [f32; 3],
}

/// A description of a processor that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// An image processor that is not known, or none at all.
    #[error("image processor {found:?} is not known; known are {known}")]
    Class {
        /// Its name, as the configuration gives it.
        found: String,
        /// The names that are read.
        known: String,
    },
    /// A field with a value that cannot be used.
    #[error("{field} is {found}: {expected}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
}

impl RecipeError {
    fn field(field: &'static str, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Field { field, found: found.to_string(), expected: expected.into() }
    }
}

impl Recipe {
    /// Where the input made from a picture of this size lies in the picture, for a recipe that can be followed.
    ///
    /// # Errors
    /// A picture that is too long for the recipe.
    pub fn geometry(&self, width: u32, height: u32) -> Result<Geometry, PrepareError> {
        Ok(Plan::new(self, height, width)?.geometry(matches!(self.resize, Some(Resize::PadSquare(_)))))
    }

    /// Whether the recipe can be followed: sides of 1 to [`MOST_SIDE`] pixels, an input of at most [`MOST_VALUES`] values, finite numbers.
    pub fn validate(&self) -> Result<(), RecipeError> {
        match self.resize {
            None => {}
            Some(Resize::ShortestEdge { edge, longest }) => {
                side("resize.edge", edge)?;
                longest.map_or(Ok(()), |longest| side("resize.longest", longest))?;
            }
            Some(Resize::Squash(size)) => sides("resize", size)?,
            Some(Resize::PadSquare(size)) => {
                sides("resize", size)?;
                if self.rescale.is_none() {
                    return Err(RecipeError::field("rescale", "missing", "a picture padded to a square is rescaled first"));
                }
            }
            Some(Resize::Tiles { side: tile, longest, .. }) => {
                side("resize.side", tile)?;
                side("resize.longest", longest)?;
                let tiles = (longest.div_ceil(tile) as usize).pow(2) + 1;
                if (tile as usize).pow(2) * 3 * tiles > MOST_VALUES {
                    let expected = format!("tiles of {tile} x {tile} pixels of such a picture would be more than {MOST_VALUES} values");
                    return Err(RecipeError::field("resize.longest", longest, expected));
                }
            }
            Some(Resize::Patches { patch, max_patches }) => {
                side("resize.patch", patch)?;
                let values = (patch as usize).pow(2) * 3;
                if max_patches == 0 || values.saturating_mul(max_patches as usize) > MOST_VALUES {
                    let expected = format!("1 to {} patches of {patch} x {patch} pixels are possible", MOST_VALUES / values);
                    return Err(RecipeError::field("resize.max_patches", max_patches, expected));
                }
            }
        }
        if let Some(size) = self.crop {
            sides("crop", size)?;
            if let Some(Resize::PadSquare(_) | Resize::Patches { .. } | Resize::Tiles { .. }) = self.resize {
                return Err(RecipeError::field("crop", format!("{} x {}", size.width, size.height), "this way to resize goes without"));
            }
        }
        if let Some(factor) = self.rescale
            && !(1e-12..=1e12).contains(&factor)
        {
            return Err(RecipeError::field("rescale", factor, "it has to be a number above 0, such as 1/255"));
        }
        if let Some(Normalise { mean, std }) = self.normalise {
            if !mean.iter().all(|mean| mean.is_finite()) {
                return Err(RecipeError::field("normalise.mean", format!("{mean:?}"), "three finite numbers are needed"));
            }
            if !std.iter().all(|std| std.is_normal()) {
                return Err(RecipeError::field("normalise.std", format!("{std:?}"), "three finite numbers other than 0 are needed"));
            }
        }
        Ok(())
    }

    /// What each grey level of each channel becomes.
    ///
    /// As `rescale_and_normalize` of `transformers` computes it, in f32: mean and standard deviation are divided by the factor, rather
    /// than the grey levels multiplied.
    pub(crate) fn levels(&self) -> Box<[[f32; 256]; 3]> {
        let mut levels = Box::new([[0.0; 256]; 3]);
        let factor = self.rescale.map_or(1.0, |factor| (1.0 / factor) as f32);
        for (c, channel) in levels.iter_mut().enumerate() {
            for (grey, level) in channel.iter_mut().enumerate() {
                let grey = grey as f32;
                *level = match self.normalise {
                    Some(Normalise { mean, std }) => (grey - mean[c] * factor) / (std[c] * factor),
                    None => grey * self.rescale.unwrap_or(1.0) as f32,
                };
            }
        }
        levels
    }
}

fn side(field: &'static str, side: u32) -> Result<(), RecipeError> {
    if (1..=MOST_SIDE).contains(&side) {
        return Ok(());
    }
    Err(RecipeError::field(field, side, format!("1 to {MOST_SIDE} pixels are possible")))
}

fn sides(field: &'static str, size: Size) -> Result<(), RecipeError> {
    side(field, size.height).and(side(field, size.width))
}
