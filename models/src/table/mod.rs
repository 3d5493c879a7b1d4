//! A family's table of tensors: what a bundle holds, and where the checkpoints of others keep it.
//!
//! The importer fills a bundle by it, the loader compares the bundle with it, and a missing or misshapen tensor is named by it. A family
//! writes its table once, as a function of its configuration.

#[cfg(test)]
mod families;
mod policy;
pub mod transformers;

use std::ops::Range;

use ocelli_bundle::Bundle;

pub use policy::{Form, Policy, PolicyError, Rule};

use crate::{LoadError, weights};

/// One parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name in the bundle, which is its path in the module.
    pub name: String,
    /// Its shape in the module; a linear layer's weight is `[in, out]`.
    pub shape: Vec<usize>,
    /// What it is, which says how it may be stored.
    pub kind: Kind,
    /// What it is made of, joined along the first axis. Of a weight that is `[out, in]`, whatever the axes of `in` are (patches have three);
    /// of anything else `shape`, but for axes of length 1.
    pub pieces: Vec<Piece>,
    /// The one piece of this weight is `[in, out]`.
    pub turned: bool,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The weight of a linear layer or of patches: rounded to integers where the bundle is.
    Linear,
    /// The weight of a linear layer that stays float: heads that give boxes, logits, vectors.
    Head,
    /// A table with a row a token: rounded to integers where the bundle is.
    Table,
    /// Norms, biases, positions: always float.
    Float,
}

/// A tensor of a checkpoint, or some rows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its whole shape in the checkpoint; where only axes of length 1 differ, it fits, too.
    pub shape: Vec<usize>,
    /// Those rows that are meant; `None`: all.
    pub rows: Option<Range<usize>>,
}

/// How a bundle keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// Single precision.
    #[default]
    F32,
    /// Half precision; norms, biases and positions in single precision.
    F16,
    /// Linear layers and tables of tokens as int8 with a scale a row; the rest in single precision.
    Int8,
    /// The same, with a scale for 32 input channels where they are so many, twice, …
    Int8Groups,
    /// Linear layers as int4 with a scale for 32 input channels, tables of tokens as int8 in such groups, towers that see as [`Storage::Int8`];
    /// the rest in single precision.
    Int4,
}

impl Storage {
    /// In words.
    pub fn said(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8 with a scale for each output channel",
            Self::Int8Groups => "int8 with a scale for 32 input channels",
            Self::Int4 => "int4 with a scale for 32 input channels, tables and what sees int8",
        }
    }
}

impl Row {
    /// A weight or another parameter that one tensor of a checkpoint holds.
    pub fn new(name: impl Into<String>, shape: &[usize], kind: Kind, piece: Piece) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), kind, pieces: vec![piece], turned: false }
    }
}

impl Piece {
    /// A whole tensor.
    pub fn whole(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), rows: None }
    }

    /// Rows of one.
    pub fn part(name: impl Into<String>, shape: &[usize], rows: Range<usize>) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), rows: Some(rows) }
    }

    /// Whether a checkpoint's tensor of shape `shape` is meant.
    pub fn fits(&self, shape: &[usize]) -> bool {
        let long = |shape: &[usize]| shape.iter().copied().filter(|&side| side != 1).collect::<Vec<_>>();
        long(&self.shape) == long(shape)
    }
}

/// Rows of a table whose names begin with a prefix, in the bundle and in the checkpoint.
#[derive(Debug)]
pub struct Rows<'a> {
    rows: &'a mut Vec<Row>,
    name: String,
    source: String,
}

impl<'a> Rows<'a> {
    /// Names as they are.
    pub fn new(rows: &'a mut Vec<Row>) -> Self {
        Self { rows, name: String::new(), source: String::new() }
    }

