//! Pictures named one by one: a bad one is reported, the others are still looked at.

use std::path::Path;

use anyhow::Result;
use ocelli_flow::{Frame, ModelError};
use ocelli_pipeline::picture;

use crate::failure::{Outcome, sentence};
use crate::output::Output;
use crate::source::{Looked, Source};

/// Something about one picture failed: the picture or the model on it, to be reported; or our own output, which ends the command.
pub enum ImageError {
    /// Say it and go on.
    Picture(anyhow::Error),
    /// Stop.
    Fatal(anyhow::Error),
}

impl From<ModelError> for ImageError {
    fn from(error: ModelError) -> Self {
        match error {
            // An option that one picture's model refuses, every other's will.
            ModelError::Option { .. } | ModelError::Unsupported { .. } => Self::Fatal(error.into()),
            _ => Self::Picture(error.into()),
        }
    }
}

/// Counts bad pictures and says how many there were.
pub struct Images<'a> {
    out: &'a Output,
    seen: usize,
    bad: usize,
}

impl<'a> Images<'a> {
    /// None seen yet.
    pub fn new(out: &'a Output) -> Self {
        Self { out, seen: 0, bad: 0 }
    }

    /// Decodes one picture and hands it to `look`. What fails is reported here; only an error of our own output comes back.
    pub fn look<T>(&mut self, path: &Path, look: impl FnOnce(&str, &Frame) -> Result<T, ImageError>) -> Result<Option<T>> {
        self.look_at(&path.to_string_lossy(), || Ok(picture::decode(path)?), look)
    }

    /// The same for a picture that comes from somewhere else than a file of its own.
    pub fn look_at<S, T>(
        &mut self,
        name: &str,
        read: impl FnOnce() -> Result<S>,
        look: impl FnOnce(&str, &S) -> Result<T, ImageError>,
    ) -> Result<Option<T>> {
        self.seen += 1;
        match read().map_err(ImageError::Picture).and_then(|frame| look(name, &frame)) {
            Ok(value) => Ok(Some(value)),
            Err(ImageError::Fatal(error)) => Err(error),
            Err(ImageError::Picture(error)) => {
                self.bad += 1;
                let said = sentence(&error);
                let message = if said.contains(name) { said } else { format!("{name}: {said}") };
                self.out.problem(name, &message)?;
                Ok(None)
            }
        }
    }

    /// Exit code 2 if any was bad; of several, how many.
    pub fn outcome(&self) -> Outcome {
        if self.bad == 0 {
            return Outcome::Done;
        }
        if self.seen > 1 {
            self.out.note(format!("{} of {} pictures failed", self.bad, self.seen));
        }
        Outcome::BadInput
    }
}

/// Looks at every picture in order, with a progress bar.
pub fn each(out: &Output, sources: &[Source], mut look: impl FnMut(&str, &Looked) -> Result<(), ImageError>) -> Result<Outcome> {
    let mut images = Images::new(out);
    let mut progress = out.progress("pictures", Some(sources.len() as u64));
    for source in sources {
        images.look_at(&source.path().to_string_lossy(), || source.read(), &mut look)?;
        progress.step();
    }
    drop(progress);
    Ok(images.outcome())
}
