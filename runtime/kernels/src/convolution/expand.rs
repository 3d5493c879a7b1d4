//! Pixels into the panels that a depthwise convolution reads: by a pointwise convolution, or as they are.

use super::depthwise::bias_of;
use crate::linear::epilogue::Fixed;
use crate::linear::int8::accumulate;
use crate::linear::walk::strip;
use crate::pack::PackedInt8;
use crate::quantize::Rows;
use crate::simd::{Kernel, PANEL, Simd};

/// Panels of a strip for blocks of `block` rows.
pub(super) struct StripPanels {
    pub block: usize,
}

impl Kernel for StripPanels {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> usize {
        strip(S::LANES, self.block, 1)
    }
}

/// Some panels of output channels of a pointwise convolution.
pub(super) struct Expand<'a> {
    pub weight: PackedInt8<'a>,
    pub bias: Option<&'a [f32]>,
    pub fraction_bits: Option<u8>,
    /// What results are clamped to.
    pub range: (f32, f32),
    pub rows: &'a Rows,
    /// First panel.
    pub panel: usize,
    pub panels: usize,
    /// Where each row's pixel lies within a panel, in floats.
    pub places: &'a [u32],
    /// The first panel, and from one to the next.
    pub out: *mut f32,
    pub out_panel: usize,
}

impl Kernel for Expand<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.rows.blocks.block {
            1 => self.strip::<S, 1>(s),
            2 => self.strip::<S, 2>(s),
            3 => self.strip::<S, 3>(s),
            4 => self.strip::<S, 4>(s),
            5 => self.strip::<S, 5>(s),
            6 => self.strip::<S, 6>(s),
            7 => self.strip::<S, 7>(s),
            8 => self.strip::<S, 8>(s),
            9 => self.strip::<S, 9>(s),
            10 => self.strip::<S, 10>(s),
            11 => self.strip::<S, 11>(s),
            _ => self.strip::<S, 12>(s),
        }
    }
}

impl Expand<'_> {
    #[inline(always)]
    fn strip<S: Simd, const R: usize>(&self, s: S) {
        if R > S::INT8_ROWS {
            return;
        }
        match self.panels * PANEL / S::LANES {
            1 => self.blocks::<S, R, 1>(s),
            2 => self.blocks::<S, R, 2>(s),
            4 => self.blocks::<S, R, 4>(s),
            8 => self.blocks::<S, R, 8>(s),
            _ => self.blocks::<S, R, 16>(s),
        }
    }

    #[inline(always)]
    fn blocks<S: Simd, const R: usize, const V: usize>(&self, s: S) {
        if V > strip(S::LANES, R, 1) * PANEL / S::LANES {
            return;
        }
        let per_panel = PANEL / S::LANES;
        let (low, high) = (s.splat(self.range.0), s.splat(self.range.1));
        let fixed = Fixed::new(s, self.fraction_bits);
        let (mut scales, mut bias) = ([s.splat(0.0); V], [s.splat(0.0); V]);
        // SAFETY: the panels exist; every row has a scale and a place, places lie within a panel.
        unsafe {
            let mut v = 0;
            while v < V {
                let channel = self.panel * PANEL + v * S::LANES;
                scales[v] = s.load(self.weight.scales().as_ptr().add(channel));
                bias[v] = bias_of(s, self.bias, channel, self.weight.n());
                if let Some(fixed) = fixed {
                    (scales[v], bias[v]) = (fixed.in_steps(s, scales[v]), fixed.round(s, bias[v]));
                }
                v += 1;
            }
            let mut block = 0;
            while block < self.rows.blocks.count {
                let acc = accumulate::<S, R, V>(s, self.weight, self.rows, block, self.panel);
                let row_scales = self.rows.scales.as_ptr().add(block * R);
                let places = self.places.as_ptr().add(block * R);
                let mut r = 0;
                while r < R {
                    let row_scale = s.splat(*row_scales.add(r));
                    let out = self.out.add(*places.add(r) as usize);
                    let mut v = 0;
                    while v < V {
                        // Rounded as often as a linear layer's result, so that fused or not makes no difference.
                        let y = s.mul(s.to_f(acc[r][v]), s.mul(row_scale, scales[v]));
                        let y = match fixed {
                            Some(fixed) => fixed.round_add(s, y, bias[v]),
                            None => s.add(y, bias[v]),
                        };
                        let p = out.add(v / per_panel * self.out_panel + v % per_panel * S::LANES);
                        s.store(p, s.min(high, s.max(low, y)));
                        v += 1;
                    }
                    r += 1;
                }
                block += 1;
            }
        }
    }
}

/// One panel of channels of some pixels, as they are; zero beyond the last channel.
pub(super) struct CopyPanel<'a> {
    /// `[pixels][channels]`
    pub x: &'a [f32],
    pub channels: usize,
    pub panel: usize,
    pub places: &'a [u32],
    pub out: *mut f32,
}

impl Kernel for CopyPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, &place) in self.x.chunks_exact(self.channels).zip(self.places) {
            let mut v = 0;
            while v < PANEL {
                let channel = self.panel * PANEL + v;
                // SAFETY: no more than the pixel's channels are read; places lie within a panel.
                unsafe {
                    let x = match self.channels.saturating_sub(channel) {
                        0 => s.splat(0.0),
                        left if left >= S::LANES => s.load(x.as_ptr().add(channel)),
                        left => s.load_part(x.as_ptr().add(channel), left),
                    };
                    s.store(self.out.add(place as usize + v), x);
                }
                v += S::LANES;
            }
        }
    }
}

/// One panel of channels from `[pixels][16]` to `[pixels][channels]`.
pub(super) struct StorePanel {
    pub from: *const f32,
    pub pixels: usize,
    pub channels: usize,
    pub channel: usize,
    pub out: *mut f32,
}

impl Kernel for StorePanel {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for pixel in 0..self.pixels {
            let mut v = 0;
            while v < PANEL && self.channel + v < self.channels {
                let left = self.channels - self.channel - v;
                // SAFETY: pixels exist on both sides, and no more than their channels are written.
                unsafe {
                    let x = s.load(self.from.add(pixel * PANEL + v));
                    let out = self.out.add(pixel * self.channels + self.channel + v);
                    if left >= S::LANES { s.store(out, x) } else { s.store_part(out, x, left) }
                }
                v += S::LANES;
            }
        }
    }
}
