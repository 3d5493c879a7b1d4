//! Embeddings of a folder's pictures, kept between searches.
//!
//! One file a folder and model, in the user's cache folder. An entry stands for a picture as long as its size and time of
//! change stay the same. A file that cannot be read, of another version or damaged, is as good as none: it is made again.
//!
//! ```text
//!  8          b"OCELEMB1"
//!  4 4        dimension, number of entries (little-endian, as all numbers here)
//!  …          an entry: length of the path (4), path, size in bytes (8), time of change in ns since 1970 (8), f32 values
//! 32          SHA-256 of all before
//! ```

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ocelli_flow::Embedding;
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"OCELEMB1";
const DIGEST_BYTES: usize = 32;

/// What tells whether a picture is still the one that was embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    size_bytes: u64,
    modified_ns: i64,
}

impl Stamp {
    /// Of the file as it is now.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { size_bytes: metadata.len(), modified_ns: i64::try_from(modified.as_nanos()).unwrap_or(i64::MAX) })
    }
}

/// The embeddings of one folder by one model.
#[derive(Debug, PartialEq)]
pub struct Cache {
    dim: usize,
    entries: HashMap<String, (Stamp, Embedding)>,
    changed: bool,
}

impl Cache {
    /// Nothing known, embeddings of `dim` numbers.
    pub fn empty(dim: usize) -> Self {
        Self { dim, entries: HashMap::new(), changed: false }
    }

    /// What the file holds; nothing, if it is missing, damaged, or of another dimension.
    pub fn load(file: &Path, dim: usize) -> Self {
        let known = fs::read(file).ok().and_then(|bytes| parse(&bytes)).filter(|cache| cache.dim == dim);
        known.unwrap_or_else(|| Self::empty(dim))
    }

    /// The picture's embedding, if it has not changed since.
    pub fn get(&self, path: &str, stamp: Stamp) -> Option<&Embedding> {
        self.entries.get(path).filter(|(known, _)| *known == stamp).map(|(_, embedding)| embedding)
    }

    /// Notes a picture's embedding.
    pub fn insert(&mut self, path: &str, stamp: Stamp, embedding: Embedding) {
        self.changed = true;
        self.entries.insert(path.to_owned(), (stamp, embedding));
    }

    /// Forgets pictures that are gone.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|path, _| exists(path));
        self.changed |= self.entries.len() != before;
    }

    /// Writes the file if anything is new: beside its place first and then renamed, so that nobody ever reads half of it.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        let Some(folder) = file.parent().filter(|_| self.changed) else { return Ok(()) };
        fs::create_dir_all(folder)?;
        let mut unfinished = tempfile::NamedTempFile::new_in(folder)?;
        unfinished.write_all(&self.to_bytes())?;
        unfinished.persist(file)?;
        Ok(())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.dim as u32).to_le_bytes());
        bytes.extend((self.entries.len() as u32).to_le_bytes());
        for (path, (stamp, embedding)) in &self.entries {
            bytes.extend((path.len() as u32).to_le_bytes());
            bytes.extend(path.as_bytes());
            bytes.extend(stamp.size_bytes.to_le_bytes());
            bytes.extend(stamp.modified_ns.to_le_bytes());
            bytes.extend(embedding.values.iter().flat_map(|value| value.to_le_bytes()));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }
}

/// Where the cache of `folder` by the model with `digest` lies; `None` where the user has no cache folder.
pub fn place(digest: &str, folder: &Path) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    let folder = folder.canonicalize().ok()?;
    let key = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    let key: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(caches.join("ocelli").join(format!("embeddings-{}-{key}.bin", digest.get(..16)?)))
}

fn parse(bytes: &[u8]) -> Option<Cache> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    if Sha256::digest(content)[..] != *digest {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let dim = u32::from_le_bytes(take(&mut rest)?) as usize;
    let count = u32::from_le_bytes(take(&mut rest)?);
    let mut entries = HashMap::new();
    for _ in 0..count {
        let path_bytes = u32::from_le_bytes(take(&mut rest)?) as usize;
        let path = std::str::from_utf8(split(&mut rest, path_bytes)?).ok()?.to_owned();
        let stamp = Stamp { size_bytes: u64::from_le_bytes(take(&mut rest)?), modified_ns: i64::from_le_bytes(take(&mut rest)?) };
        let (values, _) = split(&mut rest, dim.checked_mul(4)?)?.as_chunks();
        let values = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        entries.insert(path, (stamp, Embedding { values }));
    }
    rest.is_empty().then_some(Cache { dim, entries, changed: false })
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    split(rest, N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size_bytes: u64) -> Stamp {
        Stamp { size_bytes, modified_ns: 5 }
    }

    fn filled() -> Cache {
        let mut cache = Cache::empty(2);
        cache.insert("a.jpg", stamp(1), Embedding { values: vec![0.5, -1.0] });
        cache.insert("ö/b.jpg", stamp(2), Embedding { values: vec![0.0, 2.0] });
        cache
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/cache.bin");
        filled().save(&file).unwrap();
        let loaded = Cache::load(&file, 2);
        assert_eq!(loaded.entries, filled().entries);
        assert_eq!(loaded.get("a.jpg", stamp(1)).unwrap().values, [0.5, -1.0]);
        assert_eq!(loaded.get("a.jpg", stamp(9)), None, "the picture has changed");
        assert_eq!(Cache::load(&file, 3), Cache::empty(3), "another dimension");
    }

    #[test]
    fn a_damaged_cache_is_no_cache() {
        let bytes = filled().to_bytes();
        assert!(parse(&bytes).is_some());
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_none(), "cut to {length}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(parse(&flipped).is_none(), "flipped at {at}");
        }
    }

    #[test]
    fn lies_about_lengths_are_refused_even_with_a_right_digest() {
        let mut bytes = filled().to_bytes();
        bytes.truncate(bytes.len() - DIGEST_BYTES);
        for at in 8..bytes.len() {
            let mut lying = bytes.clone();
            lying[at] = 0xff;
            let digest = Sha256::digest(&lying);
            lying.extend(digest);
            // Refused or read, but never a panic.
            let _ = parse(&lying);
        }
        bytes[12] = 3; // three entries where there are two
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        assert!(parse(&bytes).is_none());
    }

    #[test]
    fn gone_pictures_are_forgotten() {
        let mut cache = filled();
        cache.retain(|path| path == "a.jpg");
        assert_eq!(cache.entries.len(), 1);
    }

    #[test]
    fn nothing_new_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache.bin");
        Cache::empty(2).save(&file).unwrap();
        assert!(!file.exists());
    }
}
