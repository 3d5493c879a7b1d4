//! safetensors: the length of a JSON header, the header, and the tensors' bytes, <https://github.com/huggingface/safetensors#format>.
//!
//! Read here rather than by the crate `safetensors`, which says that a header is wrong, and not which tensor of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::{Data, Element, Tensor};
use crate::ImportError;

/// Longest header that is read, in bytes. Those of the largest models have a few megabytes.
pub const MAX_HEADER_BYTES: u64 = 1 << 24;

/// A header, in file order. Names that come twice come twice.
struct Header(Vec<(String, Info)>);

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with an entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Maps the file and reads its header.
pub fn open(path: &Path) -> Result<BTreeMap<String, Tensor>, ImportError> {
    let bytes = ocelli_bundle::map(path).map_err(ImportError::io(path))?;
    let wrong = |reason: String| ImportError::weights(path, reason);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(wrong(format!("{} bytes are no safetensors file; download it again", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        // A pointer of git-lfs in place of the file is a common case, and is text.
        let hint = if bytes.starts_with(b"version https://git-lfs") {
            "it is a pointer of git-lfs, not the file; run `git lfs pull`"
        } else {
            "it is no safetensors file; download it again"
        };
        return Err(wrong(format!("its header claims {length} bytes, and {MAX_HEADER_BYTES} are the limit: {hint}")));
    }
    let Some(header) = rest.get(..length as usize) else {
        return Err(wrong(format!("cut short: its header has {length} bytes, and {} follow; download the file again", rest.len())));
    };
    let header: Header =
        serde_json::from_slice(header).map_err(|error| wrong(format!("its header is damaged ({error}); download the file again")))?;
    let data = bytes.slice(8 + length as usize..);
    let file: Arc<Path> = Arc::from(path);
    let mut tensors = BTreeMap::new();
    for (name, info) in header.0 {
        let (start, end) = check(&name, &info, data.len()).map_err(wrong)?;
        let element = Element::named(&info.dtype);
        let tensor = Tensor { element, shape: info.shape, file: Arc::clone(&file), data: Data::Mapped(data.slice(start..end)) };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(wrong(format!("its header has tensor {name} twice; download the file again")));
        }
    }
    Ok(tensors)
}

/// A tensor's place: within the file, and as long as its shape and type say.
fn check(name: &str, info: &Info, data: usize) -> Result<(usize, usize), String> {
    let (start, end) = info.data_offsets;
    if start > end {
        return Err(format!("tensor {name} is said to begin at byte {start} and to end at {end}; the file is damaged, download it again"));
    }
    if end > data {
        return Err(format!("cut short: tensor {name} ends at byte {end} of the data, and there are {data}; download the file again"));
    }
    let bits = match info.dtype.as_str() {
        "F64" | "I64" | "U64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => 8,
        // A type that is not read has a length that does not matter.
        _ => return Ok((start, end)),
    };
    let needed = info.shape.iter().try_fold(bits / 8, |product: usize, &side| product.checked_mul(side));
    if needed == Some(end - start) {
        return Ok((start, end));
    }
    let has = end - start;
    Err(format!(
        "tensor {name} has {has} bytes, which are not {} of shape {:?}; the file is damaged, download it again",
        info.dtype, info.shape
    ))
}
