//! Which model, and which of its revisions.

use crate::{HubError, Settings};

/// The branch that is meant where none is named.
pub const DEFAULT_REVISION: &str = "main";

/// The longest name that the Hub takes.
const LONGEST_NAME: usize = 96;

/// A model that is wanted. Its names are checked, so that they can be part of a path and of an address.
#[derive(Debug, Clone)]
pub struct Request {
    repo: String,
    revision: String,
    /// Where from, and where to.
    pub settings: Settings,
}

impl Request {
    /// `ORG/NAME`, or `ORG/NAME@REV` with a branch, a tag or a commit.
    ///
    /// # Errors
    /// [`HubError::BadName`] and [`HubError::BadRevision`], before anything is opened.
    pub fn parse(text: &str, settings: Settings) -> Result<Self, HubError> {
        match text.split_once('@') {
            Some((repo, revision)) => Self::new(repo, revision, settings),
            None => Self::new(text, DEFAULT_REVISION, settings),
        }
    }

    /// The two names apart.
    ///
    /// # Errors
    /// As [`Request::parse`].
    pub fn new(repo: &str, revision: &str, settings: Settings) -> Result<Self, HubError> {
        if let Some(why) = wrong_with_name(repo) {
            return Err(HubError::BadName { name: repo.to_owned(), why });
        }
        if let Some(why) = wrong_with_revision(revision) {
            return Err(HubError::BadRevision { revision: revision.to_owned(), why });
        }
        Ok(Self { repo: repo.to_owned(), revision: revision.to_owned(), settings })
    }

    /// `ORG/NAME`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The branch, tag or commit as it was asked for.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

/// Whether this is a commit's full hash, which names one state of a repository for ever.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

/// The Hub's own rules for names, so that nothing that passes here can leave the cache's folder.
fn wrong_with_name(repo: &str) -> Option<&'static str> {
    let Some((organization, name)) = repo.split_once('/') else {
        return Some("it has no organization");
    };
    for part in [organization, name] {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if part.is_empty() {
            return Some("a part of it is empty");
        }
        if part.len() > LONGEST_NAME {
            return Some("a part of it is longer than 96 characters");
        }
        if !part.chars().all(allowed) {
            return Some("only letters, digits, '-', '_' and '.' may be in it, and one '/'");
        }
        if part.contains("..") || part.contains("--") {
            return Some("'..' and '--' may not be in it");
        }
        if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) {
            return Some("no part may begin or end with '.' or '-'");
        }
    }
    name.ends_with(".git").then_some("it may not end with '.git'")
}

/// git's rules for references, a little narrower: what passes is a relative path and needs no escaping in an address, but for its '/'.
fn wrong_with_revision(revision: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '=');
    if revision.is_empty() {
        return Some("it is empty");
    }
    if revision.len() > 200 {
        return Some("it is longer than 200 characters");
    }
    if !revision.chars().all(allowed) {
        return Some("only letters, digits and any of '-_.+=/' may be in it");
    }
    if revision.split('/').any(|part| part.is_empty() || part.starts_with(['.', '-']) || part.ends_with('.')) || revision.contains("..") {
        return Some("it would not be a name of git: an empty part, '..', or a part that begins with '.' or '-' or ends with '.'");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, String), HubError> {
        Request::parse(text, Settings::new("unused")).map(|request| (request.repo, request.revision))
    }

    #[test]
    fn names_and_revisions() {
        for (text, repo, revision) in [
            ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32", "main"),
            ("HuggingFaceTB/SmolVLM_2.2B@refs/pr/3", "HuggingFaceTB/SmolVLM_2.2B", "refs/pr/3"),
            ("a/b@v1.0", "a/b", "v1.0"),
            ("_a/b_@0123456789abcdef0123456789abcdef01234567", "_a/b_", "0123456789abcdef0123456789abcdef01234567"),
        ] {
            assert_eq!(parse(text).unwrap(), (repo.to_owned(), revision.to_owned()));
        }
    }

    #[test]
    fn what_could_leave_the_cache_or_the_address_is_refused() {
        let long = format!("a/{}", "b".repeat(97));
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "a/.b",
            "a/b..c",
            "a/b--c",
            "a\\b/c",
            "a/b c",
            "a/b?x",
            "a/b#x",
            "a/b%2e",
            "a/b\n",
            "a/b.git",
            "https://x/y",
            "a/ü",
            "a/-b",
            "a/b.",
            &long,
        ] {
            assert!(matches!(parse(text), Err(HubError::BadName { .. })), "{text}");
        }
        for revision in [
            "",
            "..",
            "../x",
            "x/../../y",
            "/etc",
            "x/",
            "x//y",
            "a b",
            "a\\b",
            "a:b",
            "x?y",
            "x#y",
            ".x",
            "x/.y",
            "x.",
            "%2e%2e",
            "x\0",
            "@",
            "-x",
        ] {
            assert!(matches!(parse(&format!("a/b@{revision}")), Err(HubError::BadRevision { .. })), "{revision}");
        }
    }

    #[test]
    fn a_commit_is_forty_small_hexadecimal_digits() {
        assert!(is_commit(&"0a".repeat(20)));
        for other in ["main", &"0a".repeat(19), &"0A".repeat(20), &"0g".repeat(20)] {
            assert!(!is_commit(other), "{other}");
        }
    }
}
