//! ggml's types of values: what a block of each holds, and the floats that it means.
//!
//! The layouts are those of <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>. A block of the types with a `K` has 256 values
//! in parts of 16 or 32, whose scales are small integers times the block's; the others have 32. `d` is a scale, `m` what is added, both f16;
//! nibbles and smaller fields hold the first half of the values in their low bits.
//!
//! | type | a value | a block |
//! |---|---|---|
//! | `Q8_0` | `d q`, q: i8 | d, 32 q |
//! | `Q4_0`, `Q5_0` | `d (q - 8)`, `d (q - 16)` | d, high bits of Q5, nibbles |
//! | `Q4_1`, `Q5_1` | `d q + m` | d, m, high bits of Q5, nibbles |
//! | `Q2_K` | `d s q - m t`, s and t of 4 bits a part of 16 | s and t, q of 2 bits, d, m |
//! | `Q3_K` | `d (s - 32) (q - 4)`, s of 6 bits a part of 16 | high bits, low 2 bits, s, d |
//! | `Q4_K`, `Q5_K` | `d s q - m t`, s and t of 6 bits a part of 32 | d, m, s and t, high bits of Q5, nibbles |
//! | `Q6_K` | `d s (q - 32)`, s: i8 a part of 16 | low nibbles, high 2 bits, s, d |

use std::fmt;

use half::{bf16, f16};
use ocelli_ops::pack::PackError;
use ocelli_ops::{GroupBits, OwnedGroups};

/// Values of a block of the types with a `K`.
pub(super) const LARGE: usize = 256;
/// Values of a block of the others.
const SMALL: usize = 32;

/// Whole blocks to floats.
type Floats = fn(&[u8], &mut [f32]);
/// An integer of a block, by its place.
type Integer = fn(&[u8], usize) -> i8;

/// A type of values.
pub struct BlockType {
    /// Its number in the file.
    number: u32,
    /// As ggml calls it.
    pub name: &'static str,
    /// Values of a block.
    pub block: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Blocks to floats; `None`: it is not read.
    floats: Option<Floats>,
    /// Its integers, where 32 of them and an f16 in front of them are all that a block is.
    integers: Option<(GroupBits, Integer)>,
}

const fn read(number: u32, name: &'static str, block: usize, bytes: usize, floats: Floats) -> BlockType {
    BlockType { number, name, block, bytes, floats: Some(floats), integers: None }
}

const fn groups(number: u32, name: &'static str, bytes: usize, floats: Floats, bits: GroupBits, integer: Integer) -> BlockType {
    BlockType { number, name, block: SMALL, bytes, floats: Some(floats), integers: Some((bits, integer)) }
}

const fn known(number: u32, name: &'static str, block: usize, bytes: usize) -> BlockType {
    BlockType { number, name, block, bytes, floats: None, integers: None }
}

