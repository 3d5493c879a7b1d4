//! What a repository holds at a revision, as the Hub's `/api/models/ORG/NAME/revision/REV?blobs=true` tells.

use serde::Deserialize;

use crate::digest::Checksum;

/// No listing is longer: the largest repositories have some ten thousand files.
pub(crate) const LONGEST_BYTES: u64 = 64 << 20;

#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    /// The commit that the revision stands for.
    pub sha: String,
    #[serde(default)]
    pub siblings: Vec<Sibling>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

/// A file of the repository. A mirror may leave out all but its name.
#[derive(Debug, Deserialize)]
pub(crate) struct Sibling {
    #[serde(rename = "rfilename")]
    pub name: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

/// A large file, of which git has only a pointer.
#[derive(Debug, Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Card {
    license: Option<OneOrMore>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Listing {
    /// The licence's tag, such as `apache-2.0`: from the model card, else from the tags that the Hub has made of it.
    pub fn licence(&self) -> Option<String> {
        let card = self.card.as_ref().and_then(|card| card.license.as_ref()).map(|license| match license {
            OneOrMore::One(one) => one.clone(),
            OneOrMore::More(more) => more.join(", "),
        });
        card.or_else(|| self.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned))
    }

    pub fn file(&self, name: &str) -> Option<&Sibling> {
        self.siblings.iter().find(|file| file.name == name)
    }
}

impl Sibling {
    /// How long the file is and what it hashes to, where the listing says both.
    pub fn known(&self) -> Option<(u64, Checksum)> {
        match &self.lfs {
            Some(lfs) => Some((lfs.size, Checksum::parse(&lfs.sha256)?)),
            None => Some((self.size?, Checksum::parse(self.blob.as_ref()?)?)),
        }
    }
}

/// The `license:` of a model card's front matter, for a model that is only in the cache.
pub(crate) fn licence_of_card(readme: &str) -> Option<String> {
    let (front, _) = readme.strip_prefix("---")?.split_once("\n---")?;
    let value = front.lines().find_map(|line| line.strip_prefix("license:"))?;
    let value = value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_checksums() {
        let text = format!(
            r#"{{"sha":"x","siblings":[{{"rfilename":"a","size":3,"blobId":"{}"}},
                {{"rfilename":"b","size":9,"blobId":"{}","lfs":{{"sha256":"{}","size":9,"pointerSize":3}}}},{{"rfilename":"c"}}]}}"#,
            "a".repeat(40),
            "b".repeat(40),
            "c".repeat(64)
        );
        let listing: Listing = serde_json::from_str(&text).unwrap();
        let known = |name: &str| listing.file(name).unwrap().known();
        assert_eq!(known("a"), Some((3, Checksum::Git("a".repeat(40)))));
        assert_eq!(known("b"), Some((9, Checksum::Sha256("c".repeat(64)))));
        assert_eq!(known("c"), None);
        assert_eq!(listing.licence(), None);
    }

    #[test]
    fn the_licence_is_on_the_card_or_among_the_tags() {
        let licence = |rest: &str| serde_json::from_str::<Listing>(&format!(r#"{{"sha":"x",{rest}}}"#)).unwrap().licence();
        assert_eq!(licence(r#""cardData":{"license":"mit"},"tags":["license:other"]"#).as_deref(), Some("mit"));
        assert_eq!(licence(r#""cardData":{"license":["mit","apache-2.0"]}"#).as_deref(), Some("mit, apache-2.0"));
        assert_eq!(licence(r#""cardData":null,"tags":["clip","license:apache-2.0"]"#).as_deref(), Some("apache-2.0"));
    }

    #[test]
    fn the_licence_in_front_matter() {
        assert_eq!(licence_of_card("---\ntags:\n- x\nlicense: apache-2.0\n---\n# Model\n").as_deref(), Some("apache-2.0"));
        assert_eq!(licence_of_card("---\nlicense: \"mit\" # yes\n---\n").as_deref(), Some("mit"));
        assert_eq!(licence_of_card("# Model\nlicense: mit\n---\n"), None);
        assert_eq!(licence_of_card("---\ntags: x\n---\nlicense: mit\n"), None);
    }
}
