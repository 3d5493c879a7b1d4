//! Weights in the order that kernels read them: one layout for every instruction set.
//!
//! A weight has N output channels and K input channels. Sixteen output channels make a panel ([`PANEL`]); what is missing in the last
//! one is zero. Within a panel, K runs in steps of four, so that four input channels of one output channel lie side by side, as
//! `vpdpbusd` and `sdot` take them.
//!
//! | weight | values | beside them |
//! |---|---|---|
//! | int8 | `[N/16][K/4][16][4]` | scales `[N]` f32 and sums of each channel's values `[N]` i32, both padded to 16 |
//! | int8 in groups | `[N/16][K/4][16][4]` | scales `[N/16][K/32][16]` f16 |
//! | int4 in groups | `[N/16][K/32][4][16][4]` bytes: quad i in the low nibbles, quad i + 4 in the high ones, plus 8 | as above |
//! | f32, f16 | `[N/16][K][16]` | |

use half::f16;

pub use crate::simd::PANEL;
use crate::simd::Simd;

/// Weights that share a scale in the formats with groups, as GGUF's Q8_0 and Q4_0.
pub const GROUP: usize = 32;

/// A weight whose parts do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// No elements.
    #[error("a weight has at least one row and one column, not {n} x {k}")]
    Empty {
        /// Output channels.
        n: usize,
        /// Input channels.
        k: usize,
    },
    /// Rows that are not whole groups.
    #[error("{k} input channels are not a multiple of the group of {GROUP}")]
    Group {
        /// Input channels.
        k: usize,
    },
    /// A part of another size.
    #[error("{part} of a {n} x {k} weight: {has} elements where {needs} are needed")]
    Length {
        /// Which part.
        part: &'static str,
        /// Output channels.
        n: usize,
        /// Input channels.
        k: usize,
        /// How many there are.
        has: usize,
        /// How many there should be.
        needs: usize,
    },
}

/// Output channels with padding.
pub const fn padded(n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL
}

pub(crate) fn fits(part: &'static str, n: usize, k: usize, has: usize, needs: Option<usize>) -> Result<(), PackError> {
    if n == 0 || k == 0 {
        return Err(PackError::Empty { n, k });
    }
    match needs {
        Some(needs) if needs == has => Ok(()),
        needs => Err(PackError::Length { part, n, k, has, needs: needs.unwrap_or(usize::MAX) }),
    }
}

pub(crate) fn product(factors: &[usize]) -> Option<usize> {
    factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor))
}

/// An int8 weight with a scale an output channel: y = scale · Σ value · x. Values are −127…127.
#[derive(Debug, Clone, Copy)]
pub struct PackedInt8<'a> {
    n: usize,
    k: usize,
    values: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i32],
}

impl<'a> PackedInt8<'a> {
    /// How many values an `n` x `k` weight has when packed; `None` where that overflows.
    pub fn values_len(n: usize, k: usize) -> Option<usize> {
        product(&[n.div_ceil(PANEL), k.div_ceil(4), 4 * PANEL])
    }

    /// Takes parts that lie somewhere, a mapped file perhaps.
    pub fn new(n: usize, k: usize, values: &'a [i8], scales: &'a [f32], sums: &'a [i32]) -> Result<Self, PackError> {
        fits("the values", n, k, values.len(), Self::values_len(n, k))?;
        fits("the scales", n, k, scales.len(), Some(padded(n)))?;
        fits("the sums", n, k, sums.len(), Some(padded(n)))?;
        Ok(Self { n, k, values, scales, sums })
    }

    /// Output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input channels.
    pub fn k(&self) -> usize {
        self.k
    }

    /// `[N/16][K/4][16][4]`
    pub fn values(&self) -> &'a [i8] {
        self.values
    }

    /// One an output channel, zero in the padding.
    pub fn scales(&self) -> &'a [f32] {
        self.scales
    }

    /// Sum of an output channel's values, zero in the padding.
    pub fn sums(&self) -> &'a [i32] {
        self.sums
    }

    /// Value of output channel `n`, input channel `k`.
    pub fn value(&self, n: usize, k: usize) -> i8 {
        self.values[int8_index(self.k, n, k)]
    }
}

fn int8_index(columns: usize, n: usize, k: usize) -> usize {
    ((n / PANEL * columns.div_ceil(4) + k / 4) * PANEL + n % PANEL) * 4 + k % 4
}

/// Rounds rows of `k` weights to int8, half away from zero, each row scaled by its greatest magnitude / 127: values and scales.
pub fn int8_rows(weights: &[f32], k: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut values, mut scales) = (Vec::with_capacity(weights.len()), Vec::with_capacity(weights.len() / k));
    for row in weights.chunks_exact(k) {
        let scale = row.iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs())) / 127.0;
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        values.extend(row.iter().map(|x| (x * inverse).round().clamp(-127.0, 127.0) as i8));
        scales.push(scale);
    }
    (values, scales)
}