/// Every type that files have. Those that are not read are here for their sizes: a file may hold one and be good for the rest.
static TYPES: [BlockType; 35] = [
    read(0, "F32", 1, 4, |bytes, out| each(bytes, out, f32::from_le_bytes)),
    read(1, "F16", 1, 2, |bytes, out| each(bytes, out, |value| f16::from_le_bytes(value).to_f32())),
    groups(2, "Q4_0", 18, |bytes, out| blocks(bytes, out, q4_0), GroupBits::Int4, |block, i| nibble(&block[2..], i) as i8 - 8),
    read(3, "Q4_1", SMALL, 20, |bytes, out| blocks(bytes, out, q4_1)),
    groups(6, "Q5_0", 22, |bytes, out| blocks(bytes, out, q5_0), GroupBits::Int8, |block, i| five(block, 2, i) as i8 - 16),
    read(7, "Q5_1", SMALL, 24, |bytes, out| blocks(bytes, out, q5_1)),
    groups(8, "Q8_0", 34, |bytes, out| blocks(bytes, out, q8_0), GroupBits::Int8, |block, i| block[2 + i].cast_signed()),
    known(9, "Q8_1", SMALL, 36),
    read(10, "Q2_K", LARGE, 84, |bytes, out| blocks(bytes, out, q2_k)),
    read(11, "Q3_K", LARGE, 110, |bytes, out| blocks(bytes, out, q3_k)),
    read(12, "Q4_K", LARGE, 144, |bytes, out| blocks(bytes, out, q4_k)),
    read(13, "Q5_K", LARGE, 176, |bytes, out| blocks(bytes, out, q5_k)),
    read(14, "Q6_K", LARGE, 210, |bytes, out| blocks(bytes, out, q6_k)),
    known(15, "Q8_K", LARGE, 292),
    known(16, "IQ2_XXS", LARGE, 66),
    known(17, "IQ2_XS", LARGE, 74),
    known(18, "IQ3_XXS", LARGE, 98),
    known(19, "IQ1_S", LARGE, 50),
    known(20, "IQ4_NL", SMALL, 18),
    known(21, "IQ3_S", LARGE, 110),
    known(22, "IQ2_S", LARGE, 82),
    known(23, "IQ4_XS", LARGE, 136),
    known(24, "I8", 1, 1),
    known(25, "I16", 1, 2),
    known(26, "I32", 1, 4),
    known(27, "I64", 1, 8),
    read(28, "F64", 1, 8, |bytes, out| each(bytes, out, |value| f64::from_le_bytes(value) as f32)),
    known(29, "IQ1_M", LARGE, 56),
    read(30, "BF16", 1, 2, |bytes, out| each(bytes, out, |value| bf16::from_le_bytes(value).to_f32())),
    known(34, "TQ1_0", LARGE, 54),
    known(35, "TQ2_0", LARGE, 66),
    known(39, "MXFP4", SMALL, 17),
    known(40, "NVFP4", 64, 36),
    known(41, "Q1_0", 128, 18),
    known(42, "Q2_0", 64, 18),
];

/// The names of the types that are read.
pub(super) fn read_names() -> String {
    TYPES.iter().filter(|kind| kind.is_read()).map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

impl PartialEq for BlockType {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for BlockType {}

impl fmt::Debug for BlockType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl BlockType {
    /// The type of a number.
    pub fn of(number: u32) -> Option<&'static Self> {
        TYPES.iter().find(|kind| kind.number == number)
    }

    /// The type of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TYPES.iter().find(|kind| kind.name == name)
    }

    /// Whether its values are read.
    pub fn is_read(&self) -> bool {
        self.floats.is_some()
    }

    /// Bits of the integers that its values are exactly, each times an f16 that 32 of them share; `None`: they are none. Q5_0 has 5, which
    /// are kept in 8.
    pub fn group_bits(&self) -> Option<GroupBits> {
        self.integers.map(|(bits, _)| bits)
    }

    /// The floats of whole blocks: `out` has [`block`](Self::block) values for each [`bytes`](Self::bytes) of `bytes`. Of a type that is not
    /// read, it is left as it is.
    pub fn dequantize(&self, bytes: &[u8], out: &mut [f32]) {
        if let Some(floats) = self.floats {
            floats(bytes, out);
        }
    }

    /// Puts the integers and scales of whole blocks behind those of `to`; of a type that has none, nothing.
    pub(super) fn integers(&self, bytes: &[u8], to: &mut Integers) {
        let Some((_, integer)) = self.integers else { return };
        for block in bytes.chunks_exact(self.bytes) {
            to.scales.push(f16::from_le_bytes([block[0], block[1]]));
            to.values.extend((0..SMALL).map(|i| integer(block, i)));
        }
    }
}

