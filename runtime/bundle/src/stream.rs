//! A bundle that is being written: its tensors come in pieces, in any order, and are never all in memory.
//!
//! The head comes first in the file and holds the digests of the tensors, which are known last. Digests are all of one length, so the head is
//! written twice: with zeros for those that are not known yet, and again at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use burn_pack::AtomicFile;
use burn_std::DType;
use sha2::{Digest, Sha256};

use crate::container::{Head, Planned, head};
use crate::reader::CHECKSUMS_KEY;
use crate::verify::hexadecimal;
use crate::{BundleError, seal};

/// A bundle's file while it is written. Nothing is at its path until [`BundleFile::finish`].
pub struct BundleFile {
    body: Body<File>,
    scratch: AtomicFile,
}

impl BundleFile {
    pub(crate) fn create(path: &Path, tensors: Vec<Slot>, metadata: BTreeMap<String, String>) -> Result<Self, BundleError> {
        let bundle = path.display().to_string();
        let failed = |error: burn_pack::Error| BundleError::Write { bundle: bundle.clone(), reason: error.to_string() };
        let (scratch, file) = AtomicFile::create(path).map_err(failed)?;
        let body = Body::begin(bundle.clone(), file, tensors, metadata)?;
        body.out.set_len(body.file_len).map_err(|error| BundleError::Write { bundle, reason: error.to_string() })?;
        Ok(Self { body, scratch })
    }

    /// Writes the next bytes (little-endian, row-major) of a tensor that was declared.
    ///
    /// # Errors
    /// Where there is no such tensor, it has no room for so many bytes, or the file cannot be written.
    pub fn append(&mut self, tensor: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.body.append(tensor, bytes)
    }

    /// Length of the whole file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.body.file_len
    }

    /// Seals the file and puts it in its place, where it replaces what was there.
    ///
    /// # Errors
    /// Where a tensor is not complete, or the file cannot be written.
    pub fn finish(self) -> Result<(), BundleError> {
        let bundle = self.body.bundle.clone();
        let file = self.body.finish()?;
        file.sync_all().map_err(|error| BundleError::Write { bundle: bundle.clone(), reason: error.to_string() })?;
        drop(file);
        self.scratch.commit().map_err(|error| BundleError::Write { bundle, reason: error.to_string() })
    }
}

/// A tensor's place in the file, and what is there already.
pub(crate) struct Slot {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// In bytes.
    pub len: usize,
    /// What is in memory, for tensors that were added whole.
    pub bytes: Option<Vec<u8>>,
}

struct Progress {
    start: u64,
    written: usize,
    digest: Sha256,
}

/// What is written, wherever it goes.
pub(crate) struct Body<W> {
    bundle: String,
    out: W,
    metadata: BTreeMap<String, String>,
    /// The seal is the last.
    tensors: Vec<Slot>,
    progress: Vec<Progress>,
    index: BTreeMap<String, usize>,
    head_len: usize,
    file_len: u64,
}

impl<W: Write + Seek> Body<W> {
    /// Writes the head with zeros for digests, and the tensors that are in memory.
    pub(crate) fn begin(bundle: String, out: W, mut tensors: Vec<Slot>, metadata: BTreeMap<String, String>) -> Result<Self, BundleError> {
        let index: BTreeMap<String, usize> = tensors.iter().enumerate().map(|(i, slot)| (slot.name.clone(), i)).collect();
        tensors.push(Slot { name: seal::NAME.into(), dtype: DType::U8, shape: vec![seal::LEN], len: seal::LEN, bytes: None });
        let mut body = Self { bundle, out, metadata, tensors, progress: Vec::new(), index, head_len: 0, file_len: 0 };
        let head = body.head(|_| String::from("0").repeat(64))?;
        body.progress = head.starts.iter().map(|&start| Progress { start, written: 0, digest: Sha256::new() }).collect();
        (body.head_len, body.file_len) = (head.bytes.len(), head.file_len);
        body.put(0, &head.bytes)?;
        for i in 0..body.tensors.len() {
            if let Some(bytes) = body.tensors[i].bytes.take() {
                body.append_at(i, &bytes)?;
            }
        }
        Ok(body)
    }

    pub(crate) fn append(&mut self, tensor: &str, bytes: &[u8]) -> Result<(), BundleError> {
        match self.index.get(tensor) {
            Some(&at) => self.append_at(at, bytes),
            None => Err(rejected(tensor, "was not declared before the file was begun".into())),
        }
    }

    /// Writes the head again, now with the digests, and the seal.
    pub(crate) fn finish(mut self) -> Result<W, BundleError> {
        for &at in self.index.values() {
            let (slot, written) = (&self.tensors[at], self.progress[at].written);
            if written != slot.len {
                return Err(rejected(&slot.name, format!("has {} bytes, and {written} of them were written", slot.len)));
            }
        }
        let head = self.head(|at| hexadecimal(&self.progress[at].digest.clone().finalize()))?;
        if head.bytes.len() != self.head_len {
            return Err(rejected(CHECKSUMS_KEY, "the head has changed its length while the tensors were written".into()));
        }
        self.put(0, &head.bytes)?;
        self.put(self.file_len - seal::LEN as u64, &seal::of(&head.bytes))?;
        self.out.flush().map_err(|error| self.failed(&error))?;
        Ok(self.out)
    }

    fn append_at(&mut self, at: usize, bytes: &[u8]) -> Result<(), BundleError> {
        let (slot, progress) = (&self.tensors[at], &mut self.progress[at]);
        if bytes.len() > slot.len - progress.written {
            let reason = format!("{} bytes more than its shape {:?} holds", bytes.len() - (slot.len - progress.written), slot.shape);
            return Err(rejected(&slot.name, reason));
        }
        let place = progress.start + progress.written as u64;
        progress.digest.update(bytes);
        progress.written += bytes.len();
        self.put(place, bytes)
    }

    fn put(&mut self, place: u64, bytes: &[u8]) -> Result<(), BundleError> {
        let put = self.out.seek(SeekFrom::Start(place)).and_then(|_| self.out.write_all(bytes));
        put.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> BundleError {
        BundleError::Write { bundle: self.bundle.clone(), reason: error.to_string() }
    }

    fn head(&self, digest: impl Fn(usize) -> String) -> Result<Head, BundleError> {
        let digests: BTreeMap<&String, String> = self.index.iter().map(|(name, &at)| (name, digest(at))).collect();
        let digests = serde_json::to_string(&digests).map_err(|error| rejected(CHECKSUMS_KEY, error.to_string()))?;
        let mut metadata = self.metadata.clone();
        metadata.insert(CHECKSUMS_KEY.to_owned(), digests);
        let planned: Vec<Planned<'_>> =
            self.tensors.iter().map(|slot| Planned { name: &slot.name, dtype: slot.dtype, shape: &slot.shape, len: slot.len }).collect();
        head(&planned, &metadata).map_err(|reason| BundleError::Write { bundle: self.bundle.clone(), reason })
    }
}

pub(crate) fn rejected(entry: &str, reason: String) -> BundleError {
    BundleError::Rejected { entry: entry.into(), reason }
}
