//! A model as the server holds it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A repository in one state.
#[derive(Debug, Clone, Default)]
pub struct Model {
    files: BTreeMap<String, Held>,
    revisions: Vec<String>,
    licence: Option<String>,
    token: Option<String>,
    gated: bool,
}

/// A file of it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub content: Vec<u8>,
    pub large: bool,
    etag: Option<String>,
}

impl Model {
    /// Without files, open to all, its branch `main`.
    pub fn new() -> Self {
        Self { revisions: vec!["main".into()], ..Self::default() }
    }

    /// With a file that lies in git.
    pub fn small(self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(name, content.into(), false)
    }

    /// With a file that lies in the store.
    pub fn large(self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(name, content.into(), true)
    }

    fn with(mut self, name: &str, content: Vec<u8>, large: bool) -> Self {
        self.files.insert(name.to_owned(), Held { content, large, etag: None });
        self
    }

    /// With another branch or tag.
    pub fn revision(mut self, name: &str) -> Self {
        self.revisions.push(name.to_owned());
        self
    }

    /// With a licence on its card.
    pub fn licence(mut self, tag: &str) -> Self {
        self.licence = Some(tag.to_owned());
        self
    }

    /// Private: only for this token.
    pub fn for_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Its conditions have been accepted by nobody.
    pub fn gated(mut self) -> Self {
        self.gated = true;
        self
    }

    /// A file's checksum in headers and listings is this, right or wrong.
    pub fn etag(mut self, name: &str, etag: &str) -> Self {
        if let Some(held) = self.files.get_mut(name) {
            held.etag = Some(etag.to_owned());
        }
        self
    }

    /// Forty digits that change with the files.
    pub fn commit(&self) -> String {
        let files = self.files.iter();
        let hash = files.fold(Sha1::new(), |hash, (name, held)| hash.chain_update(name).chain_update([0]).chain_update(held.sha256()));
        format!("{:x}", hash.finalize())
    }

    pub(super) fn has_revision(&self, revision: &str) -> bool {
        revision == self.commit() || self.revisions.iter().any(|one| one == revision)
    }

    pub(super) fn file(&self, name: &str) -> Option<&Held> {
        self.files.get(name)
    }

    pub(super) fn by_hash(&self, sha256: &str) -> Option<(&str, &[u8])> {
        let mut files = self.files.iter().filter(|(_, held)| held.large);
        files.find(|(_, held)| held.sha256() == sha256).map(|(name, held)| (name.as_str(), held.content.as_slice()))
    }

    /// Status and code for whoever may not see it.
    pub(super) fn refuses(&self, authorization: Option<&str>) -> Option<(u16, &'static str)> {
        let shown = authorization.and_then(|value| value.strip_prefix("Bearer "));
        match (&self.token, shown) {
            (Some(token), Some(shown)) if token != shown => Some((401, "RepoNotFound")),
            (Some(_), None) => Some((401, "RepoNotFound")),
            _ if self.gated => Some((if shown.is_some() { 403 } else { 401 }, "GatedRepo")),
            _ => None,
        }
    }

    pub(super) fn listing(&self, repo: &str, with_blobs: bool) -> Vec<u8> {
        let sibling = |(name, held): (&String, &Held)| -> Value {
            if !with_blobs {
                return json!({ "rfilename": name });
            }
            let size = held.content.len();
            if held.large {
                let pointer = git_hash(held.sha256().as_bytes());
                return json!({ "rfilename": name, "size": size, "blobId": pointer,
                    "lfs": { "sha256": held.etag(), "size": size, "pointerSize": 134 } });
            }
            json!({ "rfilename": name, "size": size, "blobId": held.etag() })
        };
        let files: Vec<Value> = self.files.iter().map(sibling).collect();
        let tags: Vec<String> = self.licence.iter().map(|tag| format!("license:{tag}")).collect();
        let card = json!({ "license": self.licence });
        json!({ "id": repo, "sha": self.commit(), "siblings": files, "tags": tags, "cardData": card, "private": self.token.is_some() })
            .to_string()
            .into_bytes()
    }
}

impl Held {
    pub fn sha256(&self) -> String {
        format!("{:x}", Sha256::digest(&self.content))
    }

    /// The SHA-256 of large files, git's hash of small ones, if it has not been told otherwise.
    pub fn etag(&self) -> String {
        let real = || if self.large { self.sha256() } else { git_hash(&self.content) };
        self.etag.clone().unwrap_or_else(real)
    }
}

/// What `git hash-object` prints.
fn git_hash(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len());
    format!("{:x}", Sha1::new().chain_update(header).chain_update(content).finalize())
}