/// The parts of a [`PackedInt8`], owned.
#[derive(Debug, Clone)]
pub struct OwnedInt8 {
    n: usize,
    k: usize,
    /// `[N/16][K/4][16][4]`
    pub values: Vec<i8>,
    /// One an output channel.
    pub scales: Vec<f32>,
    /// Sum of an output channel's values.
    pub sums: Vec<i32>,
}

impl OwnedInt8 {
    /// Packs values `[N][K]` with scales `[N]`. A value of −128 becomes −127: kernels rely on the symmetric range.
    pub fn pack(n: usize, k: usize, values: &[i8], scales: &[f32]) -> Result<Self, PackError> {
        fits("the values", n, k, values.len(), product(&[n, k]))?;
        fits("the scales", n, k, scales.len(), Some(n))?;
        let len = PackedInt8::values_len(n, k);
        fits("the packed values", n, k, len.unwrap_or(usize::MAX), len)?;
        let mut packed = vec![0; len.unwrap_or_default()];
        let mut sums = vec![0; padded(n)];
        for (row, values) in values.chunks_exact(k).enumerate() {
            for (column, &value) in values.iter().enumerate() {
                let value = value.max(-127);
                packed[int8_index(k, row, column)] = value;
                sums[row] += i32::from(value);
            }
        }
        let mut padded_scales = scales.to_vec();
        padded_scales.resize(padded(n), 0.0);
        Ok(Self { n, k, values: packed, scales: padded_scales, sums })
    }

    /// Rounds weights `[N][K]` by [`int8_rows`].
    pub fn quantize(n: usize, k: usize, weights: &[f32]) -> Result<Self, PackError> {
        fits("the weights", n, k, weights.len(), product(&[n, k]))?;
        let (values, scales) = int8_rows(weights, k);
        Self::pack(n, k, &values, &scales)
    }

    /// As kernels take it.
    pub fn view(&self) -> PackedInt8<'_> {
        PackedInt8 { n: self.n, k: self.k, values: &self.values, scales: &self.scales, sums: &self.sums }
    }
}

/// Bits of a weight in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupBits {
    /// −8…7, GGUF's Q4_0.
    Int4,
    /// −127…127, GGUF's Q8_0.
    Int8,
}

impl GroupBits {
    const fn per_byte(self) -> usize {
        match self {
            Self::Int4 => 2,
            Self::Int8 => 1,
        }
    }
}

/// A weight whose input channels share an f16 scale in groups of [`GROUP`].
#[derive(Debug, Clone, Copy)]
pub struct PackedGroups<'a> {
    n: usize,
    k: usize,
    bits: GroupBits,
    values: &'a [u8],
    scales: &'a [f16],
}

impl<'a> PackedGroups<'a> {
    /// Bytes of the values of an `n` x `k` weight when packed; `None` where that overflows.
    pub fn values_len(n: usize, k: usize, bits: GroupBits) -> Option<usize> {
        Some(product(&[n.div_ceil(PANEL), PANEL, k])? / bits.per_byte())
    }

    /// Takes parts that lie somewhere, a mapped file perhaps.
    pub fn new(n: usize, k: usize, bits: GroupBits, values: &'a [u8], scales: &'a [f16]) -> Result<Self, PackError> {
        if !k.is_multiple_of(GROUP) {
            return Err(PackError::Group { k });
        }
        fits("the values", n, k, values.len(), Self::values_len(n, k, bits))?;
        fits("the scales", n, k, scales.len(), product(&[padded(n), k / GROUP]))?;
        Ok(Self { n, k, bits, values, scales })
    }

    /// Output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input channels.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Bits of a value.
    pub fn bits(&self) -> GroupBits {
        self.bits
    }

    /// Packed bytes.
    pub fn values(&self) -> &'a [u8] {
        self.values
    }

    /// `[N/16][K/32][16]`
    pub fn scales(&self) -> &'a [f16] {
        self.scales
    }

    /// Value of output channel `n`, input channel `k`, not yet scaled.
    pub fn value(&self, n: usize, k: usize) -> i8 {
        let (index, high) = group_index(self.k, self.bits, n, k);
        match self.bits {
            GroupBits::Int8 => self.values[index] as i8,
            GroupBits::Int4 => (if high { self.values[index] >> 4 } else { self.values[index] & 15 }) as i8 - 8,
        }
    }

    /// Scale of that value.
    pub fn scale(&self, n: usize, k: usize) -> f16 {
        self.scales[scale_index(self.k, n, k)]
    }
}

