//! Writing a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;

use burn_std::DType;
use half::f16;

use crate::reader::{MANIFEST_KEY, RESERVED};
use crate::stream::{Body, BundleFile, Slot, rejected};
use crate::{BundleError, Manifest, layout};

/// Collects tensors and texts and writes them as one file.
///
/// The same content gives the same bytes: tensors lie in the order they were added, everything else is sorted.
pub struct BundleWriter {
    manifest: Manifest,
    texts: BTreeMap<String, String>,
    tensors: Vec<Slot>,
    names: BTreeSet<String>,
}

impl BundleWriter {
    /// A bundle with this manifest and nothing else yet.
    pub fn new(manifest: Manifest) -> Self {
        Self { manifest, texts: BTreeMap::new(), tensors: Vec::new(), names: BTreeSet::new() }
    }

    /// The manifest, for what is only known once the tensors are.
    pub fn manifest_mut(&mut self) -> &mut Manifest {
        &mut self.manifest
    }

    /// Adds a text entry: `tokenizer.json`, `labels`, `templates`, `model_card`, …
    pub fn text(&mut self, key: &str, text: impl Into<String>) -> Result<(), BundleError> {
        if key.is_empty() || key.starts_with(RESERVED) {
            return Err(rejected(key, "text keys are not empty and do not start with `ocelli.`, which is the format's own".into()));
        }
        if self.texts.contains_key(key) {
            return Err(rejected(key, "added twice".into()));
        }
        self.texts.insert(key.into(), text.into());
        Ok(())
    }

    /// Adds a tensor from its little-endian bytes, row-major.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Result<(), BundleError> {
        let needed = self.new_tensor(name, dtype, shape)?;
        if needed != Some(bytes.len()) {
            return Err(rejected(name, format!("{} bytes of {dtype:?} do not fill the shape {shape:?}", bytes.len())));
        }
        self.push(name, dtype, shape, bytes.len(), Some(bytes));
        Ok(())
    }

    /// Declares a tensor whose bytes come later: see [`BundleWriter::begin`].
    pub fn declare(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<(), BundleError> {
        let Some(len) = self.new_tensor(name, dtype, shape)? else {
            return Err(rejected(name, format!("no memory holds {dtype:?} of shape {shape:?}")));
        };
        self.push(name, dtype, shape, len, None);
        Ok(())
    }

    fn push(&mut self, name: &str, dtype: DType, shape: &[usize], len: usize, bytes: Option<Vec<u8>>) {
        self.names.insert(name.into());
        self.tensors.push(Slot { name: name.into(), dtype, shape: shape.to_vec(), len, bytes });
    }

    /// The length in bytes of a tensor that may be added, where it can be told.
    fn new_tensor(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<Option<usize>, BundleError> {
        if name.is_empty() || name.starts_with(RESERVED) {
            return Err(rejected(name, "tensor names are not empty and do not start with `ocelli.`, which is the format's own".into()));
        }
        if !layout::supported(dtype) {
            return Err(rejected(name, format!("elements of type {dtype:?} are not for bundles")));
        }
        if self.names.contains(name) {
            return Err(rejected(name, "added twice".into()));
        }
        Ok(shape.iter().try_fold(dtype.size(), |product, &size| product.checked_mul(size)))
    }

    /// Adds a tensor of `f32`.
    pub fn f32(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), BundleError> {
        self.tensor(name, DType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Adds a tensor of `f16`.
    pub fn f16(&mut self, name: &str, shape: &[usize], values: &[f16]) -> Result<(), BundleError> {
        self.tensor(name, DType::F16, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Adds a tensor of `i8`.
    pub fn i8(&mut self, name: &str, shape: &[usize], values: &[i8]) -> Result<(), BundleError> {
        self.tensor(name, DType::I8, shape, values.iter().map(|v| v.cast_unsigned()).collect())
    }

    /// Adds a tensor of `i32`.
    pub fn i32(&mut self, name: &str, shape: &[usize], values: &[i32]) -> Result<(), BundleError> {
        self.tensor(name, DType::I32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Adds a tensor of `u8`.
    pub fn u8(&mut self, name: &str, shape: &[usize], values: Vec<u8>) -> Result<(), BundleError> {
        self.tensor(name, DType::U8, shape, values)
    }

    /// Writes the file. Whatever is at `path` stays as it was until the new file is complete, and is then replaced.
    pub fn write_to(self, path: &Path) -> Result<(), BundleError> {
        self.begin(path)?.finish()
    }

    /// Begins the file: the bytes of the tensors that were declared are still to come, and are written as they do.
    pub fn begin(self, path: &Path) -> Result<BundleFile, BundleError> {
        let (tensors, metadata) = self.parts()?;
        BundleFile::create(path, tensors, metadata)
    }

    /// The file's content in memory.
    pub fn into_bytes(self) -> Result<Vec<u8>, BundleError> {
        let (tensors, metadata) = self.parts()?;
        Ok(Body::begin("bundle in memory".into(), Cursor::new(Vec::new()), tensors, metadata)?.finish()?.into_inner())
    }

    /// The tensors and the metadata strings, without the checksums.
    fn parts(self) -> Result<(Vec<Slot>, BTreeMap<String, String>), BundleError> {
        for golden in &self.manifest.golden {
            for name in golden.expected.iter().chain([&golden.input]) {
                if !self.names.contains(name) {
                    return Err(rejected(&golden.name, format!("golden vector with tensor `{name}`, which was not added")));
                }
            }
        }
        let manifest = serde_json::to_string(&self.manifest).map_err(|error| rejected(MANIFEST_KEY, error.to_string()))?;
        let mut metadata = self.texts;
        metadata.insert(MANIFEST_KEY.to_owned(), manifest);
        Ok((self.tensors, metadata))
    }
}
