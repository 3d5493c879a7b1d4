use super::*;

const SPECIALS: Specials = Specials { pad: 0, start: 1, end: 2 };

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

    fn logprob(&self, hypothesis: &Hypothesis, first: u32, ended: bool) -> f32 {
        let mut sentence = vec![first, SPECIALS.start];
        let mut sum = 0.0;
        for &token in hypothesis.tokens.iter().chain(ended.then_some(&SPECIALS.end)) {
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

fn options(width: usize, length_penalty: f32) -> BeamOptions {
    BeamOptions { width, max_tokens: 8, length_penalty }
}

fn run(toy: &Toy, pictures: &[u32], options: &BeamOptions) -> Vec<Hypothesis> {
    let state = pictures.iter().map(|&picture| vec![picture]).collect();
    candidates(toy, state, pictures.len(), SPECIALS, options).unwrap().into_iter().map(|mut found| found.swap_remove(0)).collect()
}

#[test]
fn one_beam_is_greedy() {
    let toy = Toy { vocabulary: 9 };
    for picture in 100..150 {
        let mut sentence = vec![picture, SPECIALS.start];
        for position in 0..8 {
            let row = toy.after(&sentence);
            let allowed = (2..9).filter(|&token| !(token == 2 && position == 0));
            let best = allowed.max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
            if best == SPECIALS.end {
                break;
            }
            sentence.push(best);
        }
        assert_eq!(run(&toy, &[picture], &options(1, 0.7))[0].tokens, sentence[2..]);
    }
}

#[test]
fn log_probabilities_are_those_of_the_sentence() {
    let toy = Toy { vocabulary: 12 };
    let pictures: Vec<u32> = (100..140).collect();
    for (found, &picture) in run(&toy, &pictures, &options(3, 0.7)).iter().zip(&pictures) {
        let ended = toy.logprob(found, picture, true);
        let cut = toy.logprob(found, picture, false);
        assert!((found.logprob - ended).abs() < 1e-4 || (found.tokens.len() == 8 && (found.logprob - cut).abs() < 1e-4), "{found:?}");
    }
}

#[test]
fn pictures_of_a_batch_do_not_disturb_each_other() {
    let toy = Toy { vocabulary: 10 };
    let pictures: Vec<u32> = (200..230).collect();
    let together = run(&toy, &pictures, &options(3, 0.7));
    for (together, &picture) in together.iter().zip(&pictures) {
        assert_eq!(run(&toy, &[picture], &options(3, 0.7))[0], *together);
    }
}

#[test]
fn a_wide_beam_finds_the_best_sentence() {
    // With as many beams as there are sentences the search is exhaustive.
    let toy = Toy { vocabulary: 5 };
    let options = BeamOptions { width: 40, max_tokens: 3, length_penalty: 0.0 };
    for picture in 300..330 {
        let mut best = (f32::NEG_INFINITY, Vec::new());
        let sentences =
            (3..5u32).flat_map(|a| [vec![a], vec![a, 3], vec![a, 4], vec![a, 3, 3], vec![a, 3, 4], vec![a, 4, 3], vec![a, 4, 4]]);
        for tokens in sentences.filter(|tokens| tokens.len() < 3) {
            let logprob = toy.logprob(&Hypothesis { tokens: tokens.clone(), logprob: 0.0 }, picture, true);
            if logprob > best.0 {
                best = (logprob, tokens);
            }
        }
        assert_eq!(run(&toy, &[picture], &options)[0].tokens, best.1);
    }
}

#[test]
fn nothing_is_empty_and_nothing_is_endless() {
    let toy = Toy { vocabulary: 4 };
    for width in 1..5 {
        for found in run(&toy, &(0..50).collect::<Vec<_>>(), &options(width, 0.0)) {
            assert!((1..=8).contains(&found.tokens.len()), "{found:?}");
            assert!(found.tokens.iter().all(|&token| token == 3));
        }
    }
}

#[test]
fn further_candidates_are_worse_and_different() {
    let toy = Toy { vocabulary: 7 };
    let pictures: Vec<Vec<u32>> = (3..40).map(|picture| vec![picture]).collect();
    let found = candidates(&toy, pictures.clone(), pictures.len(), SPECIALS, &options(4, 0.7)).unwrap();
    assert_eq!(found.len(), pictures.len());
    assert!(found.iter().all(|found| (1..=4).contains(&found.len())));
    assert!(found.iter().any(|found| found.len() > 1), "no picture has a second sentence");
    for pair in found.iter().flat_map(|found| found.windows(2)) {
        assert!(pair[0].score(0.7) >= pair[1].score(0.7), "{pair:?}");
        assert_ne!(pair[0].tokens, pair[1].tokens);
    }
}
