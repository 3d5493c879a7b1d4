//! Cached features of the backbone on disk, in f16.
//!
//! A data set `NAME` has up to four files in the cache's folder:
//!
//! | file | what |
//! |---|---|
//! | `NAME.json` | which pictures in which order, the layout, and the SHA-256 of the backbone's weights |
//! | `NAME.f16` | a record a picture: the maps of [`MAPS`] one after the other, little-endian, without gaps |
//! | `NAME.flip.f16` | the same of the mirrored pictures, where they were asked for |
//! | `NAME.crops.f16` | the same of crops of the pictures, a fixed number a picture one after the other, where they were asked for; every other one is mirrored |
//!
//! Records are read with positional reads rather than mapped: the pages come from the same cache, without a page fault for every 4 KiB.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ocelli_models::nano::backbone::{CLASSES, HEAD};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// One of the backbone's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// [`stride8`](ocelli_models::nano::backbone::Features::stride8)
    Stride8,
    /// [`stride16`](ocelli_models::nano::backbone::Features::stride16)
    Stride16,
    /// [`stride32`](ocelli_models::nano::backbone::Features::stride32)
    Stride32,
    /// [`head`](ocelli_models::nano::backbone::Features::head)
    Head,
    /// [`pooled`](ocelli_models::nano::backbone::Features::pooled)
    Pooled,
    /// [`logits`](ocelli_models::nano::backbone::Features::logits)
    Logits,
}

/// The maps in the order of a record.
pub const MAPS: [Map; 6] = [Map::Stride8, Map::Stride16, Map::Stride32, Map::Head, Map::Pooled, Map::Logits];

/// Values in a record.
pub const RECORD: usize = Map::Logits.range().end;
/// Bytes of a record.
pub const RECORD_BYTES: usize = 2 * RECORD;

impl Map {
    /// Tokens and channels.
    pub const fn shape(self) -> [usize; 2] {
        match self {
            Self::Stride8 => [28 * 28, 40],
            Self::Stride16 => [14 * 14, 112],
            Self::Stride32 => [7 * 7, 320],
            Self::Head => [7 * 7, HEAD],
            Self::Pooled => [1, HEAD],
            Self::Logits => [1, CLASSES],
        }
    }

    /// Where in a record, in values.
    pub const fn range(self) -> Range<usize> {
        let (mut start, mut i) = (0, 0);
        while i < self as usize {
            start += MAPS[i].shape()[0] * MAPS[i].shape()[1];
            i += 1;
        }
        start..start + self.shape()[0] * self.shape()[1]
    }
}

/// `NAME.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Version of this layout.
    pub format: u32,
    /// SHA-256 of the backbone's weights.
    pub backbone: String,
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Whether `NAME.flip.f16` is there.
    pub flipped: bool,
    /// Crops of each picture in `NAME.crops.f16`; caches of the first format have none.
    #[serde(default)]
    pub crops: usize,
    /// Pictures in the order of the records.
    pub files: Vec<String>,
}

/// Why features cannot be had from a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An index is not one.
    #[error("{} is no index of cached features: {source}", .path.display())]
    Index {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no index at all.
    #[error("{} holds no cached features; make them with `ocelli-train cache`", .0.display())]
    Empty(PathBuf),
    /// A file and its index do not fit each other.
    #[error("{} has {found} bytes where its index asks for {expected}: run `ocelli-train cache` to its end", .path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// What the index says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// Made by another version, or data sets that were made with different backbones.
    #[error("{} was made with another backbone or layout: remove it and run `ocelli-train cache` again", .0.display())]
    Stale(PathBuf),
    /// A row that the cache does not have.
    #[error("row {row} of a cache of {rows} rows")]
    Row {
        /// Which.
        row: usize,
        /// How many there are, mirrored ones and crops included.
        rows: usize,
    },
}

/// Cached features of one or more data sets.
///
/// Rows count through the data sets in the order of their names; row `len() + i` is picture `i` mirrored. Behind those lie the crops.
#[derive(Debug)]
pub struct FeatureCache {
    sets: Vec<Set>,
    rows: HashMap<String, usize>,
    len: usize,
}

