//! Depthwise convolutions and the blocks around them, band by band.
//!
//! An inverted residual block (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>) widens every pixel by a pointwise convolution,
//! convolves each channel by itself, and narrows the result by another. In between the map is six times as wide as before and after, and
//! would go through memory twice. So a few rows of output, a band, are computed at a time:
//!
//! ```text
//! for each band:
//!     make the pixels of its new input rows ready (bytes)
//!     for each strip of channels:
//!         widen those pixels → a ring of rows, [panel][row][W][16]
//!         for each panel: depthwise over the ring → [panel][pixel][16]
//!     make that ready (bytes)
//!     narrow → out
//! ```
//!
//! A strip's part of the ring is small enough for the nearest cache; all of it, and the depthwise's result, for the one behind. Rows of
//! the ring that the next band needs as well stay in it. A map that is one band needs a ring for one strip only. Threads take runs of
//! output rows, each with a ring of its own, and compute the rows that two of them need twice.

use super::depthwise::Panel;
use super::expand::{CopyPanel, Expand, StorePanel, StripPanels};
use super::geometry::Geometry;
use super::weight::PackedDepthwise;
use crate::isa::Isa;
use crate::linear::int8::Int8;
use crate::linear::walk::Walk;
use crate::linear::{Activate, Activation, Engine, Epilogue, check_bits};
use crate::pack::PackedInt8;
use crate::quantize::{Blocks, Rows, Strided};
use crate::shared::SharedMut;
use crate::simd::{Kernel, PANEL, Simd};

/// A pointwise convolution: activation(x Wᵀ + b), pixel by pixel.
#[derive(Debug, Clone, Copy)]
pub struct Pointwise<'a> {
    /// `[N][K]`
    pub weight: PackedInt8<'a>,
    /// `[N]`
    pub bias: Option<&'a [f32]>,
    /// Of the sum.
    pub activation: Activation,
    /// As in [`Epilogue`].
    pub fraction_bits: Option<u8>,
}

/// A depthwise convolution: activation(x ∗ w + b), channel by channel.
#[derive(Debug, Clone, Copy)]
pub struct Depthwise<'a> {
    /// `[k · k][C]`
    pub weight: PackedDepthwise<'a>,
    /// `[C]`
    pub bias: Option<&'a [f32]>,
    /// Of the sum.
    pub activation: Activation,
    /// As in [`Epilogue`]. The scale of an int8 weight multiplies the sum then, not the weight: where x has few bits after the point and
    /// none far before it, sums have no error.
    pub fraction_bits: Option<u8>,
}

/// MobileNetV2's block: project(depthwise(expand(x))), plus x where there is a shortcut.
#[derive(Debug, Clone, Copy)]
pub struct InvertedResidual<'a> {
    /// Of the depthwise convolution.
    pub geometry: Geometry,
    /// `Cin → C`; none where C is Cin.
    pub expand: Option<Pointwise<'a>>,
    /// `C → C`
    pub depthwise: Depthwise<'a>,
    /// `C → Cout`
    pub project: Pointwise<'a>,
    /// Whether the input is added: then Cin is Cout and the stride is 1.
    pub shortcut: bool,
}

impl InvertedResidual<'_> {
    /// Channels that come in.
    pub fn input(&self) -> usize {
        self.expand.map_or(self.depthwise.weight.channels(), |expand| expand.weight.k())
    }

    /// Channels that go out.
    pub fn output(&self) -> usize {
        self.project.weight.n()
    }
}

