//! The burnpack container as it is written: where the tensors go, and the bytes before them.
//!
//! [`burn_pack::Writer`] writes a tensor in one piece from memory. A bundle's tensors are written in pieces and in any order, so the head is
//! put together here; a test holds it to what `burn_pack` writes.

use std::collections::BTreeMap;

use burn_pack::{Header, TENSOR_ALIGNMENT, aligned_data_section_start};
use burn_std::DType;
use serde::Serialize;

/// A tensor that is to be written.
pub struct Planned<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: &'a [usize],
    /// In bytes.
    pub len: usize,
}

/// Everything before the first tensor, and where the tensors go.
pub struct Head {
    /// Header, metadata, and zeros up to the first tensor.
    pub bytes: Vec<u8>,
    /// Where each tensor starts, in bytes from the start of the file.
    pub starts: Vec<u64>,
    /// Length of the file.
    pub file_len: u64,
}

/// As `burn_pack` serialises it, field by field.
#[derive(Serialize)]
struct Metadata<'a> {
    tensors: BTreeMap<&'a str, Descriptor>,
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Descriptor {
    dtype: DType,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The head of a file with these tensors, in this order, and these metadata strings.
///
/// # Errors
/// A sentence, where there is more than a container holds.
pub fn head(tensors: &[Planned<'_>], metadata: &BTreeMap<String, String>) -> Result<Head, String> {
    if tensors.len() > burn_pack::MAX_TENSOR_COUNT {
        return Err(format!("{} tensors are more than a bundle holds ({})", tensors.len(), burn_pack::MAX_TENSOR_COUNT));
    }
    let mut descriptors = BTreeMap::new();
    let mut starts = Vec::with_capacity(tensors.len());
    let mut end = 0u64;
    for tensor in tensors {
        if tensor.len > burn_pack::MAX_TENSOR_SIZE {
            let limit = burn_pack::MAX_TENSOR_SIZE;
            return Err(format!("tensor `{}` has {} bytes, and a bundle's have at most {limit}", tensor.name, tensor.len));
        }
        let start = end.next_multiple_of(TENSOR_ALIGNMENT);
        end = start + tensor.len as u64;
        let shape = tensor.shape.iter().map(|&side| side as u64).collect();
        descriptors.insert(tensor.name, Descriptor { dtype: tensor.dtype, shape, data_offsets: (start, end) });
        starts.push(start);
    }
    let mut strings = Vec::new();
    ciborium::ser::into_writer(&Metadata { tensors: descriptors, metadata }, &mut strings).map_err(|error| error.to_string())?;
    let length = u32::try_from(strings.len()).ok().filter(|&length| length <= burn_pack::MAX_METADATA_SIZE);
    let Some(length) = length else {
        return Err(format!("{} bytes of texts and names are more than a bundle holds ({})", strings.len(), burn_pack::MAX_METADATA_SIZE));
    };
    let first = aligned_data_section_start(strings.len());
    let mut bytes = Header::new(length).into_bytes().to_vec();
    bytes.append(&mut strings);
    bytes.resize(first, 0);
    starts.iter_mut().for_each(|start| *start += first as u64);
    Ok(Head { bytes, starts, file_len: first as u64 + end })
}

#[cfg(test)]
mod tests {
    use burn_std::Bytes;

    use super::*;

    #[test]
    fn the_head_is_what_burn_pack_writes() {
        let tensors = [("b", DType::F32, vec![2usize, 3], 24usize), ("a", DType::I8, vec![300], 300), ("none", DType::F16, vec![0, 4], 0)];
        let metadata: BTreeMap<String, String> = [("labels".to_owned(), "Katze\n猫".to_owned()), ("x".to_owned(), String::new())].into();
        let theirs = tensors.iter().map(|(name, dtype, shape, len)| {
            burn_pack::Tensor::new((*name).into(), *dtype, shape.clone(), None, Bytes::from_bytes_vec(vec![7; *len]))
        });
        let mut theirs = burn_pack::Writer::new(theirs.collect());
        for (key, text) in &metadata {
            theirs = theirs.with_metadata(key, text);
        }
        let theirs = theirs.into_bytes().unwrap();

        let planned: Vec<Planned<'_>> =
            tensors.iter().map(|(name, dtype, shape, len)| Planned { name, dtype: *dtype, shape, len: *len }).collect();
        let ours = head(&planned, &metadata).unwrap();
        assert_eq!(ours.file_len, theirs.len() as u64);
        assert_eq!(ours.bytes, theirs[..ours.bytes.len()]);
        for (tensor, &start) in planned.iter().zip(&ours.starts) {
            assert!(theirs[start as usize..start as usize + tensor.len].iter().all(|&byte| byte == 7), "{}", tensor.name);
        }
    }

    #[test]
    fn more_than_fits_is_refused() {
        let error = head(&[Planned { name: "w", dtype: DType::U8, shape: &[], len: usize::MAX }], &BTreeMap::new()).err().unwrap();
        assert!(error.contains("tensor `w`"), "{error}");
    }
}
