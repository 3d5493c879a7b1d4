//! GGUF files as checkpoints: tensors under transformers' names, whatever blocks their values are in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Data, Element, Tensor};
use crate::ImportError;
use crate::gguf::{Gguf, GgufError, GgufTensor};

/// Maps the file and reads its header.
pub fn open(path: &Path) -> Result<BTreeMap<String, Tensor>, ImportError> {
    let file: Arc<Path> = Arc::from(path);
    Ok(Gguf::open(path)?.tensors().map(|(name, found)| (name.to_owned(), tensor(&file, found))).collect())
}

/// Both files' tensors, under the names that they have in one model.
pub fn open_pair(language: &Path, projector: &Path) -> Result<BTreeMap<String, Tensor>, ImportError> {
    let mut tensors = BTreeMap::new();
    for path in [language, projector] {
        let file: Arc<Path> = Arc::from(path);
        for (name, found) in Gguf::open(path)?.tensors_within() {
            if tensors.insert(name, tensor(&file, found)).is_some() {
                let reason = "is in the other file, too; give a language model and its mmproj file".to_owned();
                let source = GgufError::Request { name: found.own_name.clone(), reason };
                return Err(ImportError::Gguf { path: path.to_owned(), source });
            }
        }
    }
    Ok(tensors)
}

fn tensor(file: &Arc<Path>, found: &GgufTensor) -> Tensor {
    let kind = found.stored.kind();
    let element = match kind.name {
        "F64" => Element::F64,
        "F32" => Element::F32,
        "F16" => Element::F16,
        "BF16" => Element::Bf16,
        _ if kind.is_read() => Element::Blocks(kind),
        name => Element::Other(name.to_owned()),
    };
    Tensor { element, shape: found.shape.clone(), file: Arc::clone(file), data: Data::Gguf(found.stored.clone()) }
}