impl Engine<'_> {
    /// Writes activation(x ∗ w + b) to `out`: `x` is `[batch][H · W][C]`, `out` `[batch][H′ · W′][C]`. All in single precision.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn depthwise(&mut self, x: &[f32], geometry: Geometry, depthwise: Depthwise<'_>, out: &mut [f32]) {
        let channels = depthwise.weight.channels();
        self.bands(x, geometry, None, depthwise, None, false, (channels, channels), out);
    }

    /// Writes a block's result to `out`: `x` is `[batch][H · W][Cin]`, `out` `[batch][H′ · W′][Cout]`. Pixels are quantized, each by
    /// itself, before both pointwise convolutions.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn inverted_residual(&mut self, x: &[f32], block: &InvertedResidual<'_>, out: &mut [f32]) {
        let InvertedResidual { geometry, expand, depthwise, project, shortcut } = *block;
        self.bands(x, geometry, expand, depthwise, Some(project), shortcut, (block.input(), block.output()), out);
    }

    #[allow(clippy::too_many_arguments)]
    fn bands(
        &mut self,
        x: &[f32],
        geometry: Geometry,
        expand: Option<Pointwise<'_>>,
        depthwise: Depthwise<'_>,
        project: Option<Pointwise<'_>>,
        shortcut: bool,
        (input, output): (usize, usize),
        out: &mut [f32],
    ) {
        let inner = depthwise.weight.channels();
        let image = geometry.pixels() * input;
        assert!(x.len().is_multiple_of(image), "{} values are not maps of {image}", x.len());
        let batch = x.len() / image;
        let results = batch * geometry.out_pixels() * output;
        assert!(out.len() == results, "{} results where {results} are computed", out.len());
        assert!(depthwise.weight.kernel() == geometry.kernel(), "a weight's windows are of {} pixels", geometry.kernel());
        let fits = |bias: Option<&[f32]>, n: usize| assert!(bias.is_none_or(|bias| bias.len() == n), "a bias has {n} elements");
        fits(depthwise.bias, inner);
        check_bits(depthwise.fraction_bits);
        if let Some(expand) = expand {
            assert!(expand.weight.n() == inner, "{} channels are widened, {inner} convolved", expand.weight.n());
            fits(expand.bias, inner);
            check_bits(expand.fraction_bits);
        }
        if let Some(project) = project {
            assert!(project.weight.k() == inner, "{inner} channels are convolved, {} narrowed", project.weight.k());
            fits(project.bias, output);
            check_bits(project.fraction_bits);
        }
        if shortcut {
            let same = input == output && geometry.pixels() == geometry.out_pixels() && geometry.stride() == 1;
            assert!(same, "a shortcut leads to a map of the same size");
        }
        if batch == 0 {
            return;
        }
        let rows = batch * geometry.out_height();
        let work = rows * geometry.out_width() * inner * geometry.kernel() * geometry.kernel();
        let tasks = if work < 1 << 16 { 1 } else { self.pool.threads().min(rows) };
        if self.scratch.len() < tasks {
            self.scratch.resize_with(tasks, Scratch::default);
        }
        let most = rows.div_ceil(tasks).min(geometry.out_height());
        let plan = Plan::new(self.isa, geometry, inner, expand.is_some(), most);
        let job = Job { x, geometry, expand, depthwise, project, shortcut, input, inner, output, plan, out: SharedMut::new(out) };
        let scratch = SharedMut::new(&mut self.scratch);
        let isa = self.isa;
        self.pool.run(tasks, &|task| {
            // SAFETY: each task has a scratch of its own.
            let scratch = unsafe { &mut *scratch.at(task) };
            isa.run(Run { job: &job, scratch, rows: (rows * task / tasks, rows * (task + 1) / tasks) });
        });
    }
}

/// A cache line, so that vectors do not straddle two.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line([f32; PANEL]);

/// What a thread keeps from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[panel][row][W][16]`, and a pixel behind each panel for rows that are none.
    pub(super) ring: Vec<Line>,
    /// A row outside the map.
    zeros: Vec<Line>,
    /// The depthwise's result, `[panel][pixel][16]`.
    maps: Vec<Line>,
    /// Pixels on their way to the first pointwise convolution, and to the second.
    wide: Rows,
    narrow: Rows,
    places: Vec<u32>,
    pointers: Vec<*const f32>,
}

// SAFETY: the pointers are of use only during the call that wrote them.
unsafe impl Send for Scratch {}
// SAFETY: as above.
unsafe impl Sync for Scratch {}

/// Bytes that a ring, or a map that is one band, may have: they should stay in the second-level cache beside weights.
const RING: usize = 384 << 10;
/// Bytes that one strip's part of a ring may have where the map is one band.
const STRIP: usize = 128 << 10;
/// Bytes of the depthwise's result where the map is one band.
const WHOLE: usize = 640 << 10;

/// How a map is cut.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Output rows of a band.
    band: usize,
    /// Rows of the ring.
    ring: usize,
    /// Pixels of a row in the ring.
    width: usize,
    /// Panels in the ring: all, or a strip's where the map is one band.
    panels: usize,
    /// Rows of an int8 tile.
    tile: usize,
}

