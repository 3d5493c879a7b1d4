//! The file: a header, metadata, descriptions of tensors, and their bytes,
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! The file is mapped, and nothing is believed: a length or a count is compared with what follows before anything is done with it, so that
//! memory is needed for what is there and not for what is claimed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

use super::blocks::BlockType;
use super::error::GgufError;
use super::value::{Metadata, Value};

/// Most keys of the metadata: a hundred times what the largest have.
pub const MAX_KEYS: u64 = 1 << 16;
/// Most tensors: ten times what the largest models have.
pub const MAX_TENSORS: u64 = 1 << 16;
/// Longest key and longest name of a tensor, in bytes. ggml itself stops at 64 for names.
pub const MAX_NAME_BYTES: u64 = 1 << 10;
/// Most axes of a tensor, as in ggml.
pub const MAX_AXES: u32 = 4;
/// Of the tensors' bytes, unless the metadata say otherwise.
const ALIGNMENT: u64 = 32;

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Contents {
    /// 2 or 3.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// In the order of the file.
    pub tensors: Vec<RawTensor>,
}

/// A tensor as the file describes it.
#[derive(Debug, Clone)]
pub struct RawTensor {
    /// Its name in the file.
    pub name: String,
    /// How its values are written.
    pub kind: &'static BlockType,
    /// Sizes, outermost first. The file has them the other way round.
    pub shape: Vec<usize>,
    /// Its values, as many as the shape says.
    pub bytes: Bytes,
}

/// A place in a file, and how to go on from there.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// An error unless so many bytes follow; their number, which fits then.
    pub fn follow(&self, needs: u64, what: &str) -> Result<usize, GgufError> {
        let has = self.bytes.len() - self.at;
        usize::try_from(needs).ok().filter(|&needs| needs <= has).ok_or_else(|| GgufError::CutShort {
            what: what.to_owned(),
            at: self.at as u64,
            needs,
            has: has as u64,
        })
    }

    pub fn skip(&mut self, count: u64, what: &str) -> Result<(), GgufError> {
        self.at += self.follow(count, what)?;
        Ok(())
    }

    /// What lies between `start` and here.
    pub fn since(&self, start: usize) -> Bytes {
        self.bytes.slice(start..self.at)
    }

    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let start = self.at;
        self.skip(N as u64, what)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[start..self.at]);
        Ok(array)
    }

    pub fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and as many bytes.
    pub fn text(&mut self, what: &str) -> Result<Bytes, GgufError> {
        let length = self.u64(what)?;
        let start = self.at;
        self.skip(length, what)?;
        Ok(self.since(start))
    }

    /// A key or a tensor's name: short, not empty, UTF-8.
    fn name(&mut self, what: &str) -> Result<String, GgufError> {
        let bytes = self.text(what)?;
        let length = bytes.len() as u64;
        let wrong = |reason: String| self.damaged(bytes.len() + 8, what, reason);
        if length == 0 || length > MAX_NAME_BYTES {
            return Err(wrong(format!("has {length} bytes, and 1 to {MAX_NAME_BYTES} are read")));
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| wrong("is no UTF-8".to_owned()))
    }

    /// An error about what began `back` bytes before here.
    pub fn damaged(&self, back: usize, what: &str, reason: String) -> GgufError {
        GgufError::Damaged { what: what.to_owned(), at: (self.at - back.min(self.at)) as u64, reason }
    }
}

