//! Opening a bundle and looking things up in it.

use std::collections::BTreeMap;
use std::path::Path;

use burn_std::{AllocationProperty, DType};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::layout::{self, Entry};
use crate::mapped::{Mapping, map_released};
use crate::{BundleError, FORMAT_VERSION, GOLDEN_PREFIX, Manifest, Part, seal};

/// Metadata keys that start so are the format's own; the others are text entries.
pub(crate) const RESERVED: &str = "ocelli.";
pub(crate) const MANIFEST_KEY: &str = "ocelli.manifest";
pub(crate) const CHECKSUMS_KEY: &str = "ocelli.checksums";

/// What tensors read in place need of the address they are read at, in bytes: the widest vector register.
const ALIGNMENT: usize = 64;

/// An open bundle. Tensors stay where they are, in the mapped file or in the binary, until their bytes are read.
pub struct Bundle {
    pub(crate) origin: String,
    pub(crate) bytes: Bytes,
    /// What the bytes are of, where that is a file.
    pub(crate) mapping: Option<Mapping>,
    manifest: Manifest,
    texts: BTreeMap<String, String>,
    /// In file order, the seal last.
    pub(crate) entries: Vec<Entry>,
    /// Name to index in `entries`, without the seal.
    index: BTreeMap<String, usize>,
    /// Name to SHA-256 in hexadecimal, for all that `index` holds.
    pub(crate) checksums: BTreeMap<String, String>,
}

/// A tensor of a bundle.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: &'a [usize],
    /// The elements, little-endian, row-major; the address is a multiple of 64.
    pub bytes: &'a [u8],
    /// Where they start in the file, in bytes.
    pub offset: u64,
    bundle: &'a Bundle,
}

impl Bundle {
    /// Maps the file at `path` into memory and checks its seal and structure. Reads no tensor.
    ///
    /// The file must not be changed while it is open: on Unix, reading a page that has been cut off ends the process
    /// (`SIGBUS`). [`BundleWriter::write_to`](crate::BundleWriter::write_to) replaces files rather than changing them.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let origin = path.display().to_string();
        let io = |source| BundleError::Io { bundle: origin.clone(), source };
        if std::fs::metadata(path).map_err(io)?.is_dir() {
            return Err(BundleError::NotABundle { bundle: origin, reason: "it is a folder".into() });
        }
        let (bytes, mapping) = map_released(path).map_err(io)?;
        Ok(Self { mapping, ..Self::read(origin, bytes)? })
    }

    /// Opens a bundle that is part of the binary; see [`include_aligned!`](crate::include_aligned).
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, BundleError> {
        Self::read("the embedded model".into(), Bytes::from_static(bytes))
    }

    /// Opens a bundle held in memory. Copies it if it lies at an address that tensors cannot be read at in place.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, BundleError> {
        let origin = String::from("bundle in memory");
        if bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Self::read(origin, bytes);
        }
        // Over-allocated, so that some offset in it is aligned.
        let mut room = vec![0; bytes.len() + ALIGNMENT];
        let shift = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        room[shift..shift + bytes.len()].copy_from_slice(&bytes);
        Self::read(origin, Bytes::from(room).slice(shift..shift + bytes.len()))
    }

    /// Seal first, then the parsers, then the structure.
    fn read(origin: String, bytes: Bytes) -> Result<Self, BundleError> {
        let header = seal::header(&origin, &bytes, bytes.len())?;
        if !bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Err(BundleError::Unaligned { bundle: origin, required: ALIGNMENT });
        }
        let sealed = seal::find(&bytes);
        if let Some(seal) = sealed {
            seal::check_head(&origin, &bytes[..header.head_len], seal)?;
        }
        // Without a seal the rest is only parsed to say why there is none.
        let (entries, mut metadata) = container(&origin, &bytes)?;
        if !metadata.contains_key(MANIFEST_KEY) {
            return Err(BundleError::NotABundle { bundle: origin, reason: "a burnpack file without ocelli's manifest".into() });
        }
        let entries = layout::check(&origin, entries, header.head_len, bytes.len())?;
        if sealed.is_none() {
            let end = bytes.len() as u64;
            return Err(BundleError::Damaged { bundle: origin, part: Part::Seal, offset: end - seal::LEN as u64, end });
        }

        let manifest = manifest(&origin, &metadata)?;
        let checksums: BTreeMap<String, String> = json(&origin, CHECKSUMS_KEY, &metadata)?;
        metadata.retain(|key, _| !key.starts_with(RESERVED));
        let index: BTreeMap<_, _> =
            entries.iter().enumerate().filter(|(_, e)| e.name != seal::NAME).map(|(i, e)| (e.name.clone(), i)).collect();
        if !index.keys().eq(checksums.keys()) {
            return Err(BundleError::Malformed {
                bundle: origin,
                place: CHECKSUMS_KEY.into(),
                reason: format!("{} checksums for {} tensors, or of other names", checksums.len(), index.len()),
            });
        }
        let bundle = Self { origin, bytes, mapping: None, manifest, texts: metadata, entries, index, checksums };
        bundle.check_golden()?;
        Ok(bundle)
    }

    fn check_golden(&self) -> Result<(), BundleError> {
        let named = self.manifest.golden.iter().flat_map(|golden| golden.expected.iter().chain([&golden.input]));
        for name in named {
            self.tensor(name)?;
        }
        Ok(())
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A text entry: `tokenizer.json`, `labels`, `templates`, `model_card`, …
    pub fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// The text entries as (key, text), by key.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// The tensor called `name`; an error that names it if there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, BundleError> {
        match self.index.get(name) {
            Some(&at) => Ok(self.view(&self.entries[at])),
            None => Err(BundleError::MissingTensor { bundle: self.origin.clone(), tensor: name.into() }),
        }
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// All tensors by name, golden vectors included ([`TensorView::is_golden`]).
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.index.values().map(|&at| self.view(&self.entries[at]))
    }

    /// All tensors in the order in which they lie in the file.
    pub fn in_file_order(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.entries.iter().filter(|entry| entry.name != seal::NAME).map(|entry| self.view(entry))
    }

    /// Size of the whole file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The path it was opened from, or words for a bundle that has none.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> TensorView<'a> {
        TensorView {
            name: &entry.name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes: &self.bytes[entry.range.clone()],
            offset: entry.range.start as u64,
            bundle: self,
        }
    }
}

