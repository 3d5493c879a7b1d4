//! Beam search over any decoder that goes one token at a time.

use ocelli_flow::ModelError;

/// A decoder with a cache: it sees the last token of every row and remembers the rest in its state.
pub trait StepDecoder {
    /// What it remembers, a row a beam. Before the first step there are as many rows as pictures.
    type State;

    /// Log-probabilities of the token after `tokens[row]`, row by row: `tokens.len() * vocabulary` values.
    fn step(&self, tokens: &[u32], state: &mut Self::State) -> Result<Vec<f32>, ModelError>;

    /// Row `i` becomes what row `rows[i]` was; there may be more rows than before.
    fn reorder(&self, state: &mut Self::State, rows: &[usize]);
}

/// The tokens that mean something to the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Specials {
    /// Never generated.
    pub pad: u32,
    /// Before the first token; never generated.
    pub start: u32,
    /// Ends a sentence; never generated first.
    pub end: u32,
}

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamOptions {
    /// Beams kept; 1 is greedy decoding.
    pub width: usize,
    /// Longest sentence in tokens, the end token not counted.
    pub max_tokens: usize,
    /// Sentences are compared by `logprob / tokens^length_penalty`: 0 favours short ones, 1 compares mean log-probabilities.
    pub length_penalty: f32,
}

impl Default for BeamOptions {
    fn default() -> Self {
        Self { width: 3, max_tokens: 30, length_penalty: 0.7 }
    }
}

/// A sentence and how likely the decoder finds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Token ids without start and end.
    pub tokens: Vec<u32>,
    /// Sum of the tokens' log-probabilities; the end token's too, unless the sentence was cut at `max_tokens`.
    pub logprob: f32,
}

impl Hypothesis {
    /// What sentences are compared by: `logprob / tokens^length_penalty`, the end token counted.
    pub fn score(&self, length_penalty: f32) -> f32 {
        self.logprob / ((self.tokens.len() + 1) as f32).powf(length_penalty)
    }
}

/// A sentence that goes on.
#[derive(Debug, Clone)]
struct Beam {
    row: usize,
    tokens: Vec<u32>,
    logprob: f32,
}

/// The beams of one picture.
#[derive(Debug, Clone)]
struct Picture {
    live: Vec<Beam>,
    /// Best finished sentences with their scores, best first; at most `width`.
    finished: Vec<(f32, Hypothesis)>,
    done: bool,
}

/// The best sentences for each of `pictures` pictures, best first: at least one, at most as many as there are beams. `state` is the decoder's
/// before its first step.
///
/// Two sentences of the same score keep the order of their beams and token ids: the result does not depend on chance.
pub fn candidates<D: StepDecoder>(
    decoder: &D,
    mut state: D::State,
    pictures: usize,
    specials: Specials,
    options: &BeamOptions,
) -> Result<Vec<Vec<Hypothesis>>, ModelError> {
    let width = options.width.max(1);
    let first = |row| Picture { live: vec![Beam { row, tokens: Vec::new(), logprob: 0.0 }], finished: Vec::new(), done: false };
    let mut found: Vec<Picture> = (0..pictures).map(first).collect();
    for position in 0..options.max_tokens.max(1) {
        let rows = if position == 0 { 1 } else { width };
        let last: Vec<u32> = found.iter().flat_map(|picture| picture.last_tokens(rows, specials)).collect();
        let logprobs = decoder.step(&last, &mut state)?;
        let vocabulary = logprobs.len() / last.len().max(1);
        for picture in &mut found {
            picture.advance(&logprobs, vocabulary, width, specials, options);
        }
        if found.iter().all(|picture| picture.done) {
            break;
        }
        let parents: Vec<usize> = found.iter().enumerate().flat_map(|(i, picture)| picture.parents(width, i * rows)).collect();
        decoder.reorder(&mut state, &parents);
        for (i, picture) in found.iter_mut().enumerate() {
            picture.live.iter_mut().enumerate().for_each(|(beam, live)| live.row = i * width + beam);
        }
    }
    Ok(found.into_iter().map(Picture::best).collect())
}

