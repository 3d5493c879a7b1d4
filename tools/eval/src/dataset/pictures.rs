//! The pictures' files, from a folder or out of a tar.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::DataError;

/// The pictures of a data folder.
#[derive(Debug)]
pub struct Pictures {
    folder: PathBuf,
    tar: Option<Tar>,
}

/// An uncompressed tar and where each of its files lies.
#[derive(Debug)]
struct Tar {
    path: PathBuf,
    entries: HashMap<String, (u64, u64)>,
}

impl Pictures {
    /// `images/` if it is there, else `images.tar`, of which only the table of contents is read.
    pub(super) fn open(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join("images.tar");
        let tar = match (folder.join("images").is_dir(), path.is_file()) {
            (true, _) => None,
            (false, true) => Some(Tar::open(path)?),
            (false, false) => {
                let hint = "put the pictures there";
                return Err(DataError::Missing { folder: folder.to_owned(), wanted: "images folder and no images.tar".into(), hint });
            }
        };
        Ok(Self { folder: folder.to_owned(), tar })
    }

    /// The bytes of a picture as its record names it. A name that leads out of the folder is refused.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, DataError> {
        let path = self.path(file);
        let inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(DataError::Io { path, source: std::io::ErrorKind::PermissionDenied.into() });
        }
        let bytes = match &self.tar {
            None => fs::read(&path),
            Some(tar) => tar.read(file),
        };
        bytes.map_err(|source| DataError::Io { path, source })
    }

    /// All pictures (JPEG and PNG) that are there, by name, named as records name them.
    pub fn names(&self) -> Result<Vec<String>, DataError> {
        let mut names: Vec<String> = match &self.tar {
            Some(tar) => tar.entries.keys().cloned().collect(),
            None => {
                let images = self.path("images");
                let entries = fs::read_dir(&images).and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
                let entries = entries.map_err(|source| DataError::Io { path: images, source })?;
                entries.iter().map(|entry| format!("images/{}", entry.file_name().to_string_lossy())).collect()
            }
        };
        names.retain(|name| is_picture(name));
        names.sort();
        Ok(names)
    }

    /// Where a picture lies, or would lie if it were not in a tar.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}

fn is_picture(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

impl Tar {
    fn open(path: PathBuf) -> Result<Self, DataError> {
        let entries = contents(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        Ok(Self { path, entries })
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        let &(offset, length) = self.entries.get(file).ok_or(std::io::ErrorKind::NotFound)?;
        let mut tar = File::open(&self.path)?;
        tar.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        tar.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Offset and length of every file in a tar.
fn contents(path: &Path) -> std::io::Result<HashMap<String, (u64, u64)>> {
    let mut archive = tar::Archive::new(File::open(path)?);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() {
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            entries.insert(name, (entry.raw_file_position(), entry.size()));
        }
    }
    Ok(entries)
}
