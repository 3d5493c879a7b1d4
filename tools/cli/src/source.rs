//! What a model looks at: picture files, or what `ocelli preprocess` made of them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ocelli_flow::{Encoded, Frame, Inputs, Model, ModelError};
use ocelli_linux::memory::give_back_free;
use ocelli_pipeline::picture;

use crate::pixels;

/// As typed, for commands that look at pictures.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Pictures {
    /// Picture to look at; may be repeated, and take several
    #[arg(long, value_name = "P", num_args = 1..)]
    image: Vec<PathBuf>,
    /// In place of a picture, a file that `preprocess` wrote
    #[arg(long, value_name = "F", num_args = 1..)]
    pixels: Vec<PathBuf>,
}

impl Pictures {
    /// Pictures first.
    pub fn sources(&self) -> Vec<Source> {
        let images = self.image.iter().cloned().map(Source::Image);
        images.chain(self.pixels.iter().cloned().map(Source::Pixels)).collect()
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A picture file.
    Image(PathBuf),
    /// A file of tensors.
    Pixels(PathBuf),
}

impl Source {
    /// Its file.
    pub fn path(&self) -> &Path {
        let (Self::Image(path) | Self::Pixels(path)) = self;
        path
    }

    /// Reads it.
    pub fn read(&self) -> Result<Looked> {
        Ok(match self {
            Self::Image(path) => Looked::Frame(picture::decode(path)?),
            Self::Pixels(path) => Looked::Inputs(pixels::read(path)?),
        })
    }
}

/// How a picture is cut, with a model that reads tiles.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Tiling {
    /// Tiles that a picture is cut into beside its whole, at most; 1: none, the fastest; default: the model's own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    tiles: Option<u16>,
}

impl Tiling {
    /// What the model's image tower makes of a picture. What it took of memory is free again for the text that is written next.
    pub fn encode(&self, looked: &Looked, model: &dyn Model) -> Result<Encoded, ModelError> {
        let encoded = match (self.tiles, looked) {
            (Some(tiles), Looked::Frame(frame)) => model.encode_in_tiles(frame, tiles.into()),
            // What is made ready already is cut already.
            _ => looked.encode(model),
        };
        give_back_free();
        encoded
    }

    /// The tensors of a picture.
    pub fn preprocess(&self, frame: &Frame, model: &dyn Model) -> Result<Inputs, ModelError> {
        match self.tiles {
            Some(tiles) => model.preprocess_in_tiles(frame, tiles.into()),
            None => model.preprocess(frame),
        }
    }
}

/// What was read.
pub enum Looked {
    /// A picture.
    Frame(Frame),
    /// A picture made ready.
    Inputs(Inputs),
}

impl Looked {
    /// Width of the source picture in pixels.
    pub fn width(&self) -> u32 {
        match self {
            Self::Frame(frame) => frame.width(),
            Self::Inputs(inputs) => inputs.width,
        }
    }

    /// Height of the source picture in pixels.
    pub fn height(&self) -> u32 {
        match self {
            Self::Frame(frame) => frame.height(),
            Self::Inputs(inputs) => inputs.height,
        }
    }

    /// What the model's image tower makes of it.
    pub fn encode(&self, model: &dyn Model) -> Result<Encoded, ModelError> {
        match self {
            Self::Frame(frame) => model.encode(frame),
            Self::Inputs(inputs) => model.encode_inputs(inputs.clone()),
        }
    }

    /// The picture, if there is one to draw on.
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Frame(frame) => Some(frame),
            Self::Inputs(_) => None,
        }
    }
}
