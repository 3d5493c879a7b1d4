//! Which tensors of a model an adapter is about.

use std::collections::BTreeMap;

use ocelli_flow::LowRank;
use ocelli_models::table::{Kind, Piece, Row};

use super::AdapterError;
use super::file::{AdapterFile, Module};
use crate::checkpoint::Tensor;
use crate::{ImportError, names};

/// Names of the model that are said in place of one that it does not have.
const NEAR: usize = 3;
const WEIGHT: &str = ".weight";

/// An adapter, and which of its layers is which tensor of the model.
#[derive(Debug)]
pub struct Placed {
    pub file: AdapterFile,
    /// What the user wants of it.
    pub scale: f32,
    /// From a tensor's name in the table to the layer's in the adapter.
    layers: BTreeMap<String, String>,
}

impl Placed {
    /// Finds every layer of the adapter among the weights of the table, and compares shapes.
    pub fn new(file: AdapterFile, scale: f32, rows: &[Row]) -> Result<Self, ImportError> {
        let layers = layers(&file.modules, rows);
        let path = || file.files.last().cloned().unwrap_or_default();
        let layers = layers.map_err(|source| ImportError::Adapter { path: path(), source })?;
        Ok(Self { file, scale, layers })
    }

    /// Puts what is added to a row behind `parts`.
    pub fn add(&self, row: &Row, parts: &mut Vec<LowRank>) -> Result<(), ImportError> {
        let mut first = 0;
        for piece in &row.pieces {
            // Of a weight that lies the other way round the second axis is the outputs'.
            let all = piece.shape.get(usize::from(row.turned)).copied().unwrap_or_default();
            let taken = piece.rows.clone().unwrap_or(0..all);
            let outputs = first..first + taken.len();
            first = outputs.end;
            let Some((name, module)) = self.layers.get(&piece.name).and_then(|name| self.file.modules.get_key_value(name)) else {
                continue;
            };
            let scale = module.scale as f32 * self.scale;
            let (a, b) = (values(name, "lora_A", &module.a)?, values(name, "lora_B", &module.b)?);
            let b = b[taken.start * module.rank..taken.end * module.rank].iter().map(|value| value * scale).collect();
            parts.push(LowRank { tensor: row.name.clone(), outputs, rank: module.rank, a, b });
        }
        Ok(())
    }
}

fn layers(modules: &BTreeMap<String, Module>, rows: &[Row]) -> Result<BTreeMap<String, String>, AdapterError> {
    let linear = rows.iter().filter(|row| matches!(row.kind, Kind::Linear | Kind::Head));
    let pieces: BTreeMap<&str, (&Piece, bool)> = linear
        .flat_map(|row| row.pieces.iter().map(|piece| (piece, row.turned)))
        .filter_map(|(piece, turned)| Some((names::bare(piece.name.strip_suffix(WEIGHT)?), (piece, turned))))
        .collect();
    let mut layers = BTreeMap::new();
    for (name, module) in modules {
        let (piece, turned) = find(name, &pieces)?;
        let (first, rest): (usize, usize) = (piece.shape.first().copied().unwrap_or(1), piece.shape.iter().skip(1).product());
        let shape = if turned { [rest, first] } else { [first, rest] };
        if shape != [module.outputs, module.inputs] {
            let Module { inputs, outputs, .. } = *module;
            return Err(AdapterError::Shape {
                module: name.clone(),
                inputs,
                outputs,
                tensor: piece.name.clone(),
                shape: piece.shape.clone(),
            });
        }
        if let Some(other) = layers.insert(piece.name.clone(), name.clone()) {
            return Err(AdapterError::Unsupported { what: format!("{other} and {name} are both {}", piece.name) });
        }
    }
    Ok(layers)
}

/// The weight of a layer: of that name but for what stands before a whole model, or the only one of which the name is the end, or which is the
/// end of it (towers that were saved alone, models within larger ones).
fn find<'a>(name: &str, pieces: &BTreeMap<&str, (&'a Piece, bool)>) -> Result<(&'a Piece, bool), AdapterError> {
    let bare = names::bare(name);
    if let Some(found) = pieces.get(bare) {
        return Ok(*found);
    }
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|before| before.ends_with('.'));
    let alike: Vec<&str> = pieces.keys().copied().filter(|piece| ends(piece, bare) || ends(bare, piece)).collect();
    if let [only] = alike[..]
        && let Some(found) = pieces.get(only)
    {
        return Ok(*found);
    }
    Err(AdapterError::Unknown { module: name.to_owned(), near: near(bare, pieces.keys().copied()) })
}

/// Names that end like `name`, then those that begin like it.
fn near<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> String {
    let same = |a: &mut dyn Iterator<Item = &str>, b: &mut dyn Iterator<Item = &str>| a.zip(b).take_while(|(a, b)| a == b).count();
    let likeness = |other: &str| {
        let from_end = same(&mut name.rsplit('.'), &mut other.rsplit('.'));
        let from_start = same(&mut name.split('.'), &mut other.split('.'));
        let letters = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        (from_end + from_start, letters)
    };
    let mut all: Vec<&str> = all.collect();
    all.sort_by_key(|other| std::cmp::Reverse(likeness(other)));
    all.truncate(NEAR);
    if all.is_empty() { "it has none".to_owned() } else { format!("it has {}", all.join(", ")) }
}

/// All values of a tensor.
fn values(module: &str, half: &str, tensor: &Tensor) -> Result<Vec<f32>, ImportError> {
    let mut values = Vec::new();
    tensor.load()?.append(0..tensor.shape.iter().product(), &mut values);
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => {
            let source = AdapterError::NotFinite { tensor: format!("{module}.{half}"), index, value: values[index] };
            Err(ImportError::Adapter { path: tensor.file.to_path_buf(), source })
        }
    }
}
