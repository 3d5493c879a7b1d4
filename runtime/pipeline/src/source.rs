//! Pictures on disk as a stream.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use ocelli_flow::{Frame, FrameMeta, FrameSource, Next, SourceError};

use crate::clock::{Clock, Monotonic};
use crate::picture;

/// The endings that count as pictures in a folder, in any case.
pub const EXTENSIONS: &[&str] = &["jpg", "jpeg", "png", "gif", "webp", "bmp"];
const EXTENSIONS_SHOWN: &str = ".jpg .jpeg .png .gif .webp .bmp";

/// How to go through pictures.
#[derive(Debug, Clone, Copy, Default)]
pub struct PictureOptions {
    /// Folders within the folder, too. Links to folders are not followed.
    pub recursive: bool,
    /// From the beginning again after the last one, without end.
    pub looped: bool,
}

/// A picture, the pictures of a folder, or those that a pattern (`photos/2024-*/*.jpg`) matches, in natural order.
pub struct Pictures {
    paths: Vec<PathBuf>,
    at: usize,
    looped: bool,
    /// Whether any picture of this round could be read; a loop over bad files only would never end.
    any_good: bool,
    sequence: u64,
    clock: Arc<dyn Clock>,
}

impl Pictures {
    /// Lists the pictures of `place`; they are read one by one as they are asked for.
    pub fn open(place: &Path, options: PictureOptions) -> Result<Self, SourceError> {
        Self::open_with_clock(place, options, Arc::new(Monotonic))
    }

    /// Lists the pictures of several places, one place after another.
    pub fn open_all<'a>(places: impl IntoIterator<Item = &'a Path>, options: PictureOptions) -> Result<Self, SourceError> {
        let mut paths = Vec::new();
        for place in places {
            paths.extend(list(place, options.recursive)?);
        }
        Ok(Self { paths, at: 0, looped: options.looped, any_good: false, sequence: 0, clock: Arc::new(Monotonic) })
    }

    /// As [`Pictures::open`], with times of reading from `clock`.
    pub fn open_with_clock(place: &Path, options: PictureOptions, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let paths = list(place, options.recursive)?;
        Ok(Self { paths, at: 0, looped: options.looped, any_good: false, sequence: 0, clock })
    }

    /// The pictures' paths, in the order in which they come.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl FrameSource for Pictures {
    fn live(&self) -> bool {
        false
    }

    fn len_hint(&self) -> Option<u64> {
        (!self.looped).then_some(self.paths.len() as u64)
    }

    fn next(&mut self) -> Result<Next, SourceError> {
        if self.at == self.paths.len() && self.looped && self.any_good {
            (self.at, self.any_good) = (0, false);
        }
        let Some(path) = self.paths.get(self.at) else { return Ok(Next::End) };
        self.at += 1;
        let sequence = self.sequence;
        self.sequence += 1;
        let captured_at = self.clock.now();
        let dated = |frame: Frame| {
            let meta = FrameMeta { sequence, captured_at, ..frame.meta().clone() };
            frame.with_meta(meta)
        };
        match picture::decode(path).map(dated) {
            Ok(frame) => {
                self.any_good = true;
                Ok(Next::Frame(frame))
            }
            Err(error) => Ok(Next::Bad { origin: path.to_string_lossy().into_owned(), error }),
        }
    }
}

/// The pictures of `place`: itself if it is a file, those of a folder, or those that a pattern matches. In natural order, never empty.
pub fn list(place: &Path, recursive: bool) -> Result<Vec<PathBuf>, SourceError> {
    let mut found = Vec::new();
    match fs::metadata(place) {
        Ok(metadata) if metadata.is_dir() => {
            let entries = fs::read_dir(place).map_err(|source| SourceError::Io { path: place.to_owned(), source })?;
            collect(entries, recursive, &mut found);
        }
        Ok(_) => return Ok(vec![place.to_owned()]),
        Err(error) => match place.to_str() {
            Some(pattern) if error.kind() == io::ErrorKind::NotFound && pattern.contains(['*', '?', '[']) => {
                found = matching(pattern).map_err(|reason| SourceError::Picture { path: place.to_owned(), reason })?;
            }
            _ => return Err(SourceError::Io { path: place.to_owned(), source: error }),
        },
    }
    if found.is_empty() {
        return Err(SourceError::Empty { path: place.to_owned(), extensions: EXTENSIONS_SHOWN });
    }
    found.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(found)
}

/// Adds the pictures among `entries`. A folder within that cannot be opened is added itself: reading it will report why.
fn collect(entries: fs::ReadDir, recursive: bool, found: &mut Vec<PathBuf>) {
    for entry in entries.flatten() {
        let (path, is_folder) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
        if is_folder && recursive {
            match fs::read_dir(&path) {
                Ok(entries) => collect(entries, recursive, found),
                Err(_) => found.push(path),
            }
        } else if !is_folder && named_as_picture(&path) && !path.is_dir() {
            found.push(path);
        }
    }
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let paths = glob::glob(pattern).map_err(|error| format!("not a pattern: {error}"))?;
    Ok(paths.flatten().filter(|path| named_as_picture(path) && !path.is_dir()).collect())
}

fn named_as_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Runs of digits compare as numbers, so that `frame-10` comes after `frame-9`.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (digits_a, digits_b) = (leading_digits(left), leading_digits(right));
        let ordering = if digits_a > 0 && digits_b > 0 {
            let (x, y) = (left[..digits_a].trim_start_matches('0'), right[..digits_b].trim_start_matches('0'));
            (left, right) = (&left[digits_a..], &right[digits_b..]);
            x.len().cmp(&y.len()).then(x.cmp(y))
        } else {
            let (mut chars_a, mut chars_b) = (left.chars(), right.chars());
            let (x, y) = (chars_a.next(), chars_b.next());
            if x.is_none() && y.is_none() {
                // `a01` and `a1` are the same number, but not the same file.
                return a.cmp(b);
            }
            (left, right) = (chars_a.as_str(), chars_b.as_str());
            x.cmp(&y)
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests;
