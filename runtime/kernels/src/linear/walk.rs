//! The way through a weight: which tiles there are, in what order, and on which thread.

use std::mem::MaybeUninit;

use super::Engine;
use super::epilogue::{Epilogue, Part, finish, write_clamped};
use crate::quantize::{Blocks, Form, Rows, Source};
use crate::shared::SharedMut;
use crate::simd::{Kernel, PANEL, Simd};

/// A kind of weight: how its tiles are computed.
pub(crate) trait Tile: Copy + Sync {
    /// Output and input channels.
    fn shape(&self) -> (usize, usize);
    /// What it multiplies.
    fn form(&self) -> Form;
    /// Bytes of an activation once it is ready.
    const ACTIVATION: usize;
    /// The same as an instruction set's tiles read it.
    #[inline(always)]
    fn activation<S: Simd>() -> usize {
        Self::ACTIVATION
    }
    /// Registers a row and vector takes: accumulators.
    const ACCUMULATORS: usize;
    /// Most rows of a tile.
    fn most_rows<S: Simd>() -> usize;
    /// How many are quickest where there are `m`.
    #[inline(always)]
    fn rows<S: Simd>(&self, _m: usize) -> usize {
        Self::most_rows::<S>()
    }
    /// Computes one tile of R rows and V vectors from panel `panel` on.
    ///
    /// # Safety
    /// The panels exist, `rows` holds the block and its blocks are of R rows.
    unsafe fn tile<S: Simd, const R: usize, const V: usize>(&self, s: S, rows: &Rows, block: usize, panel: usize) -> [[S::F; V]; R];
}

/// Most floats of a tile.
const TILE: usize = 512;
/// Activations that are made ready at a time: they should stay in the second-level cache beside a strip.
const READY: usize = 384 << 10;

/// Rows of a tile where there are so many, and the bytes of an activation.
struct Needs<T>(T, usize);

impl<T: Tile> Kernel for Needs<T> {
    type Output = (usize, usize);
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) -> (usize, usize) {
        (self.0.rows::<S>(self.1), T::activation::<S>())
    }
}

pub(super) fn run<T: Tile>(engine: &mut Engine<'_>, source: Source<'_>, epilogue: Epilogue<'_>, tile: T, out: &mut [f32]) {
    let (n, k) = tile.shape();
    let m = source.rows(k);
    assert!(out.len() == m * n, "{} results where {m} x {n} are computed", out.len());
    epilogue.check(m, n);
    let (most, activation) = engine.isa.run(Needs(tile, m));
    let chunks = Blocks::new(m, (READY / (k * activation)).next_multiple_of(most).max(4 * most));
    for chunk in 0..chunks.count {
        let (from, rows) = (chunk * chunks.block, chunks.len(chunk));
        let epilogue = Epilogue { residual: epilogue.residual.map(|r| &r[from * n..(from + rows) * n]), ..epilogue };
        engine.rows.fill_from(engine.isa, engine.pool, source.part(k, from, rows), k, most, tile.form());
        share(engine, tile, epilogue, &mut out[from * n..(from + rows) * n]);
    }
}

/// The product alone, of rows that are ready from the call before.
pub(super) fn again<T: Tile>(engine: &Engine<'_>, tile: T, out: &mut [f32]) {
    assert!(out.len() == engine.rows.blocks.rows * tile.shape().0, "{} results", out.len());
    share(engine, tile, Epilogue::default(), out);
}

/// Shares the tiles among threads: by strips where there are enough, else by blocks of rows.
fn share<T: Tile>(engine: &Engine<'_>, tile: T, epilogue: Epilogue<'_>, out: &mut [f32]) {
    let (n, k) = tile.shape();
    let (panels, blocks, threads) = (n.div_ceil(PANEL), engine.rows.blocks, engine.pool.threads());
    let out = SharedMut::new(out);
    let work = blocks.rows * n * k;
    let walk = |panels: (usize, usize), blocks: (usize, usize)| {
        engine.isa.run(Walk { tile, rows: &engine.rows, epilogue, n, out, panels, blocks });
    };
    if threads == 1 || work < 1 << 15 {
        return walk((0, panels), (0, blocks.count));
    }
    if panels >= 4 * threads {
        let tasks = (panels / 4).min(4 * threads);
        // Whole groups of four panels, so that no strip is cut.
        let edge = |task: usize| if task == tasks { panels } else { panels * task / tasks / 4 * 4 };
        engine.pool.run(tasks, &|task| walk((edge(task), edge(task + 1)), (0, blocks.count)));
    } else {
        let tasks = (4 * threads).min(blocks.count);
        engine.pool.run(tasks, &|task| walk((0, panels), (blocks.count * task / tasks, blocks.count * (task + 1) / tasks)));
    }
}

