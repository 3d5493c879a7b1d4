//! What `eval` measures: each measure names the pictures it wants, looks at them, and ends in a section of numbers.
//!
//! A picture is decoded and encoded once for all measures. The metrics themselves are `ocelli-eval`'s.

mod captions;
mod grounding;
mod names;
mod retrieval;

use anyhow::Result;
use ocelli_flow::{Encoded, Frame, Model};

use crate::images::ImageError;

pub use captions::Captions;
pub use grounding::{Grounding, Questions};
pub use names::Names;
pub use retrieval::Retrieval;

/// A picture that every measure may look at.
pub struct Look<'a> {
    /// Its name in the records.
    pub file: &'a str,
    /// Its pixels.
    pub frame: &'a Frame,
    /// What the model's image tower made of it.
    pub encoded: &'a Encoded,
}

/// Something to measure.
pub trait Measure {
    /// The pictures it wants, as the records name them.
    fn files(&self) -> Vec<&str>;

    /// Looks at one picture; one that it does not want is passed over.
    fn look(&mut self, model: &dyn Model, look: &Look) -> Result<(), ImageError>;

    /// The numbers, from all that was seen.
    fn finish(&mut self, model: &dyn Model) -> Result<Vec<Section>>;
}

/// Numbers under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// `captions`, `retrieval`, …
    pub name: &'static str,
    /// What and how much; shares are 0 to 1.
    pub rows: Vec<(&'static str, f64)>,
}
