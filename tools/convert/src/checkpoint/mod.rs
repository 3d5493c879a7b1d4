//! A checkpoint's tensors: their names, types and shapes, and their values one tensor at a time.

mod gguf;
mod pytorch;
mod safetensors;
mod shards;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};

pub use safetensors::MAX_HEADER_BYTES;

use crate::ImportError;
use crate::gguf::blocks::{BlockType, Integers};
use crate::gguf::stored::Stored;
use crate::source::Weights;

/// Everything that the files of a checkpoint hold. Nothing is read until [`Tensor::load`].
#[derive(Debug, Default)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
    /// The files of weights, the index included.
    pub files: Vec<PathBuf>,
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Type of its values.
    pub element: Element,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The file it is in.
    pub file: Arc<Path>,
    data: Data,
}

/// Type of a tensor's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// Double precision.
    F64,
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Single precision's range in 16 bits.
    Bf16,
    /// Blocks of small integers, of a GGUF file.
    Blocks(&'static BlockType),
    /// No float that is read: its name in the file.
    Other(String),
}

#[derive(Debug, Clone)]
enum Data {
    Mapped(Bytes),
    PyTorch(pytorch_reader::Tensor),
    Gguf(Stored),
}

/// A tensor whose bytes are at hand: of the mapped file, or read from a PyTorch file.
#[derive(Debug, Clone)]
pub struct Loaded(Values);

#[derive(Debug, Clone)]
enum Values {
    Plain { element: Element, bytes: Bytes },
    Gguf(Stored),
}

impl Checkpoint {
    /// Opens the files and reads their headers.
    ///
    /// # Errors
    /// Where a file is missing, damaged, or holds what no weights are made of.
    pub fn open(weights: &Weights) -> Result<Self, ImportError> {
        match weights {
            Weights::Index(index) => shards::open(index),
            Weights::Pair(language, projector) => Self::open_pair(language, projector),
            Weights::File(path) => Ok(Self { tensors: open_file(path)?, files: vec![path.clone()] }),
        }
    }

    /// A language model and its projector, two GGUF files, as one model that reads pictures.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn open_pair(language: &Path, projector: &Path) -> Result<Self, ImportError> {
        Ok(Self { tensors: gguf::open_pair(language, projector)?, files: vec![language.to_owned(), projector.to_owned()] })
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All names.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

fn open_file(path: &Path) -> Result<BTreeMap<String, Tensor>, ImportError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => safetensors::open(path),
        Some("gguf") => gguf::open(path),
        _ => pytorch::open(path),
    }
}

impl Tensor {
    /// Makes its bytes available: of safetensors they stay where they are, of PyTorch they are read.
    ///
    /// # Errors
    /// Where the file cannot be read or disagrees with itself.
    pub fn load(&self) -> Result<Loaded, ImportError> {
        let bytes = match &self.data {
            Data::Gguf(stored) => return Ok(Loaded(Values::Gguf(stored.clone()))),
            Data::Mapped(bytes) => bytes.clone(),
            Data::PyTorch(tensor) => {
                Bytes::from(tensor.read().map_err(|error| ImportError::weights(&self.file, format!("{error}; download the file again")))?)
            }
        };
        Ok(Loaded(Values::Plain { element: self.element.clone(), bytes }))
    }
}

impl Element {
    /// As safetensors call it.
    fn named(name: &str) -> Self {
        match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether its values are floats that are read.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Blocks(kind) => kind.is_read(),
            Self::Other(_) => false,
            _ => true,
        }
    }
}

impl Loaded {
    /// Puts the values of a range of elements behind `values`. Elements outside the tensor are left out.
    pub fn append(&self, range: Range<usize>, values: &mut Vec<f32>) {
        fn all<const N: usize>(bytes: &[u8], range: Range<usize>, values: &mut Vec<f32>, read: impl Fn([u8; N]) -> f32) {
            let (elements, _) = bytes.as_chunks::<N>();
            values.extend(elements.get(range).unwrap_or_default().iter().map(|&element| read(element)));
        }
        let (element, bytes) = match &self.0 {
            Values::Plain { element, bytes } => (element, bytes),
            Values::Gguf(stored) => return stored.append(range, values),
        };
        match element {
            Element::F64 => all(bytes, range, values, |element| f64::from_le_bytes(element) as f32),
            Element::F32 => all(bytes, range, values, f32::from_le_bytes),
            Element::F16 => all(bytes, range, values, |element| f16::from_le_bytes(element).to_f32()),
            Element::Bf16 => all(bytes, range, values, |element| bf16::from_le_bytes(element).to_f32()),
            Element::Blocks(_) | Element::Other(_) => {}
        }
    }

    /// The integers of a range of elements that are whole rows, exactly as a GGUF file has them; `None` where they are floats, or integers
    /// that are not in groups of 32 with an f16 scale.
    pub fn integers(&self, range: Range<usize>) -> Option<Integers> {
        let Values::Gguf(stored) = &self.0 else { return None };
        let columns = stored.columns();
        let whole = range.start.is_multiple_of(columns) && range.end.is_multiple_of(columns);
        if whole { stored.integers(range.start / columns..range.end / columns) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_every_width() {
        let values = |element: Element, bytes: Vec<u8>| {
            let mut values = Vec::new();
            Loaded(Values::Plain { element, bytes: Bytes::from(bytes) }).append(1..3, &mut values);
            values
        };
        let wanted = [1.5f32, -0.25, 1024.0];
        let bytes = |one: &dyn Fn(f32) -> Vec<u8>| wanted.iter().flat_map(|&x| one(x)).collect::<Vec<u8>>();
        assert_eq!(values(Element::F64, bytes(&|x| f64::from(x).to_le_bytes().to_vec())), wanted[1..]);
        assert_eq!(values(Element::F32, bytes(&|x| x.to_le_bytes().to_vec())), wanted[1..]);
        assert_eq!(values(Element::F16, bytes(&|x| f16::from_f32(x).to_le_bytes().to_vec())), wanted[1..]);
        assert_eq!(values(Element::Bf16, bytes(&|x| bf16::from_f32(x).to_le_bytes().to_vec())), wanted[1..]);
        assert_eq!(values(Element::F32, vec![0; 8]), Vec::<f32>::new(), "a range that is not there");
    }
}
