//! Pixels to model input, and boxes back to the picture.
//!
//! | module | what |
//! |---|---|
//! | [`recipe`] | what an image processor does, read from Hugging Face's or OpenCLIP's description: [`Recipe`] |
//! | [`processor`] | a picture to a model's input, as a recipe says: [`Processor`], [`Prepared`] |
//! | [`source`] | the picture as it lies in memory, be it RGB or a camera's: [`Source`] |
//! | [`tiles`] | a picture cut into tiles: [`Tiles`] |
//! | [`geometry`] | from the model's input to pixels of the source picture: [`Geometry`] |
//! | [`filter`] | how resized pixels average the picture: [`Filter`] |
//! | [`squash`] | nano's input: the whole picture resized to a square, then normalised: [`Squash`] |
//! | [`taps`] | its weights |
//!
//! Two references, which differ by a grey level here and there, on noise by more: a [`Processor`] does what the image processors of `transformers` do by
//! default, that is torchvision's resize of 8-bit tensors (16-bit weights, as many fractional bits as fit); a [`Squash`] does what Pillow's
//! `Image.resize((side, side), BILINEAR)` does on 8-bit RGB (22 fractional bits). Both are reproduced to the bit.
//!
//! A frame's way through a processor: `plan` (sizes, and the part that is wanted) → `filter` or `blur` (weights of either `axis`) →
//! `resample`, row by row: `source` → `passes` across the row and down the columns → normalised values.
#![forbid(unsafe_code)]

mod axis;
mod blur;
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
pub mod tiles;

pub use filter::Filter;
pub use geometry::Geometry;
pub use processor::{Cut, Patches, PrepareError, Prepared, Processor};
pub use recipe::{Centre, Normalise, Recipe, RecipeError, Resize, Size};
pub use source::Source;
pub use squash::Squash;
pub use tiles::Tiles;