#[derive(Debug)]
struct Set {
    name: String,
    files: Vec<String>,
    start: usize,
    plain: File,
    mirrored: Option<File>,
    crops: Option<File>,
    /// Crops of each picture.
    each: usize,
    /// Crops in the data sets before this one.
    crops_before: usize,
    path: PathBuf,
}

/// A data set's index, its features, its mirrored features and those of its crops.
pub fn paths(folder: &Path, set: &str) -> [PathBuf; 4] {
    [".json", ".f16", ".flip.f16", ".crops.f16"].map(|ending| folder.join(format!("{set}{ending}")))
}

impl FeatureCache {
    /// Opens all data sets in `folder`.
    pub fn open(folder: &Path) -> Result<Self, CacheError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let name = entry.map_err(failed(folder))?.file_name();
            names.extend(name.to_string_lossy().strip_suffix(".json").map(str::to_owned));
        }
        names.sort();
        Self::open_sets(folder, &names)
    }

    /// Opens the data sets of these names.
    pub fn open_sets(folder: &Path, names: &[impl AsRef<str>]) -> Result<Self, CacheError> {
        let mut cache = Self { sets: Vec::new(), rows: HashMap::new(), len: 0 };
        let (mut backbone, mut crops_before) = (None, 0);
        for name in names.iter().map(AsRef::as_ref) {
            let [index_path, plain, mirrored, crops] = paths(folder, name);
            let index = read_index(&index_path)?;
            let one_backbone = *backbone.get_or_insert(index.backbone.clone()) == index.backbone;
            if index.format != FORMAT || index.record_bytes != RECORD_BYTES || !one_backbone {
                return Err(CacheError::Stale(index_path));
            }
            for (i, file) in index.files.iter().enumerate() {
                cache.rows.insert(key(name, file), cache.len + i);
            }
            let start = cache.len;
            cache.len += index.files.len();
            cache.sets.push(Set {
                name: name.to_owned(),
                start,
                plain: open_records(&plain, index.files.len())?,
                mirrored: if index.flipped { Some(open_records(&mirrored, index.files.len())?) } else { None },
                crops: if index.crops > 0 { Some(open_records(&crops, index.crops * index.files.len())?) } else { None },
                each: index.crops,
                crops_before,
                path: plain,
                files: index.files,
            });
            crops_before += index.crops * (cache.len - start);
        }
        if cache.len == 0 { Err(CacheError::Empty(folder.to_owned())) } else { Ok(cache) }
    }

    /// Number of pictures, mirrored ones not counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether every data set has mirrored pictures too.
    pub fn has_mirrored(&self) -> bool {
        self.sets.iter().all(|set| set.mirrored.is_some())
    }

    /// The row of a picture's mirror image.
    pub fn mirrored(&self, row: usize) -> usize {
        self.len + row
    }

    /// The rows of a picture's crops: none where its data set has none. Every other one, from the second on, is mirrored.
    pub fn crops(&self, row: usize) -> Range<usize> {
        let Some(set) = self.set_of(row) else { return 0..0 };
        let start = 2 * self.len + set.crops_before + (row - set.start) * set.each;
        start..start + set.each
    }

    /// A random view of a picture: with the probability `cropped` one of its crops, else itself, half of the time mirrored, as far as there
    /// are such. Without `mirror` none that is mirrored.
    pub fn view(&self, row: usize, cropped: f64, mirror: bool, rng: &mut impl Rng) -> usize {
        let step = if mirror { 1 } else { 2 };
        let mut crops = self.crops(row).step_by(step);
        if crops.len() > 0 && rng.random_bool(cropped) {
            let at = rng.random_range(0..crops.len());
            return crops.nth(at).unwrap_or(row);
        }
        if mirror && self.has_mirrored() && rng.random() { self.mirrored(row) } else { row }
    }

    /// The row of a picture, named as in its data set (`images/NAME`).
    pub fn row(&self, set: &str, file: &str) -> Option<usize> {
        self.rows.get(&key(set, file)).copied()
    }

    /// A data set's rows, in the order of its index.
    pub fn rows(&self, set: &str) -> Option<Range<usize>> {
        self.set(set).map(|set| set.start..set.start + set.files.len())
    }

    /// One map of these rows: `[rows, tokens, channels]`.
    pub fn map(&self, map: Map, rows: &[usize], device: &Device) -> Result<Tensor<3>, CacheError> {
        let [tokens, channels] = map.shape();
        let mut values = vec![0.0; rows.len() * tokens * channels];
        values.par_chunks_mut(tokens * channels).zip(rows).try_for_each(|(values, &row)| self.read(map, row, values))?;
        Ok(Tensor::from_data(TensorData::new(values, [rows.len(), tokens, channels]), device))
    }

    /// One map of a row into `values`, which has the map's length.
    pub fn read(&self, map: Map, row: usize, values: &mut [f32]) -> Result<(), CacheError> {
        let Some((set, file, record)) = self.find(row) else {
            let crops: usize = self.sets.iter().map(|set| set.each * set.files.len()).sum();
            let mirrored = if self.has_mirrored() { self.len } else { 0 };
            return Err(CacheError::Row { row, rows: self.len + mirrored + crops });
        };
        let range = map.range();
        let mut bytes = vec![0; 2 * range.len()];
        let start = record * RECORD_BYTES + 2 * range.start;
        file.read_exact_at(&mut bytes, start as u64).map_err(failed(&set.path))?;
        let bits: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        bits.reinterpret_cast::<half::f16>().convert_to_f32_slice(values);
        Ok(())
    }

    /// The data set, the file and the record in it that hold a row.
    fn find(&self, row: usize) -> Option<(&Set, &File, usize)> {
        if row < 2 * self.len {
            let picture = row % self.len;
            let set = self.set_of(picture)?;
            let file = if row < self.len { Some(&set.plain) } else { set.mirrored.as_ref() };
            return Some((set, file?, picture - set.start));
        }
        let crop = row - 2 * self.len;
        let set = self.sets.iter().rev().find(|set| set.each > 0 && set.crops_before <= crop)?;
        let record = crop - set.crops_before;
        (record < set.each * set.files.len()).then_some((set, set.crops.as_ref()?, record))
    }

    /// The data set of a picture that is not mirrored.
    fn set_of(&self, picture: usize) -> Option<&Set> {
        let at = self.sets.partition_point(|set| set.start <= picture).checked_sub(1)?;
        self.sets.get(at).filter(|_| picture < self.len)
    }

    fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }
}

