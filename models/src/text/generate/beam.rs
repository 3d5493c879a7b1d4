//! Beam search, as transformers' `_beam_search` does it.
//!
//! In every step the best (1 + ends) · width continuations of all beams are looked at. Those that end are sequences if they are among the first
//! `width`; of the others the first `width` live on. Sequences are compared by `logprob / tokens^length_penalty`, the end token counted.

use std::ops::ControlFlow;

use ocelli_flow::{Finish, ModelError};
use serde::{Deserialize, Serialize};

use super::{Context, Hypothesis, LogitsProcessor, Settings, Start, StepDecoder, Watch, processors};

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamSettings {
    /// Beams kept.
    pub width: usize,
    /// 0 favours short sequences, 1 compares mean log-probabilities, more favours long ones.
    pub length_penalty: f32,
    /// When enough is found.
    pub early_stopping: EarlyStopping,
}

/// When a beam search is over, beside the greatest length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyStopping {
    /// `width` sequences are there, and the best beam, ended now, would not beat the worst of them (transformers' `False`).
    #[default]
    Heuristic,
    /// `width` sequences are there (transformers' `True`).
    Full,
    /// `width` sequences are there, and no beam can beat the worst of them, however long it grows (transformers' `"never"`).
    Never,
    /// `width` sequences are there, or no beam can beat the best of those there are.
    Sure,
}

/// A sequence that goes on.
#[derive(Debug, Clone)]
struct Beam {
    row: usize,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    /// Sum of processed log-probabilities.
    score: f32,
}

/// The beams of one source.
#[derive(Debug, Clone)]
struct Source {
    live: Vec<Beam>,
    /// Best finished sequences, best first; at most `width`.
    finished: Vec<Hypothesis>,
    done: bool,
}

/// What a step needs beside its numbers.
struct Step<'a> {
    prompt: &'a [u32],
    /// Generated tokens of the sequences that this step makes.
    length: usize,
    vocabulary: usize,
    settings: &'a Settings,
    search: &'a BeamSettings,
}

/// The best sequences for each of `sources` sources, best first: at least one, at most as many as there are beams. They share a prompt's tokens
/// and differ in what the decoder's state has of them.
///
/// Sequences of the same score keep the order of their beams and token ids: the result does not depend on chance.
///
/// # Errors
/// The decoder's.
pub fn beams<D: StepDecoder>(
    decoder: &D,
    start: Start<'_, D::State>,
    sources: usize,
    settings: &Settings,
    search: &BeamSettings,
    watch: &mut dyn Watch,
) -> Result<Vec<Vec<Hypothesis>>, ModelError> {
    let Start { state, mut logits, prompt } = start;
    let width = search.width.max(1);
    let mut processors = processors::of_settings(settings);
    let first =
        |row| Source { live: vec![Beam { row, tokens: Vec::new(), logprobs: Vec::new(), score: 0.0 }], finished: Vec::new(), done: false };
    let mut found: Vec<Source> = (0..sources).map(first).collect();
    let mut rows = 1;
    for length in 1..=settings.max_tokens {
        let vocabulary = logits.len() / (sources * rows).max(1);
        super::log_softmax(&mut logits, vocabulary);
        let step = Step { prompt: &prompt, length, vocabulary, settings, search };
        for source in found.iter_mut().filter(|source| !source.done) {
            source.advance(&logits, &step, &mut processors, watch)?;
        }
        if found.iter().all(|source| source.done) || length == settings.max_tokens {
            break;
        }
        if let ControlFlow::Break(_) = watch.step() {
            return Ok(found.into_iter().map(|source| source.best(Finish::Cancelled)).collect());
        }
        let parents: Vec<usize> = found.iter().enumerate().flat_map(|(i, source)| source.parents(width, i * rows)).collect();
        decoder.reorder(state, &parents);
        rows = width;
        for (i, source) in found.iter_mut().enumerate() {
            source.live.iter_mut().enumerate().for_each(|(beam, live)| live.row = i * width + beam);
        }
        // Rows without a beam repeat any token and are ignored.
        let last = |beam: Option<&Beam>| beam.and_then(|beam| beam.tokens.last()).copied().unwrap_or_default();
        let tokens: Vec<u32> = found.iter().flat_map(|source| (0..width).map(|beam| last(source.live.get(beam)))).collect();
        logits = decoder.step(&tokens, state)?;
    }
    Ok(found.into_iter().map(|source| source.best(Finish::Length)).collect())
}

