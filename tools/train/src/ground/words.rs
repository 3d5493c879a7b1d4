//! Which phrases a picture's captions speak against.
//!
//! A phrase whose head noun no caption of a picture uses, nor a word that may name the same thing, is taken to be absent. What such
//! words are is listed in `data/ground_words.txt`.

use std::collections::{HashMap, HashSet};

/// The lists.
const LISTS: &str = include_str!("../../data/ground_words.txt");
/// After these the thing is named: "a group of people".
const MEASURES: [&str; 21] = [
    "group", "bunch", "pair", "couple", "set", "crowd", "number", "lot", "piece", "team", "line", "pile", "bit", "patch", "body", "row",
    "glass", "bottle", "cup", "bowl", "kind",
];
/// Before these the thing is named: "a dog with a ball".
const AFTER: [&str; 11] = ["of", "with", "in", "on", "at", "and", "to", "that", "from", "for", "near"];

/// Sex and age of a person word, each a letter or `?`.
type Person = [u8; 2];

/// What the lists say.
pub struct Words {
    /// Word → the groups it belongs to.
    same: HashMap<&'static str, Vec<usize>>,
    person: HashMap<&'static str, Person>,
    body: HashSet<&'static str>,
    plural: HashMap<&'static str, &'static str>,
}

/// A phrase's head noun, as far as negatives go.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    noun: String,
    person: Option<Person>,
}

/// What the captions of a picture mention.
#[derive(Debug, Clone, Default)]
pub struct Mentioned {
    nouns: HashSet<String>,
    groups: HashSet<usize>,
    people: Vec<Person>,
}

impl Words {
    /// Reads the lists.
    pub fn new() -> Self {
        let mut words = Self { same: HashMap::new(), person: HashMap::new(), body: HashSet::new(), plural: HashMap::new() };
        for (number, line) in LISTS.lines().enumerate() {
            let Some((kind, rest)) = line.split_once(": ").filter(|_| !line.starts_with('#')) else { continue };
            let listed: Vec<&str> = rest.split_whitespace().collect();
            match (kind, listed.as_slice()) {
                ("same", all) => all.iter().for_each(|word| words.same.entry(word).or_default().push(number)),
                ("body", all) => words.body.extend(all),
                ("person", [word, about]) => {
                    let mut about = about.bytes();
                    words.person.insert(word, [about.next().unwrap_or(b'?'), about.next().unwrap_or(b'?')]);
                }
                ("plural", [many, one]) => {
                    words.plural.insert(many, one);
                }
                _ => {}
            }
        }
        words
    }

    /// One of several.
    pub fn singular(&self, word: &str) -> String {
        if let Some(one) = self.plural.get(word) {
            return (*one).to_owned();
        }
        let es = ["ches", "shes", "xes", "sses", "zes"].iter().any(|ending| word.ends_with(ending));
        match word {
            _ if word.len() < 4 || word.ends_with("ss") || self.same.contains_key(word) => word.to_owned(),
            _ if word.ends_with("ies") => format!("{}y", &word[..word.len() - 3]),
            _ if es => word[..word.len() - 2].to_owned(),
            _ => word.strip_suffix('s').unwrap_or(word).to_owned(),
        }
    }

    /// The head noun of a normalised phrase: the last word before the first preposition, after "a group of" and the like.
    pub fn head(&self, phrase: &str) -> Head {
        let mut words: Vec<&str> = phrase.split_whitespace().collect();
        if let Some(at) = words.windows(2).position(|pair| MEASURES.contains(&pair[0]) && pair[1] == "of").filter(|at| at + 2 < words.len())
        {
            words.drain(..at + 2);
        }
        let end = (1..words.len()).find(|&i| AFTER.contains(&words[i])).unwrap_or(words.len());
        let noun = self.singular(words[..end].last().copied().unwrap_or(phrase));
        let person = self.person.get(noun.as_str()).copied();
        Head { noun, person }
    }

    /// What a picture's captions and phrases mention.
    pub fn mentioned<'a>(&self, captions: impl Iterator<Item = &'a str>, phrases: impl Iterator<Item = &'a Head>) -> Mentioned {
        let mut mentioned = Mentioned::default();
        for word in captions.flat_map(str::split_whitespace) {
            let word: String = word.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>().to_lowercase();
            mentioned.add(self, self.singular(&word), None);
        }
        for head in phrases {
            mentioned.add(self, head.noun.clone(), head.person);
        }
        mentioned
    }

    /// Whether a phrase names something that nothing mentioned speaks of.
    pub fn absent(&self, head: &Head, mentioned: &Mentioned) -> bool {
        let same = self.same.get(head.noun.as_str());
        let named =
            mentioned.nouns.contains(&head.noun) || same.is_some_and(|groups| groups.iter().any(|group| mentioned.groups.contains(group)));
        let fits = |a: u8, b: u8| a == b || a == b'?' || b == b'?';
        let person = head.person.is_some_and(|one| mentioned.people.iter().any(|other| fits(one[0], other[0]) && fits(one[1], other[1])));
        let body = self.body.contains(head.noun.as_str()) && !mentioned.people.is_empty();
        !(named || person || body)
    }
}

impl Mentioned {
    fn add(&mut self, words: &Words, noun: String, person: Option<Person>) {
        self.groups.extend(words.same.get(noun.as_str()).into_iter().flatten());
        self.people.extend(person.or_else(|| words.person.get(noun.as_str()).copied()));
        self.nouns.insert(noun);
    }
}

/// The phrase as it is of the mirrored picture.
pub fn mirrored(phrase: &str) -> String {
    let swap = |word| match word {
        "left" => "right",
        "right" => "left",
        other => other,
    };
    phrase.split(' ').map(swap).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_phrases() {
        let words = Words::new();
        for (phrase, noun) in [
            ("brown dog", "dog"),
            ("group of young men", "man"),
            ("two little girls in pink", "girl"),
            ("man with glasses", "man"),
            ("grass", "grass"),
            ("glasses", "glasses"),
            ("benches", "bench"),
            ("couple", "couple"),
            ("of", "of"),
        ] {
            assert_eq!(words.head(phrase).noun, noun, "{phrase}");
        }
    }

    #[test]
    fn what_may_be_there_is_not_absent() {
        let words = Words::new();
        let heads = [words.head("puppy"), words.head("boy")];
        let mentioned = words.mentioned(["A puppy runs after a boy in the ocean."].into_iter(), heads.iter());
        let absent = |phrase: &str| words.absent(&words.head(phrase), &mentioned);
        for there in ["black dog", "child", "person", "waves", "hands", "young man", "boys", "animal"] {
            assert!(!absent(there), "{there}");
        }
        for not in ["cat", "girl in red", "car", "mountain", "blue umbrella"] {
            assert!(absent(not), "{not}");
        }
    }

    #[test]
    fn left_and_right_change_places() {
        assert_eq!(mirrored("man on the left"), "man on the right");
        assert_eq!(mirrored("right hand"), "left hand");
        assert_eq!(mirrored("bright leftover"), "bright leftover");
    }
}