fn scale_index(columns: usize, n: usize, k: usize) -> usize {
    (n / PANEL * (columns / GROUP) + k / GROUP) * PANEL + n % PANEL
}

/// Byte of a value, and whether it is the high nibble.
fn group_index(columns: usize, bits: GroupBits, n: usize, k: usize) -> (usize, bool) {
    match bits {
        GroupBits::Int8 => (int8_index(columns, n, k), false),
        GroupBits::Int4 => {
            let quad = k % GROUP / 4;
            let group = n / PANEL * (columns / GROUP) + k / GROUP;
            (((group * 4 + quad % 4) * PANEL + n % PANEL) * 4 + k % 4, quad >= 4)
        }
    }
}

/// The parts of a [`PackedGroups`], owned.
#[derive(Debug, Clone)]
pub struct OwnedGroups {
    n: usize,
    k: usize,
    bits: GroupBits,
    /// Packed bytes.
    pub values: Vec<u8>,
    /// `[N/16][K/32][16]`
    pub scales: Vec<f16>,
}

impl OwnedGroups {
    /// Packs values `[N][K]` with scales `[N][K/32]`. Values are −8…7 or −127…127; what is beyond is clamped.
    pub fn pack(n: usize, k: usize, bits: GroupBits, values: &[i8], scales: &[f16]) -> Result<Self, PackError> {
        if !k.is_multiple_of(GROUP) {
            return Err(PackError::Group { k });
        }
        fits("the values", n, k, values.len(), product(&[n, k]))?;
        fits("the scales", n, k, scales.len(), product(&[n, k / GROUP]))?;
        let len = PackedGroups::values_len(n, k, bits);
        fits("the packed values", n, k, len.unwrap_or(usize::MAX), len)?;
        // Padding has scales of zero, so its values do not matter.
        let mut packed = vec![0; len.unwrap_or_default()];
        let mut packed_scales = vec![f16::ZERO; padded(n) * (k / GROUP)];
        for (row, values) in values.chunks_exact(k).enumerate() {
            for (column, &value) in values.iter().enumerate() {
                let (index, high) = group_index(k, bits, row, column);
                match bits {
                    GroupBits::Int8 => packed[index] = value.max(-127) as u8,
                    GroupBits::Int4 => packed[index] |= ((value.clamp(-8, 7) + 8) as u8) << (4 * u32::from(high)),
                }
            }
        }
        for (i, &scale) in scales.iter().enumerate() {
            packed_scales[scale_index(k, i / (k / GROUP), i % (k / GROUP) * GROUP)] = scale;
        }
        Ok(Self { n, k, bits, values: packed, scales: packed_scales })
    }

    /// Rounds weights `[N][K]` as GGUF does: Q8_0 divides a group by its greatest magnitude / 127, Q4_0 by the element of the greatest
    /// magnitude / −8.
    pub fn quantize(n: usize, k: usize, bits: GroupBits, weights: &[f32]) -> Result<Self, PackError> {
        fits("the weights", n, k, weights.len(), product(&[n, k]))?;
        if !k.is_multiple_of(GROUP) {
            return Err(PackError::Group { k });
        }
        let mut values = Vec::with_capacity(weights.len());
        let mut scales = Vec::with_capacity(weights.len() / GROUP);
        for group in weights.chunks_exact(GROUP) {
            let greatest = group.iter().fold(0.0_f32, |greatest, &x| if x.abs() > greatest.abs() { x } else { greatest });
            let scale = match bits {
                GroupBits::Int4 => greatest / -8.0,
                GroupBits::Int8 => greatest.abs() / 127.0,
            };
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            scales.push(f16::from_f32(scale));
            values.extend(group.iter().map(|&x| match bits {
                GroupBits::Int4 => ((x * inverse + 8.5) as u8).min(15) as i8 - 8,
                GroupBits::Int8 => (x * inverse).round().clamp(-127.0, 127.0) as i8,
            }));
        }
        Self::pack(n, k, bits, &values, &scales)
    }

    /// As kernels take it.
    pub fn view(&self) -> PackedGroups<'_> {
        PackedGroups { n: self.n, k: self.k, bits: self.bits, values: &self.values, scales: &self.scales }
    }
}

/// Values of a float weight.
#[derive(Debug, Clone, Copy)]
pub enum Floats<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
}

