//! What the parts are trained on: records of data sets beside the rows of their pictures in the feature cache, and captions without pictures.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_eval::dataset::{DataError, Dataset, read_jsonl};
use serde::Deserialize;

use crate::features::FeatureCache;

/// Why there is nothing to train on.
#[derive(Debug, thiserror::Error)]
pub enum TrainDataError {
    /// A data set cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A folder without any.
    #[error("{} holds no data set: no folder with images/ or images.tar in it", .0.display())]
    NoDataSet(PathBuf),
    /// A record of a picture that was not there when the cache was made.
    #[error("the cache has no features of {file} of {set}: run `ocelli-train cache`")]
    NotCached {
        /// The data set.
        set: String,
        /// The picture.
        file: String,
    },
}

/// The data sets in `folder` by name: those `wanted`, or all where none is named. A folder that is a data set itself is the only one.
pub fn data_sets(folder: &Path, wanted: &[String]) -> Result<Vec<(String, Dataset)>, TrainDataError> {
    let failed = |source| DataError::Io { path: folder.to_owned(), source };
    let mut folders = Vec::new();
    if has_pictures(folder) {
        folders.push(folder.canonicalize().map_err(failed)?);
    } else if wanted.is_empty() {
        for entry in fs::read_dir(folder).map_err(failed)? {
            folders.push(entry.map_err(failed)?.path());
        }
        folders.retain(|path| has_pictures(path));
        folders.sort();
    } else {
        folders.extend(wanted.iter().map(|set| folder.join(set)));
    }
    if folders.is_empty() {
        return Err(TrainDataError::NoDataSet(folder.to_owned()));
    }
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    folders.into_iter().map(|path| Ok((name(&path), Dataset::open(path)?))).collect()
}

fn has_pictures(folder: &Path) -> bool {
    folder.join("images").is_dir() || folder.join("images.tar").is_file()
}

/// Each record with its picture's row in the cache. `file` says which picture a record is about.
pub fn with_rows<T>(
    cache: &FeatureCache,
    set: &str,
    records: Vec<T>,
    file: impl Fn(&T) -> &str,
) -> Result<Vec<(usize, T)>, TrainDataError> {
    let not_cached = |record: &T| TrainDataError::NotCached { set: set.to_owned(), file: file(record).to_owned() };
    let row = |record: T| match cache.row(set, file(&record)) {
        Some(row) => Ok((row, record)),
        None => Err(not_cached(&record)),
    };
    records.into_iter().map(row).collect()
}

#[derive(Debug, Deserialize)]
struct TextOnly {
    captions: Vec<String>,
    /// Flickr30k holds Flickr8k, dev and test pictures among it.
    #[serde(default)]
    in_flickr8k: bool,
}

/// Captions without pictures, those of one picture together, from a `.jsonl` or `.jsonl.gz` file.
///
/// Records marked `in_flickr8k` are left out: they may be about pictures that are measured on.
pub fn text_captions(path: &Path) -> Result<Vec<Vec<String>>, DataError> {
    let records: Vec<TextOnly> = read_jsonl(path)?;
    Ok(records.into_iter().filter(|record| !record.in_flickr8k && !record.captions.is_empty()).map(|record| record.captions).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_data_sets_or_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(data_sets(folder.path(), &[]), Err(TrainDataError::NoDataSet(_))));
        fs::create_dir_all(folder.path().join("b/images")).unwrap();
        fs::create_dir_all(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/images.tar"), b"").unwrap();
        fs::create_dir_all(folder.path().join("neither")).unwrap();
        let names = |wanted: &[String]| data_sets(folder.path(), wanted).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&[]), ["a", "b"]);
        assert_eq!(names(&["b".to_owned()]), ["b"]);
        assert_eq!(data_sets(&folder.path().join("b"), &[]).unwrap()[0].0, "b");
        assert!(data_sets(folder.path(), &["c".to_owned()]).is_err());
    }

    #[test]
    fn captions_of_measured_pictures_stay_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.jsonl");
        let lines = [
            "{\"captions\":[\"a\",\"b\"]}",
            "{\"captions\":[\"c\"],\"in_flickr8k\":true}",
            "{\"captions\":[]}",
            "{\"captions\":[\"d\"],\"in_flickr8k\":false}",
        ];
        fs::write(&path, lines.join("\n")).unwrap();
        assert_eq!(text_captions(&path).unwrap(), [vec!["a", "b"], vec!["d"]]);
    }
}
