//! Rows of an embedding table, chosen by number.

use half::f16;

use crate::linear::{Engine, Weight};
use crate::norm::share;
use crate::pack::{Floats, GROUP, GroupBits, PackedFloat, PackedGroups, PackedInt8};
use crate::shared::SharedMut;
use crate::simd::{Kernel, PANEL, Simd};

/// An embedding table of N rows and K columns.
#[derive(Debug, Clone, Copy)]
pub enum Table<'a> {
    /// `[N][K]`
    Rows {
        /// Elements, row after row.
        values: Floats<'a>,
        /// K
        width: usize,
    },
    /// Packed as a linear layer's weight with a row an output channel: models that share it with the last layer keep it once.
    Packed(Weight<'a>),
}

impl Table<'_> {
    /// N, the vocabulary's size.
    pub fn rows(&self) -> usize {
        match self {
            Self::Rows { values, width } => values.len().checked_div(*width).unwrap_or_default(),
            Self::Packed(weight) => weight.n(),
        }
    }

    /// K, elements of a row.
    pub fn width(&self) -> usize {
        match self {
            Self::Rows { width, .. } => *width,
            Self::Packed(weight) => weight.k(),
        }
    }
}

/// Rows that are not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// A number beyond the table.
    #[error("token {index} is {id}, beyond the vocabulary of {vocabulary}")]
    Id {
        /// Which of the numbers.
        index: usize,
        /// The number.
        id: u32,
        /// Rows of the table.
        vocabulary: usize,
    },
}

impl Engine<'_> {
    /// Writes the rows `ids` of `table` to `out`, `[ids][K]`, each plus its row of `positions`, `[ids][K]` where given.
    ///
    /// # Errors
    /// Where an id is beyond the table; `out` is not touched then.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn embedding(&self, ids: &[u32], table: Table<'_>, positions: Option<&[f32]>, out: &mut [f32]) -> Result<(), EmbeddingError> {
        let (vocabulary, width) = (table.rows(), table.width());
        assert!(out.len() == ids.len() * width, "{} results for {} rows of {width}", out.len(), ids.len());
        if let Some(positions) = positions {
            assert!(positions.len() == out.len(), "{} elements of positions for {} rows of {width}", positions.len(), ids.len());
        }
        if let Some((index, &id)) = ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocabulary) {
            return Err(EmbeddingError::Id { index, id, vocabulary });
        }
        let out = SharedMut::new(out);
        share(self.isa, self.pool, ids.len(), width, &|isa, from, to| isa.run(Gather { ids, table, positions, out, from, to }));
        Ok(())
    }
}

struct Gather<'a> {
    ids: &'a [u32],
    table: Table<'a>,
    positions: Option<&'a [f32]>,
    out: SharedMut<f32>,
    from: usize,
    to: usize,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.table.width();
        for i in self.from..self.to {
            let row = self.ids[i] as usize;
            // SAFETY: the result has a row an id, and rows are one task's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.at(i * width), width) };
            match self.table {
                Table::Rows { values: Floats::F32(values), .. } => out.copy_from_slice(&values[row * width..][..width]),
                Table::Rows { values: Floats::F16(values), .. } => widen(s, &values[row * width..][..width], out),
                Table::Packed(Weight::Int8(weight)) => int8_row(weight, row, out),
                Table::Packed(Weight::Groups(weight)) => groups_row(weight, row, out),
                Table::Packed(Weight::Float(weight)) => float_row(weight, row, out),
            }
            if let Some(positions) = self.positions {
                for (out, position) in out.iter_mut().zip(&positions[i * width..][..width]) {
                    *out += position;
                }
            }
        }
    }
}

#[inline(always)]
fn widen<S: Simd>(s: S, values: &[f16], out: &mut [f32]) {
    let whole = out.len() - out.len() % S::LANES;
    let mut i = 0;
    while i < whole {
        // SAFETY: whole vectors within both.
        unsafe { s.store(out.as_mut_ptr().add(i), s.load_f16(values.as_ptr().add(i))) };
        i += S::LANES;
    }
    for i in whole..out.len() {
        out[i] = values[i].to_f32();
    }
}

/// `[K/4][16][4]` of the row's panel.
#[inline(always)]
fn int8_row(weight: PackedInt8<'_>, row: usize, out: &mut [f32]) {
    let quads = weight.k().div_ceil(4);
    let panel = &weight.values()[row / PANEL * quads * PANEL * 4..][..quads * PANEL * 4];
    let scale = weight.scales()[row];
    for (quad, out) in panel.chunks_exact(PANEL * 4).zip(out.chunks_mut(4)) {
        for (out, &value) in out.iter_mut().zip(&quad[row % PANEL * 4..][..4]) {
            *out = f32::from(value) * scale;
        }
    }
}

#[inline(always)]
fn groups_row(weight: PackedGroups<'_>, row: usize, out: &mut [f32]) {
    let groups = weight.k() / GROUP;
    let bytes = match weight.bits() {
        GroupBits::Int4 => GROUP / 2,
        GroupBits::Int8 => GROUP,
    };
    for (group, out) in out.chunks_exact_mut(GROUP).enumerate() {
        let at = row / PANEL * groups + group;
        let scale = weight.scales()[at * PANEL + row % PANEL].to_f32();
        // `[quads][16][4]` of the group.
        let values = &weight.values()[at * bytes * PANEL..][..bytes * PANEL];
        for (quad, values) in values.chunks_exact(PANEL * 4).enumerate() {
            for (i, &byte) in values[row % PANEL * 4..][..4].iter().enumerate() {
                match weight.bits() {
                    GroupBits::Int8 => out[quad * 4 + i] = f32::from(byte as i8) * scale,
                    GroupBits::Int4 => {
                        out[quad * 4 + i] = f32::from((byte & 15) as i8 - 8) * scale;
                        out[quad * 4 + i + GROUP / 2] = f32::from((byte >> 4) as i8 - 8) * scale;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn float_row(weight: PackedFloat<'_>, row: usize, out: &mut [f32]) {
    for (k, out) in out.iter_mut().enumerate() {
        *out = weight.value(row, k);
    }
}
