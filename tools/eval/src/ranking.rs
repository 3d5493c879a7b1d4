//! How well a score separates what is there from what is not.

/// Area under the ROC curve: the probability that a positive scores above a negative, ties counted half.
///
/// `None` where one of the two is empty. Scores that are not numbers count as the lowest.
pub fn auc(positives: &[f32], negatives: &[f32]) -> Option<f64> {
    if positives.is_empty() || negatives.is_empty() {
        return None;
    }
    let number = |&score: &f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    let mut scored: Vec<(f32, bool)> = positives.iter().map(|s| (number(s), true)).collect();
    scored.extend(negatives.iter().map(|s| (number(s), false)));
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0); // negatives below the current score; pairs won
    let mut start = 0;
    while start < scored.len() {
        let end = start + scored[start..].iter().take_while(|(score, _)| *score == scored[start].0).count();
        let positive = scored[start..end].iter().filter(|(_, positive)| *positive).count() as f64;
        let negative = (end - start) as f64 - positive;
        wins += positive * (below + negative / 2.0);
        below += negative;
        start = end;
    }
    Some(wins / (positives.len() as f64 * negatives.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::auc;

    #[test]
    fn counts_pairs() {
        // Pairs won: 3 > 1, 3 > 2.5, 2 > 1; lost: 2 < 2.5.
        assert_eq!(auc(&[3.0, 2.0], &[1.0, 2.5]), Some(0.75));
        assert_eq!(auc(&[1.0, 1.0], &[1.0]), Some(0.5));
        assert_eq!(auc(&[], &[1.0]), None);
        assert_eq!(auc(&[f32::NAN], &[0.0]), Some(0.0));
    }
}
