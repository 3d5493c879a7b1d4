//! The table's rows from the checkpoint's tensors.
//!
//! A row's pieces, joined along their first axis, are the matrix that is stored, output channels first; it is read, rounded and written a block
//! of rows at a time. Panels of the kernels' order are whole in every block, so that blocks one after another are the whole in that order.

use std::collections::BTreeMap;
use std::ops::Range;

use half::f16;
use ocelli_bundle::{BundleError, BundleFile};
use ocelli_flow::LowRank;
use ocelli_models::table::{Form, Kind, Piece, Row, Storage};
use ocelli_models::weights::{self, Part, Recipe};
use ocelli_ops::GroupBits;
use ocelli_ops::pack::PackError;

use crate::checkpoint::{Checkpoint, Element, Loaded, Tensor};
use crate::gguf::blocks::Integers;
use crate::{ImportError, lora};

/// Values of a block, about: a megabyte of floats.
const BLOCK: usize = 1 << 18;
/// Blocks have a multiple of so many rows: every panel of the kernels' order has 16.
const ROWS: usize = 16;

/// Compares a checkpoint with the table; what it says of what is wrong names the first few tensors.
pub fn check(checkpoint: &Checkpoint, rows: &[Row], prefix: &str) -> Result<(), String> {
    // In the order of the table; a tensor that is used twice is said once.
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for piece in rows.iter().flat_map(|row| &row.pieces) {
        let name = format!("{prefix}{}", piece.name);
        let said = match checkpoint.get(&name) {
            None => {
                if !missing.contains(&name) {
                    missing.push(name);
                }
                continue;
            }
            Some(Tensor { shape, .. }) if !piece.fits(shape) => format!("{name} has shape {shape:?}, the model needs {:?}", piece.shape),
            Some(Tensor { element, .. }) if !element.is_read() => {
                format!(
                    "{name} has values of type {element:?}, and only F64, F32, F16, BF16 and GGUF's Q4_0 to Q8_0 and Q2_K to Q6_K are read"
                )
            }
            Some(_) => continue,
        };
        if !wrong.contains(&said) {
            wrong.push(said);
        }
    }
    let few = |names: &[String]| {
        let more = names.len().saturating_sub(3);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{more}", names[..names.len().min(3)].join(", "))
    };
    match (missing.len(), wrong.len()) {
        (0, 0) => Ok(()),
        (0, _) => Err(format!("tensor {}", few(&wrong))),
        (1, _) => Err(format!("tensor {} is missing", missing[0])),
        (count, _) => Err(format!("{count} tensors are missing: {}", few(&missing))),
    }
}

/// How a row is stored; `None`: as the checkpoint keeps its pieces.
pub fn recipe(row: &Row, storage: Option<Storage>, checkpoint: &Checkpoint, prefix: &str) -> Recipe {
    if let Some(storage) = storage {
        return row.recipe(storage);
    }
    let elements: Vec<&Element> = elements(row, checkpoint, prefix).collect();
    let blocks = |element: &&Element| matches!(element, Element::Blocks(_));
    let int4 = |element: &&Element| matches!(element, Element::Blocks(kind) if kind.group_bits() == Some(GroupBits::Int4));
    row.recipe_of(if elements.iter().all(int4) {
        Form::Int4
    } else if elements.iter().any(blocks) {
        Form::Int8Groups
    } else if elements.iter().all(|element| **element == Element::F16) {
        Form::F16
    } else {
        Form::F32
    })
}

/// Types of integers that are not kept as they are where a checkpoint's weights are, and of how many tensors.
pub fn rounded(rows: &[Row], storage: Option<Storage>, checkpoint: &Checkpoint, prefix: &str) -> BTreeMap<String, usize> {
    let mut types = BTreeMap::new();
    if storage.is_none() {
        for element in rows.iter().filter(|row| row.kind != Kind::Float).flat_map(|row| elements(row, checkpoint, prefix)) {
            if let Element::Blocks(kind) = element
                && kind.group_bits().is_none()
            {
                *types.entry(kind.name.to_owned()).or_default() += 1;
            }
        }
    }
    types
}