/// Reads everything but the tensors' values.
///
/// # Errors
/// Where it is another kind of file, cut short, damaged, or claims what cannot be.
pub fn read(file: &Bytes) -> Result<Contents, GgufError> {
    let mut cursor = Cursor::new(file);
    magic(file)?;
    cursor.skip(4, "the header")?;
    let version = cursor.u32("the header")?;
    if version & 0xffff == 0 && version != 0 {
        return Err(GgufError::BigEndian { version });
    }
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version { version });
    }
    let mut counted = |what, limit, least: u64| {
        let at = cursor.at() as u64;
        let count = cursor.u64("the header")?;
        if count > limit {
            return Err(GgufError::TooMany { what, at, count, limit });
        }
        cursor.follow(count * least, what)?;
        Ok(count)
    };
    // A name's length, a type and a byte at least; a name's length, the number of axes, a type and an offset.
    let tensors = counted("tensors", MAX_TENSORS, 24)?;
    let keys = counted("keys of metadata", MAX_KEYS, 13)?;
    let metadata = metadata(&mut cursor, keys)?;
    let described = (0..tensors).map(|_| Described::read(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
    let alignment = alignment(&metadata)?;
    let start = (cursor.at() as u64).next_multiple_of(alignment);
    check(&described, alignment, start, file.len() as u64)?;
    let tensors = described.into_iter().map(|tensor| tensor.placed(start, file)).collect();
    Ok(Contents { version, metadata, tensors })
}

fn magic(file: &[u8]) -> Result<(), GgufError> {
    let foreign = |reason: &str| Err(GgufError::Foreign(reason.to_owned()));
    match file.first_chunk::<4>() {
        Some(b"GGUF") => Ok(()),
        Some(b"FUGG") => foreign("its letters are in the order of a big-endian machine; take the little-endian file"),
        // Pointers of git-lfs in place of the files are common, and are text.
        Some(b"vers") if file.starts_with(b"version https://git-lfs") => {
            foreign("it is a pointer of git-lfs, not the file; run `git lfs pull`")
        }
        Some(b"lmgg" | b"fmgg" | b"tjgg" | b"algg") => {
            foreign("it is of a format before GGUF; convert the model again with a recent llama.cpp")
        }
        Some(_) => foreign("it does not begin with the letters GGUF; download it again"),
        None => foreign(&format!("it has {} bytes; download it again", file.len())),
    }
}

fn metadata(cursor: &mut Cursor, keys: u64) -> Result<Metadata, GgufError> {
    let mut metadata = BTreeMap::new();
    for number in 0..keys {
        let start = cursor.at();
        let key = cursor.name(&format!("key {number} of the metadata"))?;
        let value = Value::read(cursor, &format!("the value of {key}"))?;
        match metadata.entry(key) {
            Entry::Vacant(entry) => entry.insert(value),
            Entry::Occupied(entry) => {
                return Err(cursor.damaged(cursor.at() - start, &format!("key {}", entry.key()), "is there twice".to_owned()));
            }
        };
    }
    Ok(Metadata(metadata))
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.count(KEY)?.unwrap_or(ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        let reason = format!("is {alignment}, and it should be a power of two up to 1048576; the file is damaged, download it again");
        return Err(GgufError::metadata(KEY, reason));
    }
    Ok(alignment)
}

/// A tensor's description, which fits into itself.
struct Described {
    /// Where it stands.
    at: u64,
    name: String,
    kind: &'static BlockType,
    shape: Vec<usize>,
    /// Of its values behind the first tensor's.
    offset: u64,
    /// Of its values.
    bytes: u64,
}

impl Described {
    fn read(cursor: &mut Cursor) -> Result<Self, GgufError> {
        let at = cursor.at() as u64;
        let name = cursor.name("a tensor's name")?;
        let wrong = |reason: String| GgufError::Tensor { name: name.clone(), at, reason };
        let what = format!("the description of tensor {name}");
        let axes = cursor.u32(&what)?;
        if axes > MAX_AXES {
            return Err(wrong(format!("is said to have {axes} axes, and {MAX_AXES} are the most")));
        }
        let mut sides = Vec::with_capacity(axes as usize);
        for _ in 0..axes {
            sides.push(cursor.u64(&what)?);
        }
        let number = cursor.u32(&what)?;
        let offset = cursor.u64(&what)?;
        let kind = BlockType::of(number)
            .ok_or_else(|| GgufError::Type { name: name.clone(), kind: format!("number {number}, which is unknown") })?;
        let said = || sides.iter().rev().map(u64::to_string).collect::<Vec<_>>().join(" x ");
        let elements = sides.iter().try_fold(1u64, |product, &side| product.checked_mul(side)).filter(|&elements| elements > 0);
        let elements = elements.ok_or_else(|| wrong(format!("is said to be {}, which is no size", said())))?;
        let innermost = sides.first().copied().unwrap_or(1);
        if !innermost.is_multiple_of(kind.block as u64) {
            let (block, kind) = (kind.block, kind.name);
            return Err(wrong(format!("has rows of {innermost} values, which are no whole blocks of {block} ({kind})")));
        }
        let bytes = (elements / kind.block as u64).checked_mul(kind.bytes as u64);
        let bytes = bytes.ok_or_else(|| wrong(format!("is said to be {}, which no file can hold", said())))?;
        let shape: Option<Vec<usize>> = sides.iter().rev().map(|&side| usize::try_from(side).ok()).collect();
        let shape = shape.ok_or_else(|| wrong(format!("is said to be {}, which no memory can hold", said())))?;
        Ok(Self { at, name, kind, shape, offset, bytes })
    }

    fn wrong(&self, reason: String) -> GgufError {
        GgufError::Tensor { name: self.name.clone(), at: self.at, reason }
    }

    /// [`check`] has compared all of it with the file.
    fn placed(self, start: u64, file: &Bytes) -> RawTensor {
        let first = (start + self.offset) as usize;
        RawTensor { name: self.name, kind: self.kind, shape: self.shape, bytes: file.slice(first..first + self.bytes as usize) }
    }
}

/// Every tensor lies in the file, where it may begin, and on no other.
fn check(tensors: &[Described], alignment: u64, start: u64, file: u64) -> Result<(), GgufError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    if let Some([_, twice]) = names.array_windows().find(|[one, next]| one == next)
        && let Some(second) = tensors.iter().rfind(|tensor| tensor.name == *twice)
    {
        return Err(second.wrong("is there twice".to_owned()));
    }
    for tensor in tensors {
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(tensor.wrong(format!("begins at byte {} of the data, which is no multiple of {alignment}", tensor.offset)));
        }
        let end = start.checked_add(tensor.offset).and_then(|first| first.checked_add(tensor.bytes));
        if end.is_none_or(|end| end > file) {
            let at = start.saturating_add(tensor.offset);
            let what = format!("tensor {}", tensor.name);
            return Err(GgufError::CutShort { what, at, needs: tensor.bytes, has: file.saturating_sub(at) });
        }
    }
    let mut placed: Vec<&Described> = tensors.iter().collect();
    placed.sort_by_key(|tensor| tensor.offset);
    match placed.array_windows().find(|[one, next]| one.offset + one.bytes > next.offset) {
        Some([one, next]) => Err(next.wrong(format!("lies on tensor {}", one.name))),
        None => Ok(()),
    }
}
