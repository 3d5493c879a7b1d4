//! What changes the scores of tokens before one is chosen; names and semantics are those of transformers' `LogitsProcessor`s.

use ocelli_flow::ModelError;

use super::Settings;

/// What has been written so far.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Prompt and generated tokens.
    pub sequence: &'a [u32],
    /// How many of them are the prompt.
    pub prompt: usize,
}

impl Context<'_> {
    /// Tokens generated so far.
    pub fn generated(&self) -> usize {
        self.sequence.len() - self.prompt
    }
}

/// Changes the scores of the next token; −∞ forbids one.
pub trait LogitsProcessor {
    /// `scores [vocabulary]`: logits, or log-probabilities in a beam search.
    ///
    /// # Errors
    /// Where what was written cannot go on.
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError>;
}

/// All that [`Settings`] ask for, in transformers' order.
pub fn of_settings(settings: &Settings) -> Vec<Box<dyn LogitsProcessor>> {
    let mut processors: Vec<Box<dyn LogitsProcessor>> = Vec::new();
    if settings.repetition_penalty != 1.0 {
        processors.push(Box::new(RepetitionPenalty(settings.repetition_penalty)));
    }
    if settings.no_repeat_ngram > 0 {
        processors.push(Box::new(NoRepeatNgram(settings.no_repeat_ngram)));
    }
    // A text can always end.
    let is_end = |word: &[u32]| matches!(word, [token] if settings.end.contains(token));
    let bad_words: Vec<Vec<u32>> = settings.bad_words.iter().filter(|word| !is_end(word)).cloned().collect();
    if !bad_words.is_empty() {
        processors.push(Box::new(BadWords(bad_words)));
    }
    if settings.min_tokens > 0 {
        processors.push(Box::new(MinTokens { least: settings.min_tokens, end: settings.end.clone() }));
    }
    if let Some(token) = settings.forced_first {
        processors.push(Box::new(Forced { token, at: 0, whole: true }));
    }
    if let Some(token) = settings.forced_last {
        processors.push(Box::new(Forced { token, at: settings.max_tokens - 1, whole: false }));
    }
    if !settings.suppressed.is_empty() {
        processors.push(Box::new(Suppressed { tokens: settings.suppressed.clone(), only_first: false }));
    }
    if !settings.suppressed_first.is_empty() {
        processors.push(Box::new(Suppressed { tokens: settings.suppressed_first.clone(), only_first: true }));
    }
    processors
}

fn forbid(scores: &mut [f32], token: u32) {
    if let Some(score) = scores.get_mut(token as usize) {
        *score = f32::NEG_INFINITY;
    }
}

/// Scores of tokens that are there already are divided by it where positive, else multiplied (Keskar et al. 2019,
/// <https://arxiv.org/abs/1909.05858>).
#[derive(Debug)]
pub struct RepetitionPenalty(pub f32);

impl LogitsProcessor for RepetitionPenalty {
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError> {
        let mut seen = context.sequence.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = if *score < 0.0 { *score * self.0 } else { *score / self.0 };
            }
        }
        Ok(())
    }
}

/// No n tokens in a row come twice.
#[derive(Debug)]
pub struct NoRepeatNgram(pub usize);

impl LogitsProcessor for NoRepeatNgram {
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError> {
        let Context { sequence, .. } = context;
        let Some(begin) = (sequence.len() + 1).checked_sub(self.0) else { return Ok(()) };
        let last = &sequence[begin..];
        for ngram in sequence.windows(self.0).filter(|ngram| &ngram[..self.0 - 1] == last) {
            forbid(scores, ngram[self.0 - 1]);
        }
        Ok(())
    }
}

/// Sequences that never come: their last token is forbidden where the others stand before it.
#[derive(Debug)]
pub struct BadWords(pub Vec<Vec<u32>>);

impl LogitsProcessor for BadWords {
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError> {
        for word in &self.0 {
            if let Some((last, before)) = word.split_last()
                && context.sequence.ends_with(before)
            {
                forbid(scores, *last);
            }
        }
        Ok(())
    }
}

/// No end before so many tokens.
#[derive(Debug)]
pub struct MinTokens {
    /// How many.
    pub least: usize,
    /// Tokens that end a text.
    pub end: Vec<u32>,
}

impl LogitsProcessor for MinTokens {
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError> {
        if context.generated() < self.least {
            self.end.iter().for_each(|&token| forbid(scores, token));
        }
        Ok(())
    }
}

/// The only token that may come at a place.
#[derive(Debug)]
pub struct Forced {
    /// It.
    pub token: u32,
    /// After so many generated ones.
    pub at: usize,
    /// The place is only meant where nothing but one start token stands before it.
    pub whole: bool,
}

impl LogitsProcessor for Forced {
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError> {
        if context.generated() == self.at && (!self.whole || context.prompt == 1) {
            scores.fill(f32::NEG_INFINITY);
            if let Some(score) = scores.get_mut(self.token as usize) {
                *score = 0.0;
            }
        }
        Ok(())
    }
}

/// Tokens that never come, or not at the beginning.
#[derive(Debug)]
pub struct Suppressed {
    /// They.
    pub tokens: Vec<u32>,
    /// Whether only the first generated token is meant.
    pub only_first: bool,
}

impl LogitsProcessor for Suppressed {
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError> {
        if !self.only_first || context.generated() == 0 {
            self.tokens.iter().for_each(|&token| forbid(scores, token));
        }
        Ok(())
    }
}
