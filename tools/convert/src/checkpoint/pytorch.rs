//! PyTorch's files: a pickle that describes the tensors, and their bytes.
//!
//! A pickle is a program. [`pytorch_reader`] reads it as data: it knows the calls that rebuild tensors and runs nothing, and what else is
//! called it keeps by its name. A file with such a name in it is refused here: weights need none, and `torch.load` would run it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader};

use super::{Data, Element, Tensor};
use crate::ImportError;

/// What stands in a file of weights beside plain values.
const HARMLESS: [&str; 4] = ["torch.Tensor", "torch.TypedStorage", "torch.UntypedStorage", "torch.Size"];

/// Reads what the file describes; the tensors stay where they are.
pub fn open(path: &Path) -> Result<BTreeMap<String, Tensor>, ImportError> {
    let wrong = |error: PytorchError| match error {
        PytorchError::Io(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => ImportError::Io { path: path.to_owned(), source },
        error => ImportError::weights(path, format!("not a PyTorch file of weights: {error}; download it again, or take the safetensors")),
    };
    // A folder is no file everywhere.
    std::fs::File::open(path).map_err(ImportError::io(path))?;
    let values = PytorchReader::read_pickle_data(path, None).map_err(wrong)?;
    if let Some(name) = code(&values) {
        let reason = format!("it holds {name}, which is code and not weights; nothing of it was run, do not load this file with PyTorch");
        return Err(ImportError::weights(path, reason));
    }
    drop(values);
    let reader = PytorchReader::new(path).map_err(wrong)?;
    let file: Arc<Path> = Arc::from(path);
    let tensor = |tensor: pytorch_reader::Tensor| Tensor {
        element: element(tensor.dtype()),
        shape: tensor.shape().to_vec(),
        file: Arc::clone(&file),
        data: Data::PyTorch(tensor),
    };
    Ok(reader.into_tensors().into_iter().map(|(name, found)| (name, tensor(found))).collect())
}

/// The first class or call that has no place in weights.
fn code(value: &PickleValue) -> Option<&str> {
    match value {
        PickleValue::Unsupported(name) => (!is_harmless(name)).then_some(name),
        PickleValue::List(values) => values.iter().find_map(code),
        PickleValue::Dict(values) => values.values().find_map(code),
        _ => None,
    }
}

/// Tensors, and the types of their values (`torch.float32`).
fn is_harmless(name: &str) -> bool {
    let number = |name: &str| ["float", "bfloat", "int", "uint"].iter().any(|kind| name.starts_with(kind));
    HARMLESS.contains(&name) || name.strip_prefix("torch.").is_some_and(|name| number(name) && !name.contains('.'))
}

fn element(dtype: DType) -> Element {
    match dtype {
        DType::F64 => Element::F64,
        DType::F32 => Element::F32,
        DType::F16 => Element::F16,
        DType::BF16 => Element::Bf16,
        other => Element::Other(format!("{other:?}")),
    }
}