impl Plan {
    /// For at most `most` output rows at a time, of `inner` channels.
    fn new(isa: Isa, geometry: Geometry, inner: usize, expands: bool, most: usize) -> Self {
        let (kernel, stride) = (geometry.kernel(), geometry.stride());
        let width = ((geometry.out_width() - 1) * stride + kernel).max(geometry.left() + geometry.width());
        let tile = isa.run(MostRows);
        // Four panels are a strip's most.
        let strip = if expands { isa.run(StripPanels { block: tile }).max(4) } else { 1 };
        let panels = inner.div_ceil(PANEL);
        let ring = |band: usize| (band - 1) * stride + kernel;
        let pixel = PANEL * size_of::<f32>();
        let whole = most * geometry.out_width() * panels * pixel;
        if whole <= WHOLE && ring(most) * width * strip.min(panels) * pixel <= STRIP {
            return Self { band: most, ring: ring(most), width, panels: strip.min(panels), tile };
        }
        let fits = |band: usize| (ring(band) * width + band * geometry.out_width()) * panels * pixel <= RING;
        let most = (1..=most).take_while(|&band| fits(band)).last().unwrap_or(1);
        // Of the greater half, the one whose pixels leave the fewest rows of tiles empty.
        let waste = |band: usize| {
            let blocks = Blocks::new(band * geometry.out_width(), tile);
            (blocks.count * blocks.block * 1024).div_ceil(blocks.rows)
        };
        let band = (most.div_ceil(2)..=most).rev().min_by_key(|&band| waste(band)).unwrap_or(1);
        Self { band, ring: ring(band), width, panels, tile }
    }
}

struct MostRows;

impl Kernel for MostRows {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> usize {
        S::INT8_ROWS
    }
}

struct Job<'a> {
    x: &'a [f32],
    geometry: Geometry,
    expand: Option<Pointwise<'a>>,
    depthwise: Depthwise<'a>,
    project: Option<Pointwise<'a>>,
    shortcut: bool,
    input: usize,
    inner: usize,
    output: usize,
    plan: Plan,
    out: SharedMut<f32>,
}

/// Output rows from…to, counted through the whole batch.
struct Run<'a> {
    job: &'a Job<'a>,
    scratch: &'a mut Scratch,
    rows: (usize, usize),
}

pub(super) fn at_least<T: Clone>(values: &mut Vec<T>, len: usize, value: T) {
    if values.len() < len {
        values.resize(len, value);
    }
}

/// The range that an activation clamps to; all numbers where it does more, and then it is applied afterwards.
fn range(activation: Activation) -> (f32, f32) {
    activation.range().unwrap_or((f32::NEG_INFINITY, f32::INFINITY))
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { job, scratch, rows } = self;
        let Plan { band, ring, width, panels, .. } = job.plan;
        let out_height = job.geometry.out_height();
        let slot = ring * width + 1;
        at_least(&mut scratch.ring, panels * slot, Line::default());
        at_least(&mut scratch.zeros, width, Line::default());
        at_least(&mut scratch.maps, job.inner.div_ceil(PANEL) * band * job.geometry.out_width(), Line::default());
        // What lies to the left and right of the map stays zero.
        let (left, right) = (job.geometry.left(), job.geometry.left() + job.geometry.width());
        for panel in scratch.ring.chunks_exact_mut(slot).take(panels) {
            for row in panel.chunks_exact_mut(width) {
                row[..left].fill(Line::default());
                row[right..].fill(Line::default());
            }
        }
        let mut row = rows.0;
        while row < rows.1 {
            let image = row / out_height;
            let end = rows.1.min((image + 1) * out_height);
            // The first input row that is not in the ring.
            let mut next = 0;
            while row < end {
                let count = band.min(end - row);
                next = compute_band(s, job, scratch, image, (row - image * out_height, count), next);
                row += count;
            }
        }
    }
}