    /// Names below: `name` is put behind the prefix in the bundle, `source` behind that in the checkpoint.
    pub fn below(&mut self, name: &str, source: &str) -> Rows<'_> {
        Rows { rows: self.rows, name: join(&self.name, name), source: join(&self.source, source) }
    }

    /// The checkpoint's name of `source`.
    pub fn source(&self, source: &str) -> String {
        join(&self.source, source)
    }

    /// A row of pieces.
    pub fn row(&mut self, name: &str, shape: &[usize], kind: Kind, pieces: Vec<Piece>) -> &mut Row {
        let at = self.rows.len();
        self.rows.push(Row { name: join(&self.name, name), shape: shape.to_vec(), kind, pieces, turned: false });
        &mut self.rows[at]
    }

    /// A parameter that is always float: `shape` as in the checkpoint.
    pub fn float(&mut self, name: &str, source: &str, shape: &[usize]) {
        let piece = Piece::whole(self.source(source), shape);
        self.row(name, shape, Kind::Float, vec![piece]);
    }

    /// A table of tokens.
    pub fn table(&mut self, name: &str, source: &str, shape: [usize; 2]) {
        let piece = Piece::whole(self.source(source), &shape);
        self.row(name, &shape, Kind::Table, vec![piece]);
    }

    /// A norm of `d` channels.
    pub fn norm(&mut self, name: &str, source: &str, d: usize) {
        let mut below = self.below(name, source);
        below.float("gamma", "weight", &[d]);
        below.float("beta", "bias", &[d]);
    }

    /// A linear layer, whose weight a checkpoint keeps as `[out, in]`.
    pub fn linear(&mut self, name: &str, source: &str, [input, output]: [usize; 2], kind: Kind, bias: bool) {
        let mut below = self.below(name, source);
        let piece = Piece::whole(below.source("weight"), &[output, input]);
        below.row("weight", &[input, output], kind, vec![piece]);
        if bias {
            below.float("bias", "bias", &[output]);
        }
    }

    /// A linear layer whose output channels a checkpoint keeps in several layers.
    pub fn joined(&mut self, name: &str, sources: &[&str], [input, output]: [usize; 2], kind: Kind) {
        let each = output / sources.len();
        let pieces = |what: &str, shape: &[usize], rows: &Self| -> Vec<Piece> {
            sources.iter().map(|source| Piece::whole(join(&rows.source(source), what), shape)).collect()
        };
        let (weights, biases) = (pieces("weight", &[each, input], self), pieces("bias", &[each], self));
        self.row(&join(name, "weight"), &[input, output], kind, weights);
        self.row(&join(name, "bias"), &[output], Kind::Float, biases);
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() || name.is_empty() { format!("{prefix}{name}") } else { format!("{prefix}.{name}") }
}

/// Compares a bundle with its family's table: every row is there, in the shape that its recipe gives it.
///
/// # Errors
/// Names the first tensor that is missing, misshapen, or of a recipe that this build does not know.
pub fn check(bundle: &Bundle, rows: &[Row]) -> Result<(), LoadError> {
    rows.iter().try_for_each(|row| weights::check(bundle, &row.name, &row.shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_one_do_not_count() {
        let piece = Piece::whole("probe", &[1, 8]);
        assert!(piece.fits(&[1, 1, 8]) && piece.fits(&[8]));
        assert!(!piece.fits(&[8, 2]));
        assert!(Piece::whole("scale", &[1]).fits(&[]));
    }

    #[test]
    fn names_are_joined_by_dots() {
        let mut rows = Vec::new();
        let mut table = Rows::new(&mut rows);
        let mut vision = table.below("vision", "vision_model");
        vision.norm("post_norm", "post_layernorm", 4);
        vision.below("layers.0", "encoder.layers.0").joined("qkv", &["self_attn.q_proj", "self_attn.k_proj"], [4, 8], Kind::Linear);
        assert_eq!(rows[0].name, "vision.post_norm.gamma");
        assert_eq!(rows[0].pieces[0].name, "vision_model.post_layernorm.weight");
        assert_eq!(rows[2].pieces[1].name, "vision_model.encoder.layers.0.self_attn.k_proj.weight");
        assert_eq!((rows[2].pieces[1].shape.as_slice(), rows[2].shape.as_slice()), ([4, 4].as_slice(), [4, 8].as_slice()));
    }
}