fn elements<'a>(row: &'a Row, checkpoint: &'a Checkpoint, prefix: &'a str) -> impl Iterator<Item = &'a Element> {
    let tensor = move |piece: &Piece| checkpoint.get(&format!("{prefix}{}", piece.name));
    row.pieces.iter().filter_map(tensor).map(|tensor| &tensor.element)
}

/// Writes a row, with what adapters add to it: `file` has its tensors declared as [`stored`] says. `done` is told how many bytes were written.
pub fn fill(
    file: &mut BundleFile,
    row: &Row,
    recipe: Recipe,
    checkpoint: &Checkpoint,
    prefix: &str,
    added: &[LowRank],
    done: &mut dyn FnMut(u64),
) -> Result<(), ImportError> {
    let shape = stored(row, recipe);
    let joined = Joined::new(row, &shape, checkpoint, prefix)?;
    let mut values = Vec::new();
    for block in blocks(&shape) {
        let (first, last) = (block.start, block.end);
        if added.is_empty()
            && let Some(integers) = joined.integers(first..last, recipe)
        {
            let Integers { bits, rows, columns, values, scales } = integers;
            put(file, row, weights::encode_groups(&row.name, &[rows, columns], &values, &scales, bits), done)?;
            continue;
        }
        values.clear();
        joined.append(first..last, &mut values);
        let columns = shape.iter().skip(1).product::<usize>().max(1);
        lora::merge(added, columns, first / columns, &mut values);
        joined.are_finite(&values, first, matches!(recipe, Recipe::F16 | Recipe::F16Packed { .. }))?;
        append(file, row, &shape, recipe, &values, done)?;
    }
    Ok(())
}

/// The values of a tensor in blocks of whole panels.
pub fn blocks(shape: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let (rows, columns) = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<usize>());
    let step = (BLOCK / columns.max(1) / ROWS * ROWS).max(ROWS);
    (0..rows).step_by(step).map(move |first| first * columns..rows.min(first + step) * columns)
}

/// Writes the next block of a row, whose matrix has the shape `shape`.
pub fn append(
    file: &mut BundleFile,
    row: &Row,
    shape: &[usize],
    recipe: Recipe,
    values: &[f32],
    done: &mut dyn FnMut(u64),
) -> Result<(), BundleError> {
    let columns: usize = shape.iter().skip(1).product();
    let block: Vec<usize> = if shape.is_empty() { Vec::new() } else { [&[values.len() / columns.max(1)], &shape[1..]].concat() };
    put(file, row, weights::encode(&row.name, &block, values, recipe), done)
}

/// Writes the encoded parts of a row.
fn put(file: &mut BundleFile, row: &Row, parts: Result<Vec<Part>, PackError>, done: &mut dyn FnMut(u64)) -> Result<(), BundleError> {
    for part in parts.map_err(|error| BundleError::Rejected { entry: row.name.clone(), reason: error.to_string() })? {
        file.append(&part.name, &part.bytes)?;
        done(part.bytes.len() as u64);
    }
    Ok(())
}

/// A row's tensors in a bundle, without their values.
pub fn parts(row: &Row, recipe: Recipe) -> Vec<Part> {
    weights::layout(&row.name, &stored(row, recipe), recipe)
}

/// Bytes of a row's tensors.
pub fn bytes(row: &Row, recipe: Recipe) -> u64 {
    parts(row, recipe).iter().map(|part| part.shape.iter().product::<usize>() as u64 * part.dtype.size() as u64).sum()
}

/// The shape of the matrix that is stored.
pub fn stored(row: &Row, recipe: Recipe) -> Vec<usize> {
    let mut shape = row.shape.clone();
    if recipe.transposed() {
        shape.reverse();
    }
    shape
}

/// The pieces of a row, one behind the other.
struct Joined<'a> {
    pieces: Vec<(&'a Tensor, Loaded, Range<usize>, String)>,
    /// The whole matrix, where it had to be turned.
    turned: Option<Vec<f32>>,
}

