//! Words of a caption as coco-caption counts them.
//!
//! coco-caption runs Stanford's PTBTokenizer with lower-casing and drops punctuation. This is the part of its rules that captions meet:
//! punctuation is split off and dropped, clitics ("n't", "'s", "'re", …) and the halves of "cannot" and "gonna" become words, brackets become `-lrb-` and the
//! like, hyphenated words, numbers with separators and initials stay whole. Known differences: abbreviations other than
//! a handful of titles lose their full stop, and PTB's rarer rewritings (currencies, fractions, spellings) are not followed.

/// Clitics that PTB splits off the end of a word, longest first.
const CLITICS: [&str; 7] = ["n't", "'re", "'ve", "'ll", "'s", "'m", "'d"];
/// Words PTB writes as two: where the second begins.
const CONTRACTIONS: [(&str, usize); 6] = [("cannot", 3), ("gonna", 3), ("gotta", 3), ("lemme", 3), ("wanna", 3), ("gimme", 3)];
/// Abbreviations that keep their full stop.
const ABBREVIATIONS: [&str; 10] = ["mr.", "mrs.", "ms.", "dr.", "st.", "jr.", "sr.", "vs.", "no.", "mt."];

/// Lower-cased words of `text` without punctuation.
pub fn tokenize(text: &str) -> Vec<String> {
    let lower = text.to_lowercase().replace(['\u{2018}', '\u{2019}'], "'");
    let mut words = Vec::new();
    for chunk in lower.split_whitespace() {
        push_chunk(chunk, &mut words);
    }
    words
}

/// Splits what stands between two spaces.
fn push_chunk(chunk: &str, words: &mut Vec<String>) {
    if ABBREVIATIONS.contains(&chunk) || is_initials(chunk) {
        words.push(chunk.to_owned());
        return;
    }
    let characters: Vec<char> = chunk.chars().collect();
    let mut word = String::new();
    for (i, &c) in characters.iter().enumerate() {
        let (before, after) = (i.checked_sub(1).map(|i| characters[i]), characters.get(i + 1).copied());
        if belongs_to_word(c, before, after) {
            word.push(c);
        } else {
            push_word(&word, words);
            word.clear();
            words.extend(word_of_symbol(c));
        }
    }
    push_word(&word, words);
}

/// "u.s.", "a.m."
fn is_initials(chunk: &str) -> bool {
    let characters: Vec<char> = chunk.chars().collect();
    characters.len() >= 4
        && characters.len().is_multiple_of(2)
        && characters.chunks(2).all(|pair| pair[0].is_alphabetic() && pair[1] == '.')
}

/// Letters and digits always; an apostrophe, hyphen, full stop, comma, colon or slash only where it joins two parts of one word.
fn belongs_to_word(c: char, before: Option<char>, after: Option<char>) -> bool {
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    match c {
        c if c.is_alphanumeric() => true,
        '\'' => word(after) && (word(before) || before.is_none()),
        '-' | '_' | '/' | '&' | '@' => word(before) && word(after),
        '.' => word(before) && word(after),
        ',' | ':' => digit(before) && digit(after),
        _ => false,
    }
}

/// The word a character makes on its own; `None` for what is on coco-caption's list of punctuation.
fn word_of_symbol(c: char) -> Option<String> {
    let bracket = match c {
        '(' => "-lrb-",
        ')' => "-rrb-",
        '[' => "-lsb-",
        ']' => "-rsb-",
        '{' => "-lcb-",
        '}' => "-rcb-",
        '&' | '$' | '%' | '#' | '+' | '=' | '*' | '/' | '@' | '\u{a3}' | '\u{20ac}' => return Some(c.to_string()),
        _ => return None,
    };
    Some(bracket.to_owned())
}

/// Splits clitics and contractions off and keeps what is left.
fn push_word(word: &str, words: &mut Vec<String>) {
    if word.is_empty() {
        return;
    }
    if let Some(&(_, at)) = CONTRACTIONS.iter().find(|(whole, _)| *whole == word) {
        words.extend([word[..at].to_owned(), word[at..].to_owned()]);
        return;
    }
    for clitic in CLITICS {
        if let Some(stem) = word.strip_suffix(clitic).filter(|stem| !stem.is_empty()) {
            push_word(stem, words);
            words.push(clitic.to_owned());
            return;
        }
    }
    match word.strip_prefix('\'') {
        Some(rest) if !CLITICS.contains(&word) => push_word(rest, words),
        _ => words.push(word.to_owned()),
    }
}