/// Version of the layout above.
pub const FORMAT: u32 = 2;

fn key(set: &str, file: &str) -> String {
    format!("{set}/{file}")
}

fn read_index(path: &Path) -> Result<Index, CacheError> {
    let bytes = fs::read(path).map_err(failed(path))?;
    serde_json::from_slice(&bytes).map_err(|source| CacheError::Index { path: path.to_owned(), source })
}

fn open_records(path: &Path, records: usize) -> Result<File, CacheError> {
    let file = File::open(path).map_err(failed(path))?;
    let (found, expected) = (file.metadata().map_err(failed(path))?.len(), (records * RECORD_BYTES) as u64);
    if found == expected { Ok(file) } else { Err(CacheError::Length { path: path.to_owned(), expected, found }) }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CacheError {
    move |source| CacheError::Read { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use half::f16;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    /// A cache of pictures whose record of picture `i` is `100 i, 100 i + 1, …` (mirrored: negated; crop `k`: halved `k + 1` times), modulo 1000.
    fn write_set(folder: &Path, set: &str, [pictures, first, crops]: [usize; 3], backbone: &str) {
        let files = (0..pictures).map(|i| format!("images/{i}.jpg")).collect();
        let index = Index { format: FORMAT, backbone: backbone.to_owned(), record_bytes: RECORD_BYTES, flipped: true, crops, files };
        let [json, plain, mirrored, cropped] = paths(folder, set);
        fs::write(json, serde_json::to_vec(&index).unwrap()).unwrap();
        let factors: Vec<f32> = (0..crops).map(|crop| 0.5f32.powi(crop as i32 + 1)).collect();
        for (path, factors) in [(plain, &[1.0][..]), (mirrored, &[-1.0]), (cropped, &factors)] {
            let of = |i: usize| factors.iter().flat_map(move |factor| (0..RECORD).map(move |k| factor * value(i, k)));
            let values = (first..first + pictures).flat_map(of);
            fs::write(path, values.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        }
    }

    fn value(picture: usize, at: usize) -> f32 {
        ((100 * picture + at) % 1000) as f32
    }

    #[test]
    fn records_have_no_gaps() {
        assert_eq!(MAPS[0].range().start, 0);
        for pair in MAPS.windows(2) {
            assert_eq!(pair[0].range().end, pair[1].range().start);
        }
        assert_eq!(RECORD, 784 * 40 + 196 * 112 + 49 * 320 + 49 * 1280 + 1280 + 1000);
    }

    #[test]
    fn rows_count_through_the_sets_then_through_the_mirrored_and_then_through_the_crops() {
        let folder = tempfile::tempdir().unwrap();
        write_set(folder.path(), "b", [3, 2, 2], "same");
        write_set(folder.path(), "a", [2, 0, 0], "same");
        let cache = FeatureCache::open(folder.path()).unwrap();
        assert_eq!((cache.len(), cache.rows("b"), cache.row("b", "images/1.jpg")), (5, Some(2..5), Some(3)));
        assert_eq!(cache.row("a", "images/2.jpg"), None);

        let device = Device::flex();
        assert_eq!((cache.crops(1), cache.crops(3), cache.crops(5)), (10..10, 12..14, 0..0));
        let rows = [4, cache.mirrored(1), 0, cache.crops(4).end - 1];
        for map in MAPS {
            let [tokens, channels] = map.shape();
            let found = cache.map(map, &rows, &device).unwrap();
            assert_eq!(found.dims(), [4, tokens, channels]);
            let found = found.into_data().try_into_vec::<f32>().unwrap();
            let expected = |picture: usize, sign: f32| map.range().map(move |k| sign * value(picture, k));
            let expected: Vec<f32> = expected(4, 1.0).chain(expected(1, -1.0)).chain(expected(0, 1.0)).chain(expected(4, 0.25)).collect();
            assert!(found == expected, "{map:?}");
        }
        assert!(matches!(cache.map(Map::Logits, &[16], &device), Err(CacheError::Row { row: 16, rows: 16 })));
    }

    #[test]
    fn views_are_the_picture_or_its_own() {
        let folder = tempfile::tempdir().unwrap();
        write_set(folder.path(), "a", [1, 0, 0], "same");
        write_set(folder.path(), "b", [2, 1, 5], "same");
        let cache = FeatureCache::open(folder.path()).unwrap();
        let mut rng = SmallRng::seed_from_u64(1);
        let mut seen = |row, cropped, mirror| -> Vec<usize> {
            let all: BTreeSet<usize> = (0..200).map(|_| cache.view(row, cropped, mirror, &mut rng)).collect();
            all.into_iter().collect()
        };
        let first = cache.crops(2).start;
        assert_eq!(seen(2, 1.0, true), (first..first + 5).collect::<Vec<_>>());
        assert_eq!(seen(2, 1.0, false), [first, first + 2, first + 4], "those that are not mirrored");
        assert_eq!(seen(2, 0.0, true), [2, cache.mirrored(2)]);
        assert_eq!(seen(2, 0.0, false), [2]);
        assert_eq!(seen(0, 1.0, true), [0, cache.mirrored(0)], "a set without crops");
    }

    #[test]
    fn a_cache_of_the_first_format_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        write_set(folder.path(), "a", [1, 0, 0], "one");
        let [json, ..] = paths(folder.path(), "a");
        let text = fs::read_to_string(&json).unwrap().replace("\"format\":2", "\"format\":1").replace("\"crops\":0,", "");
        fs::write(&json, text).unwrap();
        assert!(matches!(FeatureCache::open(folder.path()), Err(CacheError::Stale(_))));
    }

    #[test]
    fn unfinished_and_mixed_caches_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(FeatureCache::open(folder.path()), Err(CacheError::Empty(_))));
        write_set(folder.path(), "a", [1, 0, 0], "one");
        write_set(folder.path(), "b", [1, 0, 0], "another");
        assert!(matches!(FeatureCache::open(folder.path()), Err(CacheError::Stale(_))));
        let [_, plain, ..] = paths(folder.path(), "a");
        File::options().write(true).open(plain).unwrap().set_len(RECORD_BYTES as u64 - 1).unwrap();
        assert!(matches!(FeatureCache::open_sets(folder.path(), &["a"]), Err(CacheError::Length { .. })));
    }
}
