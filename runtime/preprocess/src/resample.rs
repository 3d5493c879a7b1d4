//! A separable resize, row by row as the source is read.

use std::ops::Range;

use crate::axis::Axis;
use crate::passes::{Across, CHANNELS, Down, Isa, ROWS, Weight};
use crate::source::Source;

/// Values of rows that are kept between the two passes, at most: 256 MiB, or 1 GiB in floating point.
pub(crate) const MOST_KEPT: usize = 1 << 28;

/// Resizes by the weights of two axes: across the rows first, rounded to samples, then down the columns.
///
/// Only the rows and columns that count are read, and only the rows of one window are kept in between, in a ring.
#[derive(Debug, Clone)]
pub(crate) struct Resample<W: Weight> {
    isa: Isa,
    columns: Axis<W>,
    rows: Axis<W>,
    across: Across<W>,
    /// The source columns that count.
    reach: Range<usize>,
    /// `slots` resized rows: source row `y` in slot `y % slots`.
    ring: Vec<W::Sample>,
    slots: usize,
    /// [`ROWS`] source rows, where they cannot be read where they lie.
    read: [Vec<u8>; ROWS],
    out: Vec<W::Sample>,
}

impl<W: Weight> Default for Resample<W> {
    fn default() -> Self {
        Self {
            isa: Isa::detect(),
            columns: Axis::default(),
            rows: Axis::default(),
            across: Across::default(),
            reach: 0..0,
            ring: Vec::new(),
            slots: 0,
            read: Default::default(),
            out: Vec::new(),
        }
    }
}

impl<W: Weight> Resample<W> {
    /// Takes new weights, which `set` writes to the columns' axis and the rows'. `None` if more than [`MOST_KEPT`] values would have to be
    /// kept between the passes.
    pub fn set(&mut self, set: impl FnOnce(&mut Axis<W>, &mut Axis<W>)) -> Option<()> {
        set(&mut self.columns, &mut self.rows);
        self.reach = self.columns.reach();
        self.across.lay_out(&self.columns, self.reach.start, self.reach.len());
        let stride = self.columns.len() * CHANNELS;
        self.slots = (self.rows.longest() + 2 * (ROWS - 1)).next_multiple_of(ROWS);
        let kept = self.slots.checked_mul(stride).filter(|&kept| kept <= MOST_KEPT);
        self.ring.clear();
        self.out.clear();
        self.ring.resize(kept.unwrap_or(0), W::Sample::default());
        self.out.resize(kept.map_or(0, |_| stride), W::Sample::default());
        kept.map(drop)
    }

    /// Hands `sink` the output rows from the first to the last, `[columns][3]`.
    pub fn run(&mut self, source: &Source<'_>, mut sink: impl FnMut(usize, &[W::Sample])) {
        let stride = self.columns.len() * CHANNELS;
        if stride == 0 {
            return;
        }
        let mut next = 0;
        for i in 0..self.rows.len() {
            let (first, weights) = self.rows.run(i);
            // Windows only move on: what a window has passed is not needed again. Rows are read in groups, so that no group meets the
            // end of the ring.
            if !weights.is_empty() {
                let wanted = first + weights.len();
                next = next.max(first / ROWS * ROWS);
                while next < wanted {
                    next = self.read_rows(source, next);
                }
            }
            let (_, weights) = self.rows.run(i);
            if self.rows.copies {
                let at = first % self.slots * stride;
                sink(i, &self.ring[at..at + stride]);
                continue;
            }
            let (ring, out) = (&self.ring[..], &mut self.out[..]);
            W::down(self.isa, Down { ring, slots: self.slots, slot: first % self.slots, weights, shift: self.rows.shift, out });
            sink(i, &self.out);
        }
    }

    /// Resizes the source rows from `next` on into the ring; returns the first that was not.
    fn read_rows(&mut self, source: &Source<'_>, next: usize) -> usize {
        let stride = self.columns.len() * CHANNELS;
        let reach = self.reach.clone();
        let slot = next % self.slots;
        let together = next.is_multiple_of(ROWS) && next + ROWS <= source.height() as usize;
        let slots = &mut self.ring[slot * stride..];
        let least = self.across.least();
        if self.columns.copies {
            let row = source.row(next, reach, 0, &mut self.read[0]);
            slots.iter_mut().zip(row).for_each(|(sample, &pixel)| *sample = W::sample(pixel));
        } else if together {
            let [a, b, c, d] = &mut self.read;
            let rows = [(a, 0), (b, 1), (c, 2), (d, 3)].map(|(read, i)| source.row(next + i, reach.clone(), least, read));
            let (a, slots) = slots.split_at_mut(stride);
            let (b, slots) = slots.split_at_mut(stride);
            let (c, d) = slots.split_at_mut(stride);
            W::across(self.isa, &self.across, rows, [a, b, c, &mut d[..stride]]);
            return next + ROWS;
        } else {
            let row = source.row(next, reach, least, &mut self.read[0]);
            W::across(self.isa, &self.across, [row], [&mut slots[..stride]]);
        }
        next + 1
    }
}