impl TensorView<'_> {
    /// The same bytes with shared ownership of the mapping or the binary: no copy, and they outlive the [`Bundle`].
    pub fn shared(&self) -> Bytes {
        self.bundle.bytes.slice_ref(self.bytes)
    }

    /// The same bytes as burn's `TensorData` takes them, without a copy.
    pub fn burn_bytes(&self) -> burn_std::Bytes {
        burn_std::Bytes::from_shared(self.shared(), AllocationProperty::File)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether it is a golden vector rather than a weight.
    pub fn is_golden(&self) -> bool {
        self.name.starts_with(GOLDEN_PREFIX)
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("origin", &self.origin).field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}{:?} at byte {}", self.name, self.dtype, self.shape, self.offset)
    }
}

/// The burnpack container: descriptors with their place in the file, and the metadata strings.
fn container(origin: &str, bytes: &Bytes) -> Result<(Vec<Entry>, BTreeMap<String, String>), BundleError> {
    let failed = |error: burn_pack::Error| match error {
        // burn-pack has one variant for all that it validates; a test holds this to its wording.
        burn_pack::Error::ValidationError(reason) if reason.contains("truncated") => {
            BundleError::Truncated { bundle: origin.into(), reason }
        }
        error => BundleError::Malformed { bundle: origin.into(), place: "metadata".into(), reason: error.to_string() },
    };
    let source = burn_std::Bytes::from_shared(bytes.clone(), AllocationProperty::File);
    let reader = burn_pack::Reader::from_bytes(source).map_err(failed)?;
    let metadata = reader.metadata().clone();
    let mut entries = Vec::new();
    for tensor in reader.into_tensors().map_err(failed)? {
        let (name, dtype, shape, _, data) = tensor.into_parts().map_err(failed)?;
        // burn-pack keeps offsets to itself, but its views point into the bytes it was given.
        let start = data.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
        let range = start..start.saturating_add(data.len());
        if range.end > bytes.len() {
            return Err(BundleError::Malformed {
                bundle: origin.into(),
                place: format!("tensor `{name}`"),
                reason: "lies outside the file".into(),
            });
        }
        entries.push(Entry { name, dtype, shape: shape.to_vec(), range });
    }
    Ok((entries, metadata))
}

fn manifest(origin: &str, metadata: &BTreeMap<String, String>) -> Result<Manifest, BundleError> {
    /// The version is read first: a later version's manifest may not parse as this one's.
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = json(origin, MANIFEST_KEY, metadata)?;
    if version.format_version > FORMAT_VERSION {
        return Err(BundleError::UnsupportedVersion {
            bundle: origin.into(),
            what: "manifest",
            found: version.format_version,
            supported: FORMAT_VERSION,
        });
    }
    json(origin, MANIFEST_KEY, metadata)
}

fn json<T: DeserializeOwned>(origin: &str, key: &str, metadata: &BTreeMap<String, String>) -> Result<T, BundleError> {
    let malformed = |reason: String| BundleError::Malformed { bundle: origin.into(), place: key.into(), reason };
    let text = metadata.get(key).ok_or_else(|| malformed("missing".into()))?;
    serde_json::from_str(text).map_err(|error| malformed(error.to_string()))
}
