//! The form in which phrases are embedded.

/// The form phrases are trained in: lower case, single spaces, no punctuation around it, no article or possessive before it.
///
/// What is nothing but an article stays.
pub fn normalise_phrase(phrase: &str) -> String {
    const BEFORE: [&str; 11] = ["a", "an", "the", "some", "his", "her", "their", "its", "this", "that", "another"];
    let lower = phrase.to_lowercase();
    let words: Vec<&str> = lower.trim_matches(|c: char| c.is_whitespace() || ".,'\"!?".contains(c)).split_whitespace().collect();
    match words.as_slice() {
        [first, rest @ ..] if !rest.is_empty() && BEFORE.contains(first) => rest.join(" "),
        all => all.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_lose_what_says_nothing() {
        assert_eq!(normalise_phrase("  A brown  Dog. "), "brown dog");
        assert_eq!(normalise_phrase("their hats"), "hats");
        assert_eq!(normalise_phrase("the"), "the");
        assert_eq!(normalise_phrase("another"), "another");
        assert_eq!(normalise_phrase("anchor"), "anchor");
    }
}