/// The tiles of some panels and blocks.
pub(crate) struct Walk<'a, T> {
    pub tile: T,
    pub rows: &'a Rows,
    pub epilogue: Epilogue<'a>,
    pub n: usize,
    /// The result, of all blocks and panels.
    pub out: SharedMut<f32>,
    /// From…to.
    pub panels: (usize, usize),
    /// From…to.
    pub blocks: (usize, usize),
}

impl<T: Tile> Kernel for Walk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.rows.blocks.block {
            1 => self.walk::<S, 1>(s),
            2 => self.walk::<S, 2>(s),
            3 => self.walk::<S, 3>(s),
            4 => self.walk::<S, 4>(s),
            5 => self.walk::<S, 5>(s),
            6 => self.walk::<S, 6>(s),
            7 => self.walk::<S, 7>(s),
            8 => self.walk::<S, 8>(s),
            9 => self.walk::<S, 9>(s),
            10 => self.walk::<S, 10>(s),
            11 => self.walk::<S, 11>(s),
            _ => self.walk::<S, 12>(s),
        }
    }
}

/// Panels of a strip for tiles of `rows`: as many as accumulators find registers for.
pub(crate) const fn strip(lanes: usize, rows: usize, accumulators: usize) -> usize {
    let registers = if lanes == 8 { 16 } else { 32 };
    // One row is bound by memory: a single stream is what hardware fetches ahead best.
    let mut panels = if rows == 1 { 1 } else { 4 };
    while panels > 1 {
        let vectors = panels * PANEL / lanes;
        let weights = if rows == 1 { 1 } else { vectors };
        if vectors * rows * accumulators + weights + 2 <= registers {
            break;
        }
        panels /= 2;
    }
    panels
}

impl<T: Tile> Walk<'_, T> {
    #[inline(always)]
    fn walk<S: Simd, const R: usize>(&self, s: S) {
        if R > T::most_rows::<S>() {
            return;
        }
        let wide = strip(S::LANES, R, T::ACCUMULATORS);
        let mut panel = self.panels.0;
        while panel < self.panels.1 {
            if self.panels.1 - panel >= wide {
                self.blocks::<S, R>(s, panel, wide);
                panel += wide;
            } else {
                self.blocks::<S, R>(s, panel, 1);
                panel += 1;
            }
        }
    }

    /// All blocks of rows times one strip.
    #[inline(always)]
    fn blocks<S: Simd, const R: usize>(&self, s: S, panel: usize, panels: usize) {
        match panels * PANEL / S::LANES {
            1 => self.tiles::<S, R, 1>(s, panel),
            2 => self.tiles::<S, R, 2>(s, panel),
            4 => self.tiles::<S, R, 4>(s, panel),
            8 => self.tiles::<S, R, 8>(s, panel),
            _ => self.tiles::<S, R, 16>(s, panel),
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(&self, s: S, panel: usize) {
        if V > strip(S::LANES, R, T::ACCUMULATORS) * PANEL / S::LANES {
            return;
        }
        let blocks = self.rows.blocks;
        let mut buffer = [MaybeUninit::<f32>::uninit(); TILE];
        let mut block = self.blocks.0;
        while block < self.blocks.1 {
            let column = panel * PANEL;
            let part = Part { row: block * R, rows: blocks.len(block), column, columns: (V * S::LANES).min(self.n - column), n: self.n };
            // SAFETY: panels and block exist; a tile has at most `TILE` floats; the part is this task's alone.
            unsafe {
                let tile = self.tile.tile::<S, R, V>(s, self.rows, block, panel);
                if let Some(range) = self.epilogue.activation.range() {
                    write_clamped::<S, R, V>(s, tile, range, part, &self.epilogue, self.out.at(0));
                } else {
                    let mut r = 0;
                    while r < R {
                        let mut v = 0;
                        while v < V {
                            s.store(buffer.as_mut_ptr().cast::<f32>().add((r * V + v) * S::LANES), tile[r][v]);
                            v += 1;
                        }
                        r += 1;
                    }
                    finish(s, buffer.as_ptr().cast(), V * S::LANES, part, &self.epilogue, self.out.at(0));
                }
            }
            block += 1;
        }
    }
}
