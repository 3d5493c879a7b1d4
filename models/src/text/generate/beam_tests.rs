use super::super::{Defaults, Strategy};
use super::*;

const PAD: u32 = 0;
const START: u32 = 1;
const END: u32 = 2;

/// A decoder whose next token depends on the whole sentence so far: what a cache must carry along.
struct Toy {
    vocabulary: usize,
}

impl Toy {
    /// Log-probabilities after a sentence that begins with the start token.
    fn after(&self, sentence: &[u32]) -> Vec<f32> {
        let hash = |token: usize| {
            sentence.iter().fold(token as u64 + 11, |h, &t| (h ^ u64::from(t)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17))
        };
        let logits: Vec<f32> = (0..self.vocabulary).map(|token| (hash(token) >> 40) as f32 / (1u64 << 24) as f32 * 3.0).collect();
        let total = logits.iter().map(|x| x.exp()).sum::<f32>().ln();
        logits.iter().map(|x| x - total).collect()
    }

    fn sum(&self, tokens: &[u32], first: u32, ended: bool) -> f32 {
        let mut sentence = vec![first, START];
        let mut sum = 0.0;
        for &token in tokens.iter().chain(ended.then_some(&END)) {
            sum += self.after(&sentence)[token as usize];
            sentence.push(token);
        }
        sum
    }
}

impl StepDecoder for Toy {
    type State = Vec<Vec<u32>>; // the sentences so far, each begun by its picture's number

    fn step(&self, tokens: &[u32], state: &mut Self::State) -> Result<Vec<f32>, ModelError> {
        assert_eq!(tokens.len(), state.len());
        state.iter_mut().zip(tokens).for_each(|(sentence, &token)| sentence.push(token));
        Ok(state.iter().flat_map(|sentence| self.after(sentence)).collect())
    }

    fn reorder(&self, state: &mut Self::State, rows: &[usize]) {
        *state = rows.iter().map(|&row| state[row].clone()).collect();
    }
}

/// Pad and start never come, and no text is empty.
fn settings(max_tokens: usize) -> Settings {
    let defaults = Defaults { end: vec![END], suppressed: vec![PAD, START], suppressed_first: vec![END], ..Defaults::default() };
    let asked = ocelli_flow::GenerateOptions { max_tokens: Some(max_tokens), ..Default::default() };
    let settings = defaults.settings(&asked, 1, 100).unwrap();
    assert_eq!(settings.strategy, Strategy::Greedy);
    settings
}

fn search(width: usize, length_penalty: f32) -> BeamSettings {
    BeamSettings { width, length_penalty, early_stopping: EarlyStopping::Sure }
}

fn all(toy: &Toy, sources: &[u32], max_tokens: usize, search: &BeamSettings) -> Vec<Vec<Hypothesis>> {
    let mut state: Vec<Vec<u32>> = sources.iter().map(|&source| vec![source]).collect();
    let logits = toy.step(&vec![START; sources.len()], &mut state).unwrap();
    let start = Start { state: &mut state, logits, prompt: vec![START] };
    beams(toy, start, sources.len(), &settings(max_tokens), search, &mut ()).unwrap()
}

fn run(toy: &Toy, sources: &[u32], search: &BeamSettings) -> Vec<Hypothesis> {
    all(toy, sources, 8, search).into_iter().map(|mut found| found.swap_remove(0)).collect()
}

#[test]
fn one_beam_is_greedy() {
    let toy = Toy { vocabulary: 9 };
    for picture in 100..150 {
        let mut sentence = vec![picture, START];
        for position in 0..8 {
            let row = toy.after(&sentence);
            let allowed = (2..9).filter(|&token| !(token == 2 && position == 0));
            let best = allowed.max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
            if best == END {
                break;
            }
            sentence.push(best);
        }
        assert_eq!(run(&toy, &[picture], &search(1, 0.7))[0].tokens, sentence[2..]);
    }
}

#[test]
fn log_probabilities_are_those_of_the_sentence() {
    let toy = Toy { vocabulary: 12 };
    let pictures: Vec<u32> = (100..140).collect();
    for (found, &picture) in run(&toy, &pictures, &search(3, 0.7)).iter().zip(&pictures) {
        let ended = toy.sum(&found.tokens, picture, true);
        let cut = toy.sum(&found.tokens, picture, false);
        assert!((found.logprob() - ended).abs() < 1e-4 || (found.tokens.len() == 8 && (found.logprob() - cut).abs() < 1e-4), "{found:?}");
    }
}

#[test]
fn pictures_of_a_batch_do_not_disturb_each_other() {
    let toy = Toy { vocabulary: 10 };
    let pictures: Vec<u32> = (200..230).collect();
    let together = run(&toy, &pictures, &search(3, 0.7));
    for (together, &picture) in together.iter().zip(&pictures) {
        assert_eq!(run(&toy, &[picture], &search(3, 0.7))[0], *together);
    }
}

#[test]
fn a_wide_beam_finds_the_best_sentence() {
    // With as many beams as there are sentences the search is exhaustive.
    let toy = Toy { vocabulary: 5 };
    let search = search(40, 0.0);
    for picture in 300..330 {
        let mut best = (f32::NEG_INFINITY, Vec::new());
        let sentences =
            (3..5u32).flat_map(|a| [vec![a], vec![a, 3], vec![a, 4], vec![a, 3, 3], vec![a, 3, 4], vec![a, 4, 3], vec![a, 4, 4]]);
        for tokens in sentences.filter(|tokens| tokens.len() < 3) {
            let logprob = toy.sum(&tokens, picture, true);
            if logprob > best.0 {
                best = (logprob, tokens);
            }
        }
        assert_eq!(all(&toy, &[picture], 3, &search)[0][0].tokens, best.1);
    }
}

#[test]
fn nothing_is_empty_and_nothing_is_endless() {
    let toy = Toy { vocabulary: 4 };
    for width in 1..5 {
        for found in run(&toy, &(0..50).collect::<Vec<_>>(), &search(width, 0.0)) {
            assert!((1..=8).contains(&found.tokens.len()), "{found:?}");
            assert!(found.tokens.iter().all(|&token| token == 3));
        }
    }
}

#[test]
fn further_candidates_are_worse_and_different() {
    let toy = Toy { vocabulary: 7 };
    let pictures: Vec<u32> = (3..40).collect();
    let found = all(&toy, &pictures, 8, &search(4, 0.7));
    assert_eq!(found.len(), pictures.len());
    assert!(found.iter().all(|found| (1..=4).contains(&found.len())));
    assert!(found.iter().any(|found| found.len() > 1), "no picture has a second sentence");
    for pair in found.iter().flat_map(|found| found.windows(2)) {
        assert!(pair[0].score >= pair[1].score, "{pair:?}");
        assert_ne!(pair[0].tokens, pair[1].tokens);
    }
}
