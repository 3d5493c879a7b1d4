//! Metadata: keys and values. Strings and arrays stay where they are in the file; they were walked through once when it was opened.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::GgufError;
use super::reader::Cursor;

/// Most arrays within arrays.
const MAX_DEPTH: usize = 4;

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `u8`, `u16`, `u32`, `u64`.
    Unsigned(u64),
    /// `i8`, `i16`, `i32`, `i64`.
    Signed(i64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// A string, which should be UTF-8 and need not.
    Text(Bytes),
    /// Values of one type.
    Array(Array),
}

/// An array of the metadata: read as it is gone through.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    element: ValueType,
    count: usize,
    bytes: Bytes,
}

/// The type of a value, by its number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    fn of(number: u32) -> Option<Self> {
        const ALL: [ValueType; 13] = [
            ValueType::U8,
            ValueType::I8,
            ValueType::U16,
            ValueType::I16,
            ValueType::U32,
            ValueType::I32,
            ValueType::F32,
            ValueType::Bool,
            ValueType::Text,
            ValueType::Array,
            ValueType::U64,
            ValueType::I64,
            ValueType::F64,
        ];
        ALL.get(number as usize).copied()
    }

    /// Bytes of a value; `None`: they differ.
    fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }
}

impl Value {
    /// Reads a value's type and the value. `what` is said where it is wrong.
    pub(super) fn read(cursor: &mut Cursor, what: &str) -> Result<Self, GgufError> {
        let kind = value_type(cursor, what)?;
        Self::of_type(cursor, kind, what, 0)
    }

    fn of_type(cursor: &mut Cursor, kind: ValueType, what: &str, depth: usize) -> Result<Self, GgufError> {
        Ok(match kind {
            ValueType::U8 => Self::Unsigned(u64::from(u8::from_le_bytes(cursor.array(what)?))),
            ValueType::U16 => Self::Unsigned(u64::from(u16::from_le_bytes(cursor.array(what)?))),
            ValueType::U32 => Self::Unsigned(u64::from(u32::from_le_bytes(cursor.array(what)?))),
            ValueType::U64 => Self::Unsigned(u64::from_le_bytes(cursor.array(what)?)),
            ValueType::I8 => Self::Signed(i64::from(i8::from_le_bytes(cursor.array(what)?))),
            ValueType::I16 => Self::Signed(i64::from(i16::from_le_bytes(cursor.array(what)?))),
            ValueType::I32 => Self::Signed(i64::from(i32::from_le_bytes(cursor.array(what)?))),
            ValueType::I64 => Self::Signed(i64::from_le_bytes(cursor.array(what)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(cursor.array(what)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(cursor.array(what)?)),
            ValueType::Bool => match cursor.array(what)? {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                [other] => return Err(cursor.damaged(1, what, format!("is {other} where true is 1 and false is 0"))),
            },
            ValueType::Text => Self::Text(cursor.text(what)?),
            ValueType::Array => Self::Array(Array::read(cursor, what, depth)?),
        })
    }

    /// What it is, for errors.
    fn name(&self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::F32(_) | Self::F64(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
        }
    }

    /// An integer that is not negative.
    pub fn count(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// A number. Single precision becomes the shortest decimal that means it: 1e-5 and not 9.999999747378752e-6.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::F32(value) => value.to_string().parse().ok(),
            Self::F64(value) => Some(value),
            Self::Unsigned(value) => Some(value as f64),
            Self::Signed(value) => Some(value as f64),
            _ => None,
        }
    }

    /// A string that is UTF-8.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

fn value_type(cursor: &mut Cursor, what: &str) -> Result<ValueType, GgufError> {
    let number = cursor.u32(what)?;
    ValueType::of(number).ok_or_else(|| cursor.damaged(4, what, format!("has the type {number}, and there are types 0 to 12")))
}

impl Array {
    fn read(cursor: &mut Cursor, what: &str, depth: usize) -> Result<Self, GgufError> {
        if depth == MAX_DEPTH {
            return Err(cursor.damaged(0, what, format!("has arrays within arrays, more than {MAX_DEPTH} deep")));
        }
        let element = value_type(cursor, what)?;
        let count = cursor.u64(what)?;
        let start = cursor.at();
        match element.size() {
            Some(size) => {
                // Where the product is too large for a number, the file is too short for it.
                cursor.skip(count.saturating_mul(size as u64), what)?;
            }
            None => {
                // The least that each takes: the length of a string; the type and the length of an array.
                let least = if element == ValueType::Text { 8 } else { 12 };
                cursor.follow(count.saturating_mul(least), what)?;
                for _ in 0..count {
                    Value::of_type(cursor, element, what, depth + 1)?;
                }
            }
        }
        // As many as were gone through fit into memory.
        Ok(Self { element, count: usize::try_from(count).unwrap_or(usize::MAX), bytes: cursor.since(start) })
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether its values are strings.
    pub fn is_text(&self) -> bool {
        self.element == ValueType::Text
    }

    /// Its values. A byte that is neither true nor false ends them.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let mut cursor = Cursor::new(&self.bytes);
        (0..self.count).map_while(move |_| Value::of_type(&mut cursor, self.element, "array", 0).ok())
    }
}

/// Keys and values, in the order of the keys.
#[derive(Debug, Clone, Default)]
pub struct Metadata(pub(super) BTreeMap<String, Value>);

impl Metadata {
    /// A value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || GgufError::metadata(key, format!("is {} and should be {wanted}; convert the model again", value.name()));
        read(value).map(Some).ok_or_else(wrong)
    }

    /// A string.
    ///
    /// # Errors
    /// Where it is something else, or no UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a string of UTF-8", Value::text)
    }

    /// An integer that is not negative.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn count(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an integer from 0 on", Value::count)
    }

    /// A number that is finite.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a finite number", |value| value.number().filter(|number| number.is_finite()))
    }

    /// True or false.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| if let Value::Bool(flag) = value { Some(*flag) } else { None })
    }

    /// An array.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn array(&self, key: &str) -> Result<Option<&Array>, GgufError> {
        self.typed(key, "an array", |value| if let Value::Array(array) = value { Some(array) } else { None })
    }

    /// What stands under `key`, and an error where nothing does.
    pub(super) fn need<T>(&self, key: &str, found: Result<Option<T>, GgufError>) -> Result<T, GgufError> {
        found?.ok_or_else(|| GgufError::metadata(key, "is missing; convert the model again with a recent llama.cpp"))
    }
}
