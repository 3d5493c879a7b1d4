//! Writing a bundle.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use burn_pack::AtomicFile;
use burn_std::{Bytes, DType};
use half::f16;

use crate::reader::{CHECKSUMS_KEY, MANIFEST_KEY, RESERVED};
use crate::{BundleError, Manifest, layout, seal, verify};

/// Collects tensors and texts and writes them as one file.
///
/// The same content gives the same bytes: tensors lie in the order they were added, everything else is sorted.
pub struct BundleWriter {
    manifest: Manifest,
    texts: BTreeMap<String, String>,
    tensors: Vec<burn_pack::Tensor>,
    checksums: BTreeMap<String, String>,
}

impl BundleWriter {
    /// A bundle with this manifest and nothing else yet.
    pub fn new(manifest: Manifest) -> Self {
        Self { manifest, texts: BTreeMap::new(), tensors: Vec::new(), checksums: BTreeMap::new() }
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
        if name.is_empty() || name.starts_with(RESERVED) {
            return Err(rejected(name, "tensor names are not empty and do not start with `ocelli.`, which is the format's own".into()));
        }
        if !layout::supported(dtype) {
            return Err(rejected(name, format!("elements of type {dtype:?} are not for bundles")));
        }
        let needed = shape.iter().try_fold(dtype.size(), |product, &size| product.checked_mul(size));
        if needed != Some(bytes.len()) {
            return Err(rejected(name, format!("{} bytes of {dtype:?} do not fill the shape {shape:?}", bytes.len())));
        }
        if self.checksums.contains_key(name) {
            return Err(rejected(name, "added twice".into()));
        }
        self.checksums.insert(name.into(), verify::sha256(&bytes));
        self.tensors.push(burn_pack::Tensor::new(name.into(), dtype, shape.to_vec(), None, Bytes::from_bytes_vec(bytes)));
        Ok(())
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
        let bundle = path.display().to_string();
        let failed = |error: burn_pack::Error| BundleError::Write { bundle: bundle.clone(), reason: error.to_string() };
        let io = |error: std::io::Error| BundleError::Write { bundle: bundle.clone(), reason: error.to_string() };
        let container = self.container()?.auto_extension(false);

        let (scratch, reserved) = AtomicFile::create(path).map_err(failed)?;
        drop(reserved);
        container.write_to_file_in_place(scratch.path()).map_err(failed)?;
        // The head is known only now; its digest goes into the room that the container left for it at the end.
        let mut file = File::options().read(true).write(true).open(scratch.path()).map_err(io)?;
        let len = file.metadata().map_err(io)?.len() as usize;
        let mut start = [0; burn_pack::HEADER_SIZE];
        file.read_exact(&mut start).map_err(io)?;
        let mut head = vec![0; seal::header(&bundle, &start, len)?.head_len];
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        file.read_exact(&mut head).map_err(io)?;
        file.seek(SeekFrom::End(-(seal::LEN as i64))).map_err(io)?;
        file.write_all(&seal::of(&head)).map_err(io)?;
        file.sync_all().map_err(io)?;
        drop(file);
        scratch.commit().map_err(failed)
    }

    /// The file's content in memory.
    pub fn into_bytes(self) -> Result<Vec<u8>, BundleError> {
        let failed = |error: burn_pack::Error| BundleError::Write { bundle: "bundle in memory".into(), reason: error.to_string() };
        let container = self.container()?;
        let mut bytes = vec![0; container.size().map_err(failed)?];
        container.write_into(&mut bytes).map_err(failed)?;
        let header = seal::header("bundle in memory", &bytes, bytes.len())?;
        let seal = seal::of(&bytes[..header.head_len]);
        let at = bytes.len() - seal::LEN;
        bytes[at..].copy_from_slice(&seal);
        Ok(bytes)
    }

    /// The container, with zeros in place of the seal.
    fn container(mut self) -> Result<burn_pack::Writer, BundleError> {
        for golden in &self.manifest.golden {
            for name in golden.expected.iter().chain([&golden.input]) {
                if !self.checksums.contains_key(name) {
                    return Err(rejected(&golden.name, format!("golden vector with tensor `{name}`, which was not added")));
                }
            }
        }
        let manifest = serde_json::to_string(&self.manifest).map_err(|error| rejected(MANIFEST_KEY, error.to_string()))?;
        let checksums = serde_json::to_string(&self.checksums).map_err(|error| rejected(CHECKSUMS_KEY, error.to_string()))?;
        let room = Bytes::from_bytes_vec(vec![0; seal::LEN]);
        self.tensors.push(burn_pack::Tensor::new(seal::NAME.into(), DType::U8, [seal::LEN], None, room));
        let mut container =
            burn_pack::Writer::new(self.tensors).with_metadata(MANIFEST_KEY, &manifest).with_metadata(CHECKSUMS_KEY, &checksums);
        for (key, text) in &self.texts {
            container = container.with_metadata(key, text);
        }
        Ok(container)
    }
}

fn rejected(entry: &str, reason: String) -> BundleError {
    BundleError::Rejected { entry: entry.into(), reason }
}
