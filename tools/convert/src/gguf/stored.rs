//! A tensor's values where they lie: rows of blocks, perhaps in another order than transformers has them.

use std::ops::Range;

use bytes::Bytes;

use super::blocks::{BlockType, Integers, LARGE};
use super::reader::RawTensor;

/// A tensor of a GGUF file, as transformers would hand it out.
#[derive(Debug, Clone)]
pub struct Stored {
    kind: &'static BlockType,
    rows: usize,
    columns: usize,
    order: RowOrder,
    bytes: Bytes,
}

/// The order in which the file has a tensor's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// As transformers has them.
    Same,
    /// Rotary pairs side by side: llama.cpp turns channels `2i` and `2i + 1` of a head together, transformers `i` and `i + head / 2`. So the
    /// rows of queries and keys are those of transformers, the two halves of each head interleaved.
    Interleaved {
        /// Rows of a head.
        head: usize,
    },
}

impl RowOrder {
    /// Where the file has transformers' row `row`.
    fn row(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Interleaved { head } => {
                let (first, within) = (row / head * head, row % head);
                first + within % (head / 2) * 2 + within / (head / 2)
            }
        }
    }
}

impl Stored {
    /// A tensor whose rows are in this order. `Err` says why they cannot be.
    pub(super) fn new(tensor: &RawTensor, order: RowOrder) -> Result<Self, String> {
        let elements: usize = tensor.shape.iter().product();
        // A vector of blocks is one row of them; any other tensor has rows of whole blocks, for its innermost axis has.
        let rows = match tensor.shape.len() {
            0 => 1,
            1 if tensor.kind.block > 1 => 1,
            _ => tensor.shape[0],
        };
        if let RowOrder::Interleaved { head } = order
            && (head == 0 || head % 2 != 0 || !rows.is_multiple_of(head))
        {
            return Err(format!("has {rows} rows of {}, which are no whole heads of {head} rows", tensor.kind.name));
        }
        Ok(Self { kind: tensor.kind, rows, columns: elements / rows.max(1), order, bytes: tensor.bytes.clone() })
    }

    /// How its values are written.
    pub fn kind(&self) -> &'static BlockType {
        self.kind
    }

    /// Length of the first axis; 1 of a vector of blocks.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Puts the floats of a range of elements behind `values`; of those that are not there, or of a type that is not read, nothing.
    pub fn append(&self, range: Range<usize>, values: &mut Vec<f32>) {
        if !self.kind.is_read() || range.start >= range.end || range.end > self.rows * self.columns {
            return;
        }
        if self.order == RowOrder::Same {
            return self.span(range, values);
        }
        let mut at = range.start;
        while at < range.end {
            let (row, column) = (at / self.columns, at % self.columns);
            let count = (self.columns - column).min(range.end - at);
            let first = self.order.row(row) * self.columns + column;
            self.span(first..first + count, values);
            at += count;
        }
    }

    /// The floats of elements that lie side by side in the file: whole blocks at once, and what stands out at either end by way of a block.
    fn span(&self, range: Range<usize>, values: &mut Vec<f32>) {
        let (block, bytes) = (self.kind.block, self.kind.bytes);
        let (first, last) = (range.start.next_multiple_of(block), range.end / block * block);
        if first > last {
            return self.part(range, values);
        }
        if range.start < first {
            self.part(range.start..first, values);
        }
        let start = values.len();
        values.resize(start + last - first, 0.0);
        self.kind.dequantize(&self.bytes[first / block * bytes..last / block * bytes], &mut values[start..]);
        if last < range.end {
            self.part(last..range.end, values);
        }
    }

    /// The floats of elements of one block.
    fn part(&self, range: Range<usize>, values: &mut Vec<f32>) {
        let (block, bytes) = (self.kind.block, self.kind.bytes);
        let at = range.start / block;
        let mut whole = [0.0; LARGE];
        self.kind.dequantize(&self.bytes[at * bytes..(at + 1) * bytes], &mut whole[..block]);
        values.extend_from_slice(&whole[range.start - at * block..range.end - at * block]);
    }

    /// The integers of some rows, exactly as they are in the file; `None` where they are none (see [`BlockType::group_bits`]), or where a block
    /// holds what the kernels cannot: then take the floats, which tell.
    pub fn integers(&self, rows: Range<usize>) -> Option<Integers> {
        let bits = self.kind.group_bits()?;
        if rows.start >= rows.end || rows.end > self.rows {
            return None;
        }
        let count = rows.len();
        let values = count * self.columns;
        let mut integers = Integers {
            bits,
            rows: count,
            columns: self.columns,
            values: Vec::with_capacity(values),
            scales: Vec::with_capacity(values / self.kind.block),
        };
        let row_bytes = self.columns / self.kind.block * self.kind.bytes;
        for row in rows {
            let at = self.order.row(row) * row_bytes;
            self.kind.integers(&self.bytes[at..at + row_bytes], &mut integers);
        }
        integers.is_exact().then_some(integers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(rows: usize, columns: usize, order: RowOrder) -> Stored {
        let bytes: Vec<u8> = (0..rows * columns).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let kind = BlockType::named("F32").unwrap();
        Stored::new(&RawTensor { name: "w".into(), kind, shape: vec![rows, columns], bytes: bytes.into() }, order).unwrap()
    }

    #[test]
    fn halves_of_heads_are_put_one_behind_the_other() {
        let stored = floats(12, 2, RowOrder::Interleaved { head: 6 });
        let mut values = Vec::new();
        stored.append(0..24, &mut values);
        let rows: Vec<usize> = values.chunks(2).map(|row| row[0] as usize / 2).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        // From the middle of one row to the middle of another.
        values.clear();
        stored.append(1..4, &mut values);
        assert_eq!(values, [1.0, 4.0, 5.0]);
    }

    #[test]
    fn heads_that_are_none() {
        let tensor =
            RawTensor { name: "w".into(), kind: BlockType::named("F32").unwrap(), shape: vec![12], bytes: Bytes::from(vec![0; 48]) };
        for head in [0, 5, 8] {
            assert!(Stored::new(&tensor, RowOrder::Interleaved { head }).is_err(), "{head}");
        }
        assert!(Stored::new(&tensor, RowOrder::Interleaved { head: 4 }).is_ok());
    }

    #[test]
    fn any_part_of_blocks() {
        let mut bytes = Vec::new();
        for scale in [1.0f32, 2.0, 4.0] {
            bytes.extend(half::f16::from_f32(scale).to_le_bytes());
            bytes.extend(0..32u8);
        }
        let kind = BlockType::named("Q8_0").unwrap();
        let tensor = RawTensor { name: "w".into(), kind, shape: vec![96], bytes: bytes.into() };
        let stored = Stored::new(&tensor, RowOrder::Same).unwrap();
        let all: Vec<f32> = (0..96).map(|i| (i % 32) as f32 * [1.0, 2.0, 4.0][i / 32]).collect();
        for start in 0..96 {
            for end in start..=96 {
                let mut values = Vec::new();
                stored.append(start..end, &mut values);
                assert_eq!(values, all[start..end]);
            }
        }
        let mut values = Vec::new();
        stored.append(0..97, &mut values);
        assert!(values.is_empty(), "elements that are not there");
    }
}
