//! What can go wrong, a sentence each: what, where, and what to do.

use std::io;
use std::path::PathBuf;

/// Why a pull came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name cannot be one of the Hub's.
    #[error("{name:?} is not a model's name: {why}; write ORG/NAME, as in openai/clip-vit-base-patch32")]
    BadName {
        /// As it was given.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The revision cannot be one of git's.
    #[error("{revision:?} is not a revision: {why}; give a branch, a tag or a commit's hash")]
    BadRevision {
        /// As it was given.
        revision: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// `HF_ENDPOINT` is no address.
    #[error("{endpoint:?} is not a server's address: {why}; set HF_ENDPOINT to one like https://huggingface.co")]
    BadEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token has characters that no token has.
    #[error(
        "the token for {endpoint} has a space or an odd character in it: copy it anew into HF_TOKEN, or into the file token of HF_HOME"
    )]
    BadToken {
        /// The server that it is for. The token itself is not repeated.
        endpoint: String,
    },
    /// Nothing says where the cache is.
    #[error("there is no home folder to keep models in: set HF_HOME to a folder")]
    NoHome,
    /// 404: no such repository.
    #[error("there is no model {repo} at {endpoint}: check its name")]
    NoSuchModel {
        /// `ORG/NAME`.
        repo: String,
        /// The server.
        endpoint: String,
    },
    /// 404: the repository has no such revision.
    #[error("{repo} has no revision {revision}: {endpoint}/{repo}/tree/main lists its branches and tags")]
    NoSuchRevision {
        /// `ORG/NAME`.
        repo: String,
        /// As it was asked for.
        revision: String,
        /// The server.
        endpoint: String,
    },
    /// 401 without a token: the Hub does not tell a private model from none.
    #[error("{endpoint} shows {repo} to nobody without a token: check the name, or set HF_TOKEN to a token of an account that may read it")]
    NeedsToken {
        /// `ORG/NAME`.
        repo: String,
        /// The server.
        endpoint: String,
    },
    /// 401 with a token.
    #[error(
        "{endpoint} does not accept the token for {repo}: check the name, or make a new token at {endpoint}/settings/tokens for HF_TOKEN"
    )]
    TokenRefused {
        /// `ORG/NAME`.
        repo: String,
        /// The server.
        endpoint: String,
    },
    /// 403: gated, or a token with too few rights.
    #[error(
        "{repo} is for those who have accepted its conditions: accept them at {endpoint}/{repo}, and set HF_TOKEN to a token of that account with the right to read it"
    )]
    Gated {
        /// `ORG/NAME`.
        repo: String,
        /// The server.
        endpoint: String,
    },
    /// 404 for a file that the listing names.
    #[error("{url} is not there, though the server lists it: try again, or set HF_ENDPOINT to another server")]
    NoSuchFile {
        /// Its address.
        url: String,
    },
    /// Any other status that is no success.
    #[error("{url}: the server answered with status {status}: try again later")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server cannot be reached.
    #[error("no connection to {url}: {why}; check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what is in the cache")]
    NoConnection {
        /// What was asked for.
        url: String,
        /// What the system says.
        why: String,
    },
    /// The connection broke, again and again.
    #[error("{file} broke off after {have} of {bytes} bytes: {why}; what has come is kept, the same command goes on from there")]
    BrokenOff {
        /// The file's name in the repository.
        file: String,
        /// Bytes that are here.
        have: u64,
        /// Bytes of the whole.
        bytes: u64,
        /// What the last try ended with.
        why: String,
    },
    /// An answer that is not the Hub's.
    #[error("{url} answers in a way the Hub does not: {why}; check HF_ENDPOINT")]
    BadAnswer {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// Neither the listing nor a header has a checksum.
    #[error("{url} comes without a checksum, and is not fetched: set HF_ENDPOINT to a server that gives them, as the Hub does")]
    NoChecksum {
        /// Its address.
        url: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {to:?}, which is not followed: {why}")]
    BadRedirect {
        /// What was asked for.
        url: String,
        /// The `Location` header.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// A file that is not as long as it should be.
    #[error("{file} has {got} bytes and should have {expected}: it is deleted, pull it again")]
    WrongLength {
        /// The file's name in the repository.
        file: String,
        /// What the listing says.
        expected: u64,
        /// What there is.
        got: u64,
    },
    /// A file that is not what it should be.
    #[error("{file} is damaged: its {kind} is {got} and should be {expected}; it is deleted, pull it again")]
    WrongChecksum {
        /// The file's name in the repository.
        file: String,
        /// `SHA-256` or `git SHA-1`.
        kind: &'static str,
        /// What the server says.
        expected: String,
        /// What the content hashes to.
        got: String,
    },
    /// The disk is full.
    #[error("no space left for {path}, {missing} bytes more: make room, or set HF_HOME to a folder on another disk; what has come is kept")]
    NoSpace {
        /// What was written.
        path: PathBuf,
        /// Bytes that are still to come.
        missing: u64,
    },
    /// Any other trouble with the cache.
    #[error("cannot {doing} {path}: {source}; check the folder's owner and permissions, or set HF_HOME to another")]
    Io {
        /// What was tried, to be followed by the path.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Offline, and the cache does not have it.
    #[error("{repo}@{revision} is not in {cache}, and HF_HUB_OFFLINE forbids to fetch it: {why}")]
    NotCached {
        /// `ORG/NAME`.
        repo: String,
        /// As it was asked for.
        revision: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A repository without weights that can be imported.
    #[error("{repo}@{revision} has no weights that ocelli reads (safetensors or PyTorch, at its top): it has {has}; name another model")]
    NoWeights {
        /// `ORG/NAME`.
        repo: String,
        /// As it was asked for.
        revision: String,
        /// Some of the files that are there.
        has: String,
    },
    /// Weights in several files, not all of them there.
    #[error("{repo}@{revision} lacks {missing}: its weights are incomplete; name another revision")]
    MissingShard {
        /// `ORG/NAME`.
        repo: String,
        /// As it was asked for.
        revision: String,
        /// The first file that is not there.
        missing: String,
    },
    /// [`crate::Progress::cancelled`] said so.
    #[error("stopped: what has come is kept, the same command goes on from there")]
    Cancelled,
}
