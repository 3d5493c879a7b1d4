//! Fetches models from a Hugging Face Hub into its cache, for `ocelli pull`: the only command that opens a connection.
//!
//! | module | what |
//! |---|---|
//! | [`settings`] | where the cache is, which server, which token: from the environment, or given |
//! | [`request`] | which model and revision: `ORG/NAME[@REV]`, checked before anything is opened |
//! | `client` | requests, redirects, and what a status means |
//! | `listing` | what a repository holds: commit, licence, files with sizes and checksums |
//! | [`choose`] | the files that an importer needs |
//! | `cache` | the Hub's cache on disk: `models--ORG--NAME/{blobs,refs,snapshots}` |
//! | `download` | one file: resumed, tried again, checked |
//! | `digest` | SHA-256, and git's SHA-1 of a blob |
//! | [`mod@pull`] | all of it together |
//! | `testing` | a Hub on this machine with faults, behind the cargo feature of that name |
//!
//! # What hf-hub does, and what is added
//!
//! hf-hub 0.5 is the last release with a blocking client that is small: 1.0 needs tokio, hyper, reqwest and the xet transfer, 225 crates
//! instead of 63. From 0.5 come the names in the cache ([`hf_hub::Cache`]), the addresses ([`hf_hub::Repo`]), and the client that
//! every request goes through ([`hf_hub::api::sync::ApiRepo::info_request`], its address changed where a file is asked for).
//!
//! Its own `download` is not used, for it
//! - compares nothing that arrives with a checksum;
//! - appends to a partial file whatever a server sends that ignores `Range`, and cannot finish one that is complete;
//! - sends the token to the host that a download is redirected to;
//! - takes the blob's file name from a header as it is, `../` included;
//! - names locks otherwise than Python's huggingface_hub, so that neither waits for the other;
//! - waits for ever on a connection that has gone silent, and panics on some answers.
//!
//! So redirects, ranges, retries, checksums and locks are here, and hf-hub's client never gets to know the token.
//!
//! # Two programs, one cache
//!
//! Files, links and locks lie where Python's huggingface_hub puts them (tried with its release 2.4): either finds what the other has
//! fetched, and waits while the other downloads. A partial file has the name that older releases of it resume; newer ones keep none.
//!
//! ```no_run
//! use ocelli_hub::{Request, Settings, Silent, pull};
//!
//! let request = Request::parse("openai/clip-vit-base-patch32@main", Settings::from_env()?)?;
//! let snapshot = pull(&request, &mut Silent)?;
//! println!("{} at {}", snapshot.folder.display(), snapshot.commit);
//! # Ok::<(), ocelli_hub::HubError>(())
//! ```
#![forbid(unsafe_code)]

mod cache;
pub mod choose;
mod client;
mod digest;
mod download;
mod error;
mod listing;
mod progress;
pub mod pull;
pub mod request;
pub mod settings;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::HubError;
pub use progress::{Progress, Silent};
pub use pull::{PulledFile, Snapshot, pull};
pub use request::Request;
pub use settings::Settings;