impl<'a> Joined<'a> {
    fn new(row: &Row, shape: &[usize], checkpoint: &'a Checkpoint, prefix: &str) -> Result<Self, ImportError> {
        let mut pieces = Vec::new();
        let mut loaded: BTreeMap<String, Loaded> = BTreeMap::new();
        let mut held = 0;
        for piece in &row.pieces {
            let name = format!("{prefix}{}", piece.name);
            let Some(tensor) = checkpoint.get(&name) else { continue };
            let values = match loaded.get(&name) {
                Some(values) => values.clone(),
                None => loaded.entry(name.clone()).or_insert(tensor.load()?).clone(),
            };
            let row_len: usize = piece.shape.iter().skip(1).product();
            let range = match &piece.rows {
                Some(rows) => rows.start * row_len..rows.end * row_len,
                None => 0..piece.shape.iter().product(),
            };
            held += range.len();
            pieces.push((tensor, values, range, name));
        }
        let needed: usize = shape.iter().product();
        if held != needed {
            let reason = format!("its pieces hold {held} values, and it needs {needed}; this is an error of ocelli, please report it");
            return Err(BundleError::Rejected { entry: row.name.clone(), reason }.into());
        }
        let mut joined = Self { pieces, turned: None };
        if let (true, &[outputs, inputs]) = (row.turned, shape) {
            let mut values = Vec::with_capacity(needed);
            joined.append(0..needed, &mut values);
            joined.turned = Some((0..needed).map(|at| values[at % inputs * outputs + at / inputs]).collect());
        }
        Ok(joined)
    }

    /// Puts the values of a range behind `values`.
    fn append(&self, wanted: Range<usize>, values: &mut Vec<f32>) {
        if let Some(turned) = &self.turned {
            values.extend_from_slice(&turned[wanted]);
            return;
        }
        let mut start = 0;
        for (_, loaded, range, _) in &self.pieces {
            let here = wanted.start.max(start)..wanted.end.min(start + range.len());
            if here.start < here.end {
                loaded.append(range.start + here.start - start..range.start + here.end - start, values);
            }
            start += range.len();
        }
    }

    /// The integers of a range, exactly as the checkpoint has them, where that is what the recipe keeps.
    fn integers(&self, wanted: Range<usize>, recipe: Recipe) -> Option<Integers> {
        let bits = match recipe {
            Recipe::Int4Packed { .. } => GroupBits::Int4,
            Recipe::Int8GroupsPacked { .. } => GroupBits::Int8,
            _ => return None,
        };
        if self.turned.is_some() {
            return None;
        }
        let (mut parts, mut start) = (Vec::new(), 0);
        for (_, loaded, range, _) in &self.pieces {
            let here = wanted.start.max(start)..wanted.end.min(start + range.len());
            if here.start < here.end {
                parts.push(loaded.integers(range.start + here.start - start..range.start + here.end - start)?);
            }
            start += range.len();
        }
        // A recipe of 8 bits holds integers of 4.
        let joined = Integers::joined(parts)?;
        match (joined.bits, bits) {
            (GroupBits::Int8, GroupBits::Int4) => None,
            _ => Some(Integers { bits, ..joined }),
        }
    }

    /// Names the first value of a block that is none, or that half precision cannot hold. `first`: index of the block's first value.
    fn are_finite(&self, values: &[f32], first: usize, half: bool) -> Result<(), ImportError> {
        let bad = |value: f32| !value.is_finite() || (half && f16::from_f32(value).is_infinite());
        let Some(at) = values.iter().position(|&value| bad(value)) else { return Ok(()) };
        let value = values[at];
        // Which piece it is in, and where there; a turned matrix has one piece, whose own index is said.
        let mut index = match (&self.turned, self.pieces.first()) {
            (Some(_), Some((tensor, ..))) if tensor.shape.len() == 2 => {
                let [inputs, outputs] = [tensor.shape[0], tensor.shape[1]];
                let at = first + at;
                at % inputs * outputs + at / inputs
            }
            _ => first + at,
        };
        for (tensor, _, range, name) in &self.pieces {
            if index < range.len() {
                let (path, tensor, index) = (tensor.file.to_path_buf(), name.clone(), range.start + index);
                let finite = value.is_finite();
                return Err(if finite {
                    ImportError::TooLarge { path, tensor, index, value }
                } else {
                    ImportError::NotFinite { path, tensor, index, value }
                });
            }
            index -= range.len();
        }
        Ok(())
    }
}
