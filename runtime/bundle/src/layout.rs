//! Where tensors may lie: on 256-byte boundaries, none over another, no more than padding between, the seal last.
//!
//! Nothing that burnpack itself asks for, but what its writer does. It leaves no byte of the file outside the checksums.

use std::ops::Range;

use burn_pack::TENSOR_ALIGNMENT;

use crate::{BundleError, DType, seal};

/// A tensor's descriptor with its place in the file.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// In bytes from the start of the file.
    pub range: Range<usize>,
}

/// Element types that a bundle may hold: those whose bytes mean the same everywhere.
pub fn supported(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::F64
            | DType::F32
            | DType::F16
            | DType::BF16
            | DType::I64
            | DType::I32
            | DType::I16
            | DType::I8
            | DType::U32
            | DType::U16
            | DType::U8
    )
}

/// Checks the entries of a file of `file_len` bytes whose tensors start at `head_len`; returns them in file order, seal included.
pub fn check(bundle: &str, mut entries: Vec<Entry>, head_len: usize, file_len: usize) -> Result<Vec<Entry>, BundleError> {
    // Empty tensors share their offset with the one after them and must come first.
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let alignment = TENSOR_ALIGNMENT as usize;
    let mut end = head_len;
    for entry in &entries {
        let malformed = |reason: String| BundleError::Malformed {
            bundle: bundle.into(),
            place: format!("tensor `{}` at byte {}", entry.name, entry.range.start),
            reason,
        };
        if !supported(entry.dtype) {
            return Err(malformed(format!("elements of type {:?} are not for bundles", entry.dtype)));
        }
        if entry.range.start != end.next_multiple_of(alignment) {
            return Err(malformed(format!("the tensor before it ends at byte {end}")));
        }
        end = entry.range.end;
    }
    match entries.last() {
        Some(last) if last.name == seal::NAME && end == file_len && last.range.len() == seal::LEN => Ok(entries),
        _ => Err(BundleError::Malformed {
            bundle: bundle.into(),
            place: format!("byte {end}"),
            reason: format!("the file should end here with the seal, but has {file_len} bytes"),
        }),
    }
}
