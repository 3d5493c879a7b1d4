//! Which source pixels an output pixel averages, along one axis.

/// For each output pixel a run of source pixels and their weights.
#[derive(Debug, Clone)]
pub(crate) struct Axis<W> {
    runs: Vec<Run>,
    weights: Vec<W>,
    /// Fractional bits of a fixed-point weight.
    pub shift: u32,
    /// Every output pixel is one source pixel as it is, and they follow each other.
    pub copies: bool,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    first: usize,
    at: usize,
    len: usize,
}

impl<W> Default for Axis<W> {
    fn default() -> Self {
        Self { runs: Vec::new(), weights: Vec::new(), shift: 0, copies: false }
    }
}

impl<W: Copy> Axis<W> {
    pub fn clear(&mut self) {
        self.runs.clear();
        self.weights.clear();
        self.copies = false;
        self.shift = 0;
    }

    /// The next output pixel: the sum of `weights` times the source pixels from `first` on.
    pub fn push(&mut self, first: u32, weights: impl IntoIterator<Item = W>) {
        let at = self.weights.len();
        self.weights.extend(weights);
        self.runs.push(Run { first: first as usize, at, len: self.weights.len() - at });
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// For each output pixel the index of its first source pixel, and the weights of that one and those that follow it.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[W])> {
        (0..self.len()).map(|i| self.run(i))
    }

    pub fn run(&self, i: usize) -> (usize, &[W]) {
        let Run { first, at, len } = self.runs[i];
        (first, &self.weights[at..at + len])
    }

    /// The source pixels that count for any output pixel.
    pub fn reach(&self) -> std::ops::Range<usize> {
        let used = || self.runs.iter().filter(|run| run.len > 0);
        let first = used().map(|run| run.first).min().unwrap_or(0);
        first..used().map(|run| run.first + run.len).max().unwrap_or(first)
    }

    /// The most source pixels that count for one output pixel.
    pub fn longest(&self) -> usize {
        self.runs.iter().map(|run| run.len).max().unwrap_or(0)
    }
}

impl Axis<i16> {
    /// Output pixels that are the source pixels `start..start + count`.
    pub fn copy(&mut self, start: u32, count: u32) {
        self.clear();
        (start..start + count).for_each(|i| self.push(i, [1]));
        self.copies = true;
    }
}
