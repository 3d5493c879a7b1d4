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

pub mod boxes;
pub mod squash;
pub mod taps;

pub use boxes::BoxMap;
pub use squash::{Squash, squash};
