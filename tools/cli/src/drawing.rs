//! `ground --annotate`: the boxes on a copy of the picture. The drawing itself is the pipeline's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use image::ExtendedColorType;
use ocelli_flow::{Detection, Frame, FrameResult, Sink};
use ocelli_pipeline::Annotate;
use ocelli_pipeline::annotate::Naming;

use crate::source::Source;

/// Endings that mean a file to write, not a folder.
const WRITTEN: [&str; 3] = ["jpg", "jpeg", "png"];

/// Draws one picture into a file, or several into a folder.
pub struct Drawing {
    annotate: Annotate,
    file: Option<PathBuf>,
}

impl Drawing {
    /// `place` is a file where it is named like a picture, which fits one picture only; else a folder.
    pub fn new(place: PathBuf, sources: &[Source]) -> Result<Self> {
        if let Some(Source::Pixels(path)) = sources.iter().find(|source| matches!(source, Source::Pixels(_))) {
            bail!("--annotate: {} holds pixels as the model reads them, no picture to draw on; name it with --image", path.display());
        }
        let file = (is_picture(&place) && !place.is_dir()).then(|| place.clone());
        let folder = match &file {
            None => place.as_path(),
            Some(file) => file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        };
        if let Some(file) = &file {
            ensure!(sources.len() == 1, "--annotate {}: several pictures need a folder, not a file", file.display());
            let known = file.canonicalize().ok();
            if known.is_some() && sources.iter().any(|source| source.path().canonicalize().ok() == known) {
                bail!("--annotate {}: this would replace the picture itself; name another file", file.display());
            }
        }
        Ok(Self { annotate: Annotate::new(folder, Naming::Origin).context("--annotate")?, file })
    }

    /// Writes the picture with its boxes.
    pub fn draw(&mut self, frame: &Frame, detections: Vec<Detection>) -> Result<()> {
        let result = FrameResult {
            meta: frame.meta().clone(),
            width: frame.width(),
            height: frame.height(),
            age_at_start: Duration::ZERO,
            age_at_end: Duration::ZERO,
            embedding: None,
            detections: Some(detections),
            caption: None,
        };
        let Some(file) = &self.file else { return Ok(self.annotate.result(frame, &result)?) };
        let canvas = self.annotate.draw(frame, &result);
        image::save_buffer(file, canvas.rgb(), canvas.width(), canvas.height(), ExtendedColorType::Rgb8)
            .with_context(|| format!("{}: cannot write the annotated picture", file.display()))
    }
}

fn is_picture(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| WRITTEN.iter().any(|known| known.eq_ignore_ascii_case(ending)))
}

#[cfg(test)]
mod tests {
    use ocelli_flow::FrameMeta;

    use super::*;

    fn image(name: &str) -> Source {
        Source::Image(name.into())
    }

    #[test]
    fn a_file_for_one_a_folder_for_several() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        let frame = Frame::new(40, 30, vec![9; 40 * 30 * 3], FrameMeta::still("a.png")).unwrap();

        let mut one = Drawing::new(inside("out.png"), &[image("a.png")]).unwrap();
        one.draw(&frame, Vec::new()).unwrap();
        assert_eq!(image::image_dimensions(inside("out.png")).unwrap(), (40, 30));

        assert!(Drawing::new(inside("out.png"), &[image("a.png"), image("b.png")]).is_err());
        let mut many = Drawing::new(inside("drawn"), &[image("a.png"), image("b.png")]).unwrap();
        many.draw(&frame, Vec::new()).unwrap();
        assert!(inside("drawn/a.jpg").exists());
    }

    #[test]
    fn the_picture_itself_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("a.png");
        std::fs::write(&picture, b"x").unwrap();
        assert!(Drawing::new(picture.clone(), &[Source::Image(picture)]).is_err());
    }
}
