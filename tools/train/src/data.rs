//! Pictures of a data set, from a folder or straight from a tar file.
//!
//! A data set is a folder with `images/` or `images.tar` in it, and JSON-lines files that name pictures as `images/NAME`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a data set cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder that holds no data set.
    #[error("{} has neither images/ nor images.tar with JPEG or PNG pictures in it", .0.display())]
    NoPictures(PathBuf),
}

/// The pictures of a data set in the order of their names.
#[derive(Debug)]
pub struct Pictures {
    names: Vec<String>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    /// Offset and length of each picture, in bytes.
    Tar { path: PathBuf, file: File, ranges: Vec<(u64, u64)> },
}

impl Pictures {
    /// The pictures of the data set in `folder`; `images/` is preferred to `images.tar`.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let images = folder.join("images");
        let pictures = if images.is_dir() { Self::in_folder(folder, &images)? } else { Self::in_tar(&folder.join("images.tar"))? };
        if pictures.names.is_empty() { Err(DataError::NoPictures(folder.to_owned())) } else { Ok(pictures) }
    }

    /// Whether `folder` holds a data set.
    pub fn are_in(folder: &Path) -> bool {
        folder.join("images").is_dir() || folder.join("images.tar").is_file()
    }

    /// Names as the data set's other files have them: `images/NAME`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The picture file at `index` as it is, not decoded. `index` must be below the number of names.
    pub fn read(&self, index: usize) -> Result<Vec<u8>, DataError> {
        match &self.place {
            Place::Folder(folder) => {
                let path = folder.join(&self.names[index]);
                fs::read(&path).map_err(|source| DataError::Read { path, source })
            }
            Place::Tar { path, file, ranges } => {
                let (start, length) = ranges[index];
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, start).map_err(failed(path))?;
                Ok(bytes)
            }
        }
    }

    fn in_folder(folder: &Path, images: &Path) -> Result<Self, DataError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(images).map_err(failed(images))? {
            let name = entry.map_err(failed(images))?.file_name();
            let name = format!("images/{}", name.to_string_lossy());
            if is_picture(&name) {
                names.push(name);
            }
        }
        names.sort();
        Ok(Self { names, place: Place::Folder(folder.to_owned()) })
    }

    fn in_tar(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(failed(path))?;
        let file_bytes = file.metadata().map_err(failed(path))?.len();
        let mut pictures = Vec::new();
        for entry in tar::Archive::new(&file).entries_with_seek().map_err(failed(path))? {
            let entry = entry.map_err(failed(path))?;
            let name = entry.path().map_err(failed(path))?.to_string_lossy().into_owned();
            let (start, length) = (entry.raw_file_position(), entry.size());
            if is_picture(&name) && start.checked_add(length).is_some_and(|end| end <= file_bytes) {
                pictures.push((name, (start, length)));
            }
        }
        pictures.sort();
        let (names, ranges) = pictures.into_iter().unzip();
        Ok(Self { names, place: Place::Tar { path: path.to_owned(), file, ranges } })
    }
}

fn is_picture(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    matches!(extension.as_str(), "jpg" | "jpeg" | "png")
}

fn failed(path: &Path) -> impl Fn(io::Error) -> DataError {
    move |source| DataError::Read { path: path.to_owned(), source }
}
