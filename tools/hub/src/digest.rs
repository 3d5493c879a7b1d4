//! Checksums of files: SHA-256, and git's SHA-1 of a blob.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What a file must hash to. It is also the name of the file's blob in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Of the content: large files.
    Sha256(String),
    /// Of `blob LENGTH\0` and the content, as git names it: small files.
    Git(String),
}

impl Checksum {
    /// From an `ETag`, a blob's id or a blob's file name: 64 or 40 hexadecimal digits, quotes and `W/` left out. `None`: something else.
    pub fn parse(tag: &str) -> Option<Self> {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_ascii_lowercase();
        if !tag.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        match tag.len() {
            64 => Some(Self::Sha256(tag)),
            40 => Some(Self::Git(tag)),
            _ => None,
        }
    }

    /// The digits.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }

    /// What it is called in a sentence.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Git(_) => "git SHA-1",
        }
    }
}

/// Hashes content as it arrives. SHA-256 always, for it goes into the record; git's SHA-1 where it is what is compared.
pub(crate) struct Hasher {
    sha256: Sha256,
    git: Option<Sha1>,
}

impl Hasher {
    /// `bytes`: the length that the whole content will have, which git's hash begins with.
    pub fn new(checksum: &Checksum, bytes: u64) -> Self {
        let git = matches!(checksum, Checksum::Git(_)).then(|| Sha1::new().chain_update(format!("blob {bytes}\0")));
        Self { sha256: Sha256::new(), git }
    }

    pub fn update(&mut self, content: &[u8]) {
        self.sha256.update(content);
        if let Some(git) = &mut self.git {
            git.update(content);
        }
    }

    /// Takes in all of a reader, and says how many bytes that were.
    pub fn update_from(&mut self, mut reader: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 17];
        let mut bytes = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(count) => {
                    self.update(&buffer[..count]);
                    bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn finish(self) -> Digests {
        Digests { sha256: hex(&self.sha256.finalize()), git: self.git.map(|git| hex(&git.finalize())) }
    }
}

/// What content hashed to.
#[derive(Debug)]
pub(crate) struct Digests {
    pub sha256: String,
    git: Option<String>,
}

impl Digests {
    /// The one of the checksum's kind.
    pub fn like(&self, checksum: &Checksum) -> &str {
        match checksum {
            Checksum::Sha256(_) => &self.sha256,
            Checksum::Git(_) => self.git.as_deref().unwrap_or_default(),
        }
    }

    pub fn agree_with(&self, checksum: &Checksum) -> bool {
        self.like(checksum) == checksum.hex()
    }
}

/// The digests of a file on disk.
pub(crate) fn of_file(path: &Path, checksum: &Checksum) -> io::Result<Digests> {
    let file = File::open(path)?;
    let mut hasher = Hasher::new(checksum, file.metadata()?.len());
    hasher.update_from(file)?;
    Ok(hasher.finish())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `git hash-object` and `sha256sum` of "hello\n".
    #[test]
    fn as_git_and_sha256sum_have_it() {
        let git = Checksum::parse("\"ce013625030ba8dba906f756967f9e9ca394464a\"").unwrap();
        let mut hasher = Hasher::new(&git, 6);
        assert_eq!(hasher.update_from(&b"hello\n"[..]).unwrap(), 6);
        let digests = hasher.finish();
        assert!(digests.agree_with(&git), "{digests:?}");
        let sha256 = Checksum::parse("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap();
        assert!(digests.agree_with(&sha256), "{digests:?}");
        let other = Checksum::parse("6891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap();
        assert!(!digests.agree_with(&other));
    }

    #[test]
    fn a_hasher_for_sha256_never_agrees_with_git() {
        let sha256 = Checksum::Sha256("0".repeat(64));
        assert!(!Hasher::new(&sha256, 0).finish().agree_with(&Checksum::Git("0".repeat(40))));
    }

    #[test]
    fn only_hexadecimal_digits_of_the_two_lengths_are_checksums() {
        assert_eq!(Checksum::parse(&format!("W/\"{}\"", "AB".repeat(20))), Some(Checksum::Git("ab".repeat(20))));
        for bad in ["", "../../x", "abc", &"g".repeat(40), &"0".repeat(41), &format!("{}/", "0".repeat(39))] {
            assert_eq!(Checksum::parse(bad), None, "{bad}");
        }
    }
}