impl Floats<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Element `i`.
    pub fn at(&self, i: usize) -> f64 {
        match self {
            Self::F32(values) => f64::from(values[i]),
            Self::F16(values) => values[i].to_f64(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A weight of floats, `[N/16][K][16]`.
#[derive(Debug, Clone, Copy)]
pub struct PackedFloat<'a> {
    n: usize,
    k: usize,
    values: Floats<'a>,
}

impl<'a> PackedFloat<'a> {
    /// How many values an `n` x `k` weight has when packed; `None` where that overflows.
    pub fn values_len(n: usize, k: usize) -> Option<usize> {
        product(&[n.div_ceil(PANEL), PANEL, k])
    }

    /// Takes values that lie somewhere, a mapped file perhaps.
    pub fn new(n: usize, k: usize, values: Floats<'a>) -> Result<Self, PackError> {
        fits("the values", n, k, values.len(), Self::values_len(n, k))?;
        Ok(Self { n, k, values })
    }

    /// Output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input channels.
    pub fn k(&self) -> usize {
        self.k
    }

    /// `[N/16][K][16]`
    pub fn values(&self) -> Floats<'a> {
        self.values
    }

    /// One vector from element `index` on.
    ///
    /// # Safety
    /// It exists.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&self, s: S, index: usize) -> S::F {
        // SAFETY: the caller's.
        unsafe {
            match self.values {
                Floats::F32(values) => s.load(values.as_ptr().add(index)),
                Floats::F16(values) => s.load_f16(values.as_ptr().add(index)),
            }
        }
    }

    /// Value of output channel `n`, input channel `k`.
    pub fn value(&self, n: usize, k: usize) -> f32 {
        let index = (n / PANEL * self.k + k) * PANEL + n % PANEL;
        match self.values {
            Floats::F32(values) => values[index],
            Floats::F16(values) => values[index].to_f32(),
        }
    }
}

/// Packs float weights `[N][K]` to `[N/16][K][16]`.
pub fn pack_float<T: Copy + Default>(n: usize, k: usize, weights: &[T]) -> Result<Vec<T>, PackError> {
    fits("the weights", n, k, weights.len(), product(&[n, k]))?;
    let len = PackedFloat::values_len(n, k);
    fits("the packed weights", n, k, len.unwrap_or(usize::MAX), len)?;
    let mut packed = vec![T::default(); len.unwrap_or_default()];
    for (row, weights) in weights.chunks_exact(k).enumerate() {
        for (column, &weight) in weights.iter().enumerate() {
            packed[(row / PANEL * k + column) * PANEL + row % PANEL] = weight;
        }
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_again() {
        for (n, k) in [(1, 1), (16, 4), (17, 5), (50, 64)] {
            let values: Vec<i8> = (0..n * k).map(|i| (i * 37 % 255) as i8).collect();
            let scales: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
            let packed = OwnedInt8::pack(n, k, &values, &scales).unwrap();
            let view = packed.view();
            for row in 0..n {
                for column in 0..k {
                    assert_eq!(view.value(row, column), values[row * k + column].max(-127));
                }
                assert_eq!(view.sums()[row], values[row * k..][..k].iter().map(|&x| i32::from(x.max(-127))).sum::<i32>());
                assert_eq!(view.scales()[row], scales[row]);
            }
        }
    }

    #[test]
    fn groups_hold_what_ggufs_blocks_hold() {
        for bits in [GroupBits::Int4, GroupBits::Int8] {
            let (n, k) = (19, 96);
            let range = if bits == GroupBits::Int4 { 16 } else { 255 };
            let values: Vec<i8> = (0..n * k).map(|i| (i * 31 % range) as i32 - range as i32 / 2).map(|x| x as i8).collect();
            let scales: Vec<f16> = (0..n * k / GROUP).map(|i| f16::from_f32(i as f32)).collect();
            let packed = OwnedGroups::pack(n, k, bits, &values, &scales).unwrap();
            for row in 0..n {
                for column in 0..k {
                    assert_eq!(packed.view().value(row, column), values[row * k + column]);
                    assert_eq!(packed.view().scale(row, column), scales[row * (k / GROUP) + column / GROUP]);
                }
            }
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let error = PackedInt8::new(16, 4, &[0; 63], &[0.0; 16], &[0; 16]).unwrap_err();
        assert_eq!(error, PackError::Length { part: "the values", n: 16, k: 4, has: 63, needs: 64 });
        assert_eq!(PackedInt8::new(0, 4, &[], &[], &[]).unwrap_err(), PackError::Empty { n: 0, k: 4 });
        assert!(PackedInt8::new(usize::MAX, usize::MAX, &[], &[], &[]).is_err());
        assert_eq!(PackedGroups::new(16, 33, GroupBits::Int4, &[], &[]).unwrap_err(), PackError::Group { k: 33 });
        assert!(PackedFloat::new(3, 3, Floats::F32(&[0.0; 9])).is_err());
    }
}