/// Rows of integers with an f16 scale for 32 columns each: `value · scale` is the float that ggml means, to the bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Integers {
    /// Of the values: −8…7, or −127…127.
    pub bits: GroupBits,
    /// How many rows.
    pub rows: usize,
    /// Values of a row, a multiple of 32.
    pub columns: usize,
    /// `[rows][columns]`
    pub values: Vec<i8>,
    /// `[rows][columns / 32]`
    pub scales: Vec<f16>,
}

impl Integers {
    /// Rows of several tensors as those of one; `None`: they are of different lengths. Where one needs 8 bits, all get them.
    pub fn joined(parts: Vec<Self>) -> Option<Self> {
        parts.into_iter().map(Some).reduce(|all, next| {
            let (mut all, next) = (all?, next?);
            if next.bits == GroupBits::Int8 {
                all.bits = next.bits;
            }
            all.rows += next.rows;
            all.values.extend(next.values);
            all.scales.extend(next.scales);
            (all.columns == next.columns).then_some(all)
        })?
    }

    /// In the kernels' order. Rows that are a multiple of 16 make whole panels, so that blocks of such rows can be written one by one.
    ///
    /// # Errors
    /// Where there are no rows.
    pub fn pack(&self) -> Result<OwnedGroups, PackError> {
        OwnedGroups::pack(self.rows, self.columns, self.bits, &self.values, &self.scales)
    }

    /// Whether the kernels can hold them: −128 they cannot, and ggml never writes it; a scale that is no number makes no weight.
    pub(super) fn is_exact(&self) -> bool {
        self.values.iter().all(|&value| value != i8::MIN) && self.scales.iter().all(|scale| scale.is_finite())
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    for (value, out) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *out = read(*value);
    }
}

fn blocks<const BYTES: usize, const VALUES: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn(&[u8; BYTES], &mut [f32; VALUES])) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<VALUES>().0) {
        read(block, out);
    }
}

/// The f16 at a place.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The i-th of 32 nibbles in 16 bytes.
fn nibble(nibbles: &[u8], i: usize) -> u8 {
    if i < 16 { nibbles[i] & 15 } else { nibbles[i - 16] >> 4 }
}

/// The i-th of 32 values of five bits: four bytes of high bits from `at` on, and nibbles behind them.
fn five(block: &[u8], at: usize, i: usize) -> u8 {
    nibble(&block[at + 4..], i) | (block[at + i / 8] >> (i % 8) & 1) << 4
}

fn q8_0(block: &[u8; 34], out: &mut [f32; SMALL]) {
    let d = half(block, 0);
    for (q, out) in block[2..].iter().zip(out) {
        *out = f32::from(q.cast_signed()) * d;
    }
}

fn q4_0(block: &[u8; 18], out: &mut [f32; SMALL]) {
    let d = half(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = (f32::from(nibble(&block[2..], i)) - 8.0) * d;
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; SMALL]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = f32::from(nibble(&block[4..], i)) * d + m;
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; SMALL]) {
    let d = half(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = (f32::from(five(block, 2, i)) - 16.0) * d;
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; SMALL]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = f32::from(five(block, 4, i)) * d + m;
    }
}

