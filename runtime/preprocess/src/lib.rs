//! Pixels to model input, and boxes back to the picture.
//!
//! | module | what |
//! |---|---|
//! | [`mod@squash`] | the whole picture resized to a square, whatever its aspect ratio, then normalised: [`Squash`], [`squash()`] |
//! | [`taps`] | which source pixels a resized pixel averages, and with which weights |
//! | [`boxes`] | from the coordinates of the model's square to pixels of the source picture: [`BoxMap`] |
//!
//! The reference is Pillow: `Image.resize((side, side), BILINEAR)` on 8-bit RGB, which this crate reproduces to the bit.
#![forbid(unsafe_code)]

mod axis;
mod blur;
pub mod boxes;
pub mod filter;
pub mod geometry;
mod passes;
mod plan;
pub mod processor;
pub mod recipe;
mod resample;
pub mod source;
pub mod squash;
pub mod taps;

pub use boxes::BoxMap;
pub use filter::Filter;
pub use geometry::Geometry;
pub use processor::{Patches, PrepareError, Prepared, Processor};
pub use recipe::{Centre, Normalise, Recipe, RecipeError, Resize, Size};
pub use source::{Range8, Source, SourceTooShort};
pub use squash::{Squash, squash};