impl Picture {
    /// The last token of every row; rows without a beam get the start token and are ignored.
    fn last_tokens(&self, rows: usize, specials: Specials) -> impl Iterator<Item = u32> + '_ {
        (0..rows).map(move |beam| self.live.get(beam).and_then(|beam| beam.tokens.last()).copied().unwrap_or(specials.start))
    }

    /// The row that each of the next rows continues; rows without a beam continue the picture's first.
    fn parents(&self, width: usize, first: usize) -> impl Iterator<Item = usize> + '_ {
        (0..width).map(move |beam| self.live.get(beam).map_or(first, |beam| beam.row))
    }

    /// One step of the search: the best continuations live on, or finish.
    fn advance(&mut self, logprobs: &[f32], vocabulary: usize, width: usize, specials: Specials, options: &BeamOptions) {
        if self.done {
            return;
        }
        let mut candidates: Vec<(f32, usize, u32)> = Vec::new(); // log-probability, beam, token
        for (i, beam) in self.live.iter().enumerate() {
            let row = &logprobs[beam.row * vocabulary..(beam.row + 1) * vocabulary];
            let forbidden =
                |token: u32| token == specials.pad || token == specials.start || (token == specials.end && beam.tokens.is_empty());
            candidates.extend(largest(row, 2 * width, forbidden).into_iter().map(|(value, token)| (beam.logprob + value, i, token)));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut live = Vec::with_capacity(width);
        for (rank, (logprob, parent, token)) in candidates.into_iter().enumerate() {
            let parent = &self.live[parent];
            if token != specials.end {
                let tokens = parent.tokens.iter().copied().chain([token]).collect();
                live.push(Beam { row: parent.row, tokens, logprob });
            } else if rank < width {
                let hypothesis = Hypothesis { tokens: parent.tokens.clone(), logprob };
                let score = hypothesis.score(options.length_penalty);
                let at = self.finished.partition_point(|(other, _)| *other >= score);
                self.finished.insert(at, (score, hypothesis));
                self.finished.truncate(width);
            }
            if live.len() == width {
                break;
            }
        }
        self.live = live;
        self.done = self.finished.len() >= width || self.live.is_empty() || self.cannot_improve(options);
    }

    /// Whether no live beam can overtake the best finished sentence: log-probabilities only fall, the divisor is at most that of the longest.
    fn cannot_improve(&self, options: &BeamOptions) -> bool {
        let longest = ((options.max_tokens + 1) as f32).powf(options.length_penalty);
        let bound = self.live.iter().map(|beam| beam.logprob / longest).fold(f32::NEG_INFINITY, f32::max);
        self.finished.first().is_some_and(|(score, _)| *score >= bound)
    }

    /// The finished sentences, best first, or the best unfinished one where none ended in time.
    fn best(self) -> Vec<Hypothesis> {
        let live = self.live.into_iter().next().map(|beam| Hypothesis { tokens: beam.tokens, logprob: beam.logprob });
        if self.finished.is_empty() {
            return vec![live.unwrap_or(Hypothesis { tokens: Vec::new(), logprob: f32::NEG_INFINITY })];
        }
        self.finished.into_iter().map(|(_, hypothesis)| hypothesis).collect()
    }
}

/// The `count` largest values with their places, largest first, equal ones in order of place. Values that are not numbers are left out.
fn largest(row: &[f32], count: usize, forbidden: impl Fn(u32) -> bool) -> Vec<(f32, u32)> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
    for (token, &value) in row.iter().enumerate() {
        let token = token as u32;
        let enters = best.len() < count || best.last().is_some_and(|(least, _)| value > *least);
        if value.is_nan() || !enters || forbidden(token) {
            continue;
        }
        let at = best.partition_point(|(other, _)| *other >= value);
        best.insert(at, (value, token));
        best.truncate(count);
    }
    best
}

#[cfg(test)]
#[path = "beam_tests.rs"]
mod tests;