/// The i-th of 256 values of two bits in 64 bytes: of each half, every byte has one of each quarter.
fn two(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

fn q2_k(block: &[u8; 84], out: &mut [f32; LARGE]) {
    let (scales, quants, d, m) = (&block[..16], &block[16..80], half(block, 80), half(block, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let both = scales[i / 16];
        *out = d * f32::from(both & 15) * f32::from(two(quants, i)) - m * f32::from(both >> 4);
    }
}

fn q3_k(block: &[u8; 110], out: &mut [f32; LARGE]) {
    let (high, quants, packed, d) = (&block[..32], &block[32..96], &block[96..108], half(block, 108));
    // Of 16 scales, 8 bytes have the low nibbles and 4 bytes the high two bits.
    let scale = |s: usize| {
        let low = if s < 8 { packed[s] & 15 } else { packed[s - 8] >> 4 };
        f32::from(low | (packed[8 + s % 4] >> (s / 4 * 2) & 3) << 4) - 32.0
    };
    for (i, out) in out.iter_mut().enumerate() {
        // A byte of high bits has one of each part of 32.
        let q = f32::from(two(quants, i) | (high[i % 32] >> (i / 32) & 1) << 2) - 4.0;
        *out = d * scale(i / 16) * q;
    }
}

/// Scale and offset of part `s` of 8, six bits each, in 12 bytes: the first four parts have bytes of their own, whose upper two bits are the
/// upper ones of the last four.
fn six(packed: &[u8], s: usize) -> (f32, f32) {
    let (scale, offset) = if s < 4 {
        (packed[s] & 63, packed[s + 4] & 63)
    } else {
        let low = packed[s + 4];
        (low & 15 | packed[s - 4] >> 6 << 4, low >> 4 | packed[s] >> 6 << 4)
    };
    (f32::from(scale), f32::from(offset))
}

/// Nibble i of 256 in 128 bytes: 32 bytes have those of two parts of 32.
fn part_nibble(nibbles: &[u8], i: usize) -> u8 {
    let byte = nibbles[i / 64 * 32 + i % 32];
    if i % 64 < 32 { byte & 15 } else { byte >> 4 }
}

fn q4_k(block: &[u8; 144], out: &mut [f32; LARGE]) {
    let (d, m, packed, quants) = (half(block, 0), half(block, 2), &block[4..16], &block[16..]);
    for (s, out) in out.as_chunks_mut::<SMALL>().0.iter_mut().enumerate() {
        let (scale, offset) = six(packed, s);
        let (d, m) = (d * scale, m * offset);
        for (i, out) in out.iter_mut().enumerate() {
            *out = d * f32::from(part_nibble(quants, 32 * s + i)) - m;
        }
    }
}

fn q5_k(block: &[u8; 176], out: &mut [f32; LARGE]) {
    let (d, m, packed, high, quants) = (half(block, 0), half(block, 2), &block[4..16], &block[16..48], &block[48..]);
    for (s, out) in out.as_chunks_mut::<SMALL>().0.iter_mut().enumerate() {
        let (scale, offset) = six(packed, s);
        let (d, m) = (d * scale, m * offset);
        for (i, out) in out.iter_mut().enumerate() {
            *out = d * f32::from(part_nibble(quants, 32 * s + i) | (high[i] >> s & 1) << 4) - m;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; LARGE]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (i, out) in out.iter_mut().enumerate() {
        // 64 bytes have the low nibbles of two runs of 64.
        let byte = low[i / 128 * 64 + i % 64];
        let nibble = if i % 128 < 64 { byte & 15 } else { byte >> 4 };
        let q = f32::from(nibble | two(high, i) << 4) - 32.0;
        *out = d * f32::from(scales[i / 16].cast_signed()) * q;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_once() {
        for (i, one) in TYPES.iter().enumerate() {
            assert!(TYPES[..i].iter().all(|other| other != one && other.name != one.name), "{one:?}");
            assert!(one.bytes > 0 && one.block > 0 && BlockType::of(one.number) == Some(one));
        }
        assert!(BlockType::of(4).is_none() && BlockType::of(u32::MAX).is_none());
        assert!(read_names().starts_with("F32, F16, Q4_0"));
    }

    /// A scale of one half and the same bytes: the values of both halves of a block.
    #[test]
    fn the_first_sixteen_are_in_the_low_nibbles() {
        let mut block = vec![0x00, 0x38]; // 0.5
        block.extend((0..16).map(|i| i << 4 | (15 - i)));
        let mut out = [0.0; 32];
        BlockType::named("Q4_0").unwrap().dequantize(&block, &mut out);
        let wanted: Vec<f32> = (0..32).map(|i| if i < 16 { (7 - i) as f32 * 0.5 } else { (i - 24) as f32 * 0.5 }).collect();
        assert_eq!(out.as_slice(), wanted);
    }
}