/// Computes some output rows of an image; returns the first input row that is not in the ring.
#[inline(always)]
fn compute_band<S: Simd>(s: S, job: &Job<'_>, scratch: &mut Scratch, image: usize, (row, count): (usize, usize), next: usize) -> usize {
    let Job { geometry, input, inner, output, .. } = *job;
    let Plan { ring, width, panels: slots, tile, .. } = job.plan;
    let (kernel, stride, out_width) = (geometry.kernel(), geometry.stride(), geometry.out_width());
    let slot = (ring * width + 1) * PANEL;
    let pixels = count * out_width;

    // Which input rows are new, and where their pixels go.
    let first = row * stride;
    let from = first.saturating_sub(geometry.top()).max(next);
    let to = (first + (count - 1) * stride + kernel).saturating_sub(geometry.top()).min(geometry.height()).max(from);
    let from = from.min(to);
    let x = &job.x[(image * geometry.height() + from) * geometry.width() * input..][..(to - from) * geometry.width() * input];
    let blocks = Blocks::new((to - from) * geometry.width(), tile);
    scratch.places.clear();
    for y in from..to {
        let start = (y % ring * width + geometry.left()) * PANEL;
        scratch.places.extend((0..geometry.width()).map(|column| (start + column * PANEL) as u32));
    }
    scratch.places.resize(blocks.count * blocks.block, (slot - PANEL) as u32);
    if let Some(expand) = job.expand {
        // SAFETY: these are the pixels of `x`.
        unsafe { scratch.wide.quantize(s, expand.weight.k(), blocks, Strided { base: x.as_ptr(), row: input, panel: PANEL }) };
    }

    let panels = inner.div_ceil(PANEL);
    let strip = if job.expand.is_some() { StripPanels { block: blocks.block }.run(s) } else { 1 };
    let ring_start = scratch.ring.as_mut_ptr().cast::<f32>();
    let maps = scratch.maps.as_mut_ptr().cast::<f32>();
    let mut panel = 0;
    while panel < panels {
        let wide = if panels - panel >= strip { strip } else { 1 };
        let base = if slots == panels { panel } else { 0 };
        // SAFETY: `run` has made room for the ring's panels.
        let out = unsafe { ring_start.add(base * slot) };
        match job.expand {
            Some(expand) if blocks.rows > 0 => {
                s.call(Expand {
                    weight: expand.weight,
                    bias: expand.bias,
                    fraction_bits: expand.fraction_bits,
                    range: range(expand.activation),
                    rows: &scratch.wide,
                    panel,
                    panels: wide,
                    places: &scratch.places,
                    out,
                    out_panel: slot,
                });
                if expand.activation.range().is_none() {
                    for p in 0..wide {
                        for y in from..to {
                            // SAFETY: the row is the map's, within the ring.
                            let row = unsafe {
                                let at = p * slot + (y % ring * width + geometry.left()) * PANEL;
                                std::slice::from_raw_parts_mut(out.add(at), geometry.width() * PANEL)
                            };
                            s.call(Activate { values: row, activation: expand.activation });
                        }
                    }
                }
            }
            Some(_) => {}
            None => s.call(CopyPanel { x, channels: input, panel, places: &scratch.places, out }),
        }
        for p in 0..wide {
            // SAFETY: within the ring, as above.
            let ring_panel = unsafe { out.add(p * slot) };
            scratch.pointers.clear();
            for y in row..row + count {
                for ky in 0..kernel {
                    let y = (y * stride + ky).checked_sub(geometry.top()).filter(|&y| y < geometry.height());
                    // SAFETY: a row of the ring.
                    let at = y.map_or(scratch.zeros.as_ptr().cast(), |y| unsafe { ring_panel.add(y % ring * width * PANEL).cast_const() });
                    scratch.pointers.push(at);
                }
            }
            let channel = (panel + p) * PANEL;
            // Straight to where it belongs, if nothing follows.
            let direct = job.project.is_none() && inner - channel >= PANEL && job.depthwise.activation.range().is_some();
            let out_row = (image * geometry.out_height() + row) * out_width * output;
            // SAFETY: this task's rows of the result; `run` has made room for the maps of a band.
            let (result, map) = unsafe { (job.out.at(out_row), maps.add((panel + p) * pixels * PANEL)) };
            s.call(Panel {
                weight: job.depthwise.weight,
                bias: job.depthwise.bias,
                fraction_bits: job.depthwise.fraction_bits,
                channel,
                range: range(job.depthwise.activation),
                stride,
                rows: &scratch.pointers,
                width: out_width,
                // SAFETY: the panel is whole.
                out: if direct { unsafe { result.add(channel) } } else { map },
                out_pixel: if direct { inner } else { PANEL },
            });
            if job.depthwise.activation.range().is_none() {
                // SAFETY: the map was just written.
                let map = unsafe { std::slice::from_raw_parts_mut(map, pixels * PANEL) };
                s.call(Activate { values: map, activation: job.depthwise.activation });
            }
            if job.project.is_none() && !direct {
                s.call(StorePanel { from: map, pixels, channels: inner, channel, out: result });
            }
        }
        panel += wide;
    }

    if let Some(project) = job.project {
        let blocks = Blocks::new(pixels, tile);
        // SAFETY: every panel of the maps was written above.
        unsafe { scratch.narrow.quantize(s, inner, blocks, Strided { base: maps, row: PANEL, panel: pixels * PANEL }) };
        let at = (image * geometry.out_height() + row) * out_width * output;
        let residual = job.shortcut.then(|| &job.x[at..at + pixels * output]);
        let walk = Walk {
            tile: Int8(project.weight),
            rows: &scratch.narrow,
            epilogue: Epilogue { bias: project.bias, activation: project.activation, residual, fraction_bits: project.fraction_bits },
            n: output,
            // SAFETY: this task's rows of the result.
            out: unsafe { job.out.from(at) },
            panels: (0, output.div_ceil(PANEL)),
            blocks: (0, blocks.count),
        };
        s.call(walk);
    }
    to
}
