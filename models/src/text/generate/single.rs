//! One sequence: the likeliest token every time, or one that is drawn.

use std::ops::ControlFlow;

use ocelli_flow::{Finish, ModelError, Sampling};

use super::sample::Sampler;
use super::{Context, Hypothesis, LogitsProcessor, Settings, Start, StepDecoder, Watch, processors};

/// Follows one sequence to its end.
///
/// # Errors
/// The decoder's, and where processors leave no token.
pub fn single<D: StepDecoder>(
    decoder: &D,
    start: Start<'_, D::State>,
    settings: &Settings,
    sampling: Option<&Sampling>,
    more: Vec<Box<dyn LogitsProcessor + '_>>,
    watch: &mut dyn Watch,
) -> Result<Hypothesis, ModelError> {
    let Start { state, mut logits, prompt } = start;
    let mut sampler = sampling.map(Sampler::new);
    let mut processors: Vec<Box<dyn LogitsProcessor + '_>> = Vec::new();
    processors.extend(processors::of_settings(settings).into_iter().map(|own| own as Box<dyn LogitsProcessor>));
    processors.extend(more);
    let (before, mut sequence, mut logprobs) = (prompt.len(), prompt, Vec::new());
    let finish = loop {
        let sum = log_sum_exp(&logits);
        // As the decoder said them, where that changes.
        let raw = (!processors.is_empty()).then(|| logits.clone());
        for processor in &mut processors {
            processor.process(Context { sequence: &sequence, prompt: before }, &mut logits)?;
        }
        let chosen = match &mut sampler {
            Some(sampler) => sampler.draw(&logits),
            None => greatest(&logits),
        };
        let Some(token) = chosen else {
            return Err(ModelError::Compute { stage: "decode", reason: "no token may follow: the logits are not numbers".into() });
        };
        let forced = settings.forces(sequence.len() - before, before);
        let logprob =
            raw.as_ref().unwrap_or(&logits).get(token as usize).map_or(f32::NEG_INFINITY, |logit| if forced { 0.0 } else { logit - sum });
        logprobs.push(logprob);
        if settings.end.contains(&token) {
            break Finish::End;
        }
        sequence.push(token);
        match watch.token(token) {
            ControlFlow::Break(finish) => break finish,
            ControlFlow::Continue(()) if sequence.len() - before >= settings.max_tokens => break Finish::Length,
            ControlFlow::Continue(()) => logits = decoder.step(&[token], state)?,
        }
    };
    let score = logprobs.iter().sum();
    Ok(Hypothesis { tokens: sequence.split_off(before), logprobs, score, finish })
}

/// ln Σ eˣ
fn log_sum_exp(logits: &[f32]) -> f32 {
    let mut row = logits.to_vec();
    super::log_softmax(&mut row, logits.len());
    // Of any number: the difference is the same everywhere. The greatest is exact.
    let place = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    place.map_or(f32::NAN, |place| logits[place] - row[place])
}

/// The first of the greatest numbers.
fn greatest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > best.map_or(f32::NEG_INFINITY, |best| best.1) {
            best = Some((token as u32, logit));
        }
    }
    best.map(|best| best.0)
}