impl Source {
    /// The row that each of the next rows continues; rows without a beam continue the source's first.
    fn parents(&self, width: usize, first: usize) -> impl Iterator<Item = usize> + '_ {
        (0..width).map(move |beam| self.live.get(beam).map_or(first, |beam| beam.row))
    }

    /// One step of the search: the best continuations live on, or finish.
    fn advance(
        &mut self,
        logprobs: &[f32],
        step: &Step<'_>,
        processors: &mut [Box<dyn LogitsProcessor>],
        watch: &dyn Watch,
    ) -> Result<(), ModelError> {
        let &Step { prompt, length, vocabulary, settings, search } = step;
        let width = search.width.max(1);
        let count = width * (1 + settings.end.len()).max(2);
        let mut candidates: Vec<(f32, usize, u32)> = Vec::new(); // score, beam, token
        for (i, beam) in self.live.iter().enumerate() {
            let raw = &logprobs[beam.row * vocabulary..(beam.row + 1) * vocabulary];
            let mut changed = None;
            if !processors.is_empty() {
                let sequence: Vec<u32> = prompt.iter().chain(&beam.tokens).copied().collect();
                let scores = changed.insert(raw.to_vec());
                for processor in &mut *processors {
                    processor.process(Context { sequence: &sequence, prompt: prompt.len() }, scores)?;
                }
            }
            let scores = changed.as_deref().unwrap_or(raw);
            candidates.extend(largest(scores, count).into_iter().map(|(value, token)| (beam.score + value, i, token)));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        candidates.truncate(count);
        let mut live = Vec::with_capacity(width);
        for (rank, (score, parent, token)) in candidates.into_iter().enumerate() {
            let parent = &self.live[parent];
            let end = settings.end.contains(&token);
            let tokens: Vec<u32> = parent.tokens.iter().copied().chain((!end).then_some(token)).collect();
            let finish = if end {
                Some(Finish::End)
            } else if length >= settings.max_tokens {
                Some(Finish::Length)
            } else {
                watch.stops(&tokens).then_some(Finish::Stop)
            };
            if finish.is_some() && rank >= width || finish.is_none() && live.len() == width {
                continue;
            }
            let forced = settings.forces(length - 1, prompt.len());
            let own = if forced { 0.0 } else { logprobs[parent.row * vocabulary + token as usize] };
            let logprobs = parent.logprobs.iter().copied().chain([own]).collect();
            match finish {
                None => live.push(Beam { row: parent.row, tokens, logprobs, score }),
                Some(finish) => {
                    let score = score / (length as f32).powf(search.length_penalty);
                    let at = self.finished.partition_point(|other| other.score >= score);
                    self.finished.insert(at, Hypothesis { tokens, logprobs, score, finish });
                }
            }
        }
        self.finished.truncate(width);
        self.live = live;
        self.done = self.live.is_empty() || !self.may_improve(length, settings.max_tokens, search);
        Ok(())
    }

    /// Whether going on can bring something better.
    fn may_improve(&self, length: usize, longest: usize, search: &BeamSettings) -> bool {
        let penalty = search.length_penalty;
        let full = self.finished.len() >= search.width.max(1);
        let best = |length: usize| self.live.first().map_or(f32::NEG_INFINITY, |beam| beam.score / (length as f32).powf(penalty));
        // Where longer is better the most that a log-probability can become is that of the longest.
        let most = || best(if penalty > 0.0 { longest } else { length });
        let worst = self.finished.last().map_or(f32::NEG_INFINITY, |worst| worst.score);
        match search.early_stopping {
            EarlyStopping::Full => !full,
            EarlyStopping::Heuristic => !full || best(length) > worst,
            EarlyStopping::Never => !full || most() > worst,
            EarlyStopping::Sure => !full && self.finished.first().is_none_or(|first| most() > first.score),
        }
    }

    /// The finished sequences, best first, or the best unfinished one where none ended.
    fn best(self, finish: Finish) -> Vec<Hypothesis> {
        if !self.finished.is_empty() {
            return self.finished;
        }
        let unfinished = |beam: Beam| Hypothesis { tokens: beam.tokens, logprobs: beam.logprobs, score: beam.score, finish };
        self.live.into_iter().next().map(unfinished).into_iter().collect()
    }
}

/// The `count` largest values with their places, largest first, equal ones in order of place. What is no finite number is left out.
fn largest(row: &[f32], count: usize) -> Vec<(f32, u32)> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
    for (token, &value) in row.iter().enumerate() {
        let enters = best.len() < count || best.last().is_some_and(|(least, _)| value > *least);
        if !value.is_finite() || !enters {
            continue;
        }
        let at = best.partition_point(|(other, _)| *other >= value);
        best.insert(at, (value, token as u32));
        best.truncate(count);
    }
    best
}

#[cfg(test)]
#[path = "beam_tests.rs"]
mod tests;
