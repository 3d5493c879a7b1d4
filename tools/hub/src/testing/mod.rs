//! A Hub on this machine, for tests: the routes that a pull takes, and what can go wrong on them.
//!
//! | route | answer |
//! |---|---|
//! | `/api/models/ORG/NAME/revision/REV?blobs=true` | commit, licence, files |
//! | `/ORG/NAME/resolve/REV/FILE` | small files: a redirect to the next route; large ones: a redirect to the store, with `X-Linked-Etag` |
//! | `/api/resolve-cache/models/ORG/NAME/COMMIT/FILE` | a small file |
//! | `/HASH?signature` on another port | the store of large files, which refuses whoever shows it a token, as S3 does |
//!
//! The first three are answered as huggingface.co does, to `GET` and `HEAD`, with `Range`.
//!
//! ```
//! use ocelli_hub::testing::{Fault, Hub, Model};
//! use ocelli_hub::{Request, Settings, Silent, pull};
//!
//! let hub = Hub::start()?;
//! hub.add("org/name", Model::new().small("config.json", "{}").large("model.safetensors", vec![7; 5000]));
//! hub.fault("model.safetensors", Fault::BreakAfter(1000));
//!
//! let cache = tempfile::tempdir()?;
//! let snapshot = pull(&Request::parse("org/name", hub.settings(cache.path()))?, &mut Silent)?;
//! assert_eq!(snapshot.files.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod model;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use answer::{Answer, read_request};
pub use model::Model;

use crate::Settings;

/// What goes wrong with one answer that has a file's content.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends after so many bytes of it.
    BreakAfter(usize),
    /// It falls silent after so many bytes.
    SilentAfter(usize),
    /// It comes in pieces of a thousand bytes, with so much time between them.
    Slow(Duration),
    /// One of its bits is wrong.
    Damaged,
    /// It is a byte longer than it should be, and its header says so.
    Longer,
    /// A byte more than its header says: the whole without `Content-Length`.
    LongerUnsaid,
    /// `Range` is ignored: status 200 and the whole.
    NoRange,
    /// Status 416.
    NoSuchRange,
    /// Another range than was asked for.
    OtherRange,
    /// This status, and no content.
    Status(u16),
}

/// A request that the server has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whether it came to the store of large files.
    pub store: bool,
    /// `GET` or `HEAD`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
}

/// The server. It stops when this is dropped.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    store: SocketAddr,
    stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    models: BTreeMap<String, Model>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    refusals: VecDeque<u16>,
    seen: Vec<Seen>,
    bare: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Listens on two free ports of this machine.
    ///
    /// # Errors
    /// If there are none.
    pub fn start() -> io::Result<Self> {
        let (hub, store) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let address = hub.local_addr()?;
        let shared = Shared { store: store.local_addr()?, stopping: AtomicBool::new(false), state: Mutex::default() };
        let shared = Arc::new(shared);
        for (listener, is_store) in [(hub, false), (store, true)] {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if shared.stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // A client that goes away is no fault of the server.
                    thread::spawn(move || serve(&shared, stream, is_store).ok());
                }
            });
        }
        Ok(Self { shared, address })
    }

    /// For `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings for this server, with short pauses.
    pub fn settings(&self, cache: impl Into<PathBuf>) -> Settings {
        let mut settings = Settings::new(cache);
        settings.endpoint = self.endpoint();
        settings.pause = Duration::from_millis(1);
        settings.patience = Duration::from_secs(5);
        settings
    }

    /// Puts a model, or a newer state of it, on the server. Returns its commit.
    pub fn add(&self, repo: &str, model: Model) -> String {
        let commit = model.commit();
        self.shared.state().models.insert(repo.to_owned(), model);
        commit
    }

    /// The next answer with this file's content goes wrong. Several queue up.
    pub fn fault(&self, file: &str, fault: Fault) {
        self.shared.state().faults.entry(file.to_owned()).or_default().push_back(fault);
    }

    /// The next request for a listing is answered with this status.
    pub fn refuse_listing(&self, status: u16) {
        self.shared.state().refusals.push_back(status);
    }

    /// From now on listings have names only, as those of some mirrors.
    pub fn list_names_only(&self) {
        self.shared.state().bare = true;
    }

    /// The requests so far, and from here on anew.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.state().seen)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the two threads that wait for a connection.
        for address in [self.address, self.shared.store] {
            let _ = TcpStream::connect(address);
        }
    }
}

/// Reads one request and answers it.
fn serve(shared: &Shared, mut stream: TcpStream, is_store: bool) -> io::Result<()> {
    let mut seen = read_request(&mut stream)?;
    seen.store = is_store;
    shared.state().seen.push(seen.clone());
    let answer = if is_store { from_store(shared, &seen) } else { from_hub(shared, &seen) };
    answer.write(&mut stream, &seen, || shared.stopping.load(Ordering::SeqCst))
}

/// A large file by its hash.
fn from_store(shared: &Shared, seen: &Seen) -> Answer {
    if seen.headers.contains_key("authorization") {
        return Answer::status(400);
    }
    let path = seen.path.split('?').next().unwrap_or_default();
    let mut state = shared.state();
    let found = state.models.values().find_map(|model| model.by_hash(path.trim_start_matches('/')));
    match found.map(|(name, content)| (name.to_owned(), content.to_vec())) {
        Some((name, content)) => Answer::content(content, state.faults.get_mut(&name).and_then(VecDeque::pop_front)),
        None => Answer::status(404),
    }
}

/// All other routes.
fn from_hub(shared: &Shared, seen: &Seen) -> Answer {
    let mut state = shared.state();
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (organization, name, revision, file) = match parts.as_slice() {
        ["api", "models", organization, name] => (organization, name, &"main", None),
        ["api", "models", organization, name, "revision", revision] => (organization, name, revision, None),
        ["api", "resolve-cache", "models", organization, name, commit, file] => (organization, name, commit, Some((*file, true))),
        [organization, name, "resolve", revision, file] => (organization, name, revision, Some((*file, false))),
        _ => return Answer::status(404),
    };
    if file.is_none()
        && let Some(status) = state.refusals.pop_front()
    {
        return Answer::status(status);
    }
    let repo = format!("{organization}/{name}");
    let bare = state.bare;
    let Some(model) = state.models.get(&repo) else {
        // The Hub's way of not telling which names are taken.
        let known = seen.headers.contains_key("authorization");
        return Answer::status(if known { 404 } else { 401 }).with("X-Error-Code", "RepoNotFound");
    };
    if let Some((status, code)) = model.refuses(seen.headers.get("authorization").map(String::as_str)) {
        return Answer::status(status).with("X-Error-Code", code);
    }
    let revision = revision.replace("%2F", "/");
    if !model.has_revision(&revision) {
        return Answer::status(404).with("X-Error-Code", "RevisionNotFound");
    }
    let commit = model.commit();
    let Some((file, cached)) = file else {
        let with_blobs = query.split('&').any(|pair| pair == "blobs=true") && !bare;
        return Answer::content(model.listing(&repo, with_blobs), None).with("Content-Type", "application/json");
    };
    let Some(held) = model.file(file) else {
        return Answer::status(404).with("X-Error-Code", "EntryNotFound");
    };
    let described = |answer: Answer| answer.with("ETag", &format!("\"{}\"", held.etag())).with("X-Repo-Commit", &commit);
    if held.large {
        let location = format!("http://{}/{}?X-Amz-Signature=5ec7e7", shared.store, held.sha256());
        return Answer::status(302)
            .with("Location", &location)
            .with("X-Linked-Etag", &format!("\"{}\"", held.etag()))
            .with("X-Linked-Size", &held.content.len().to_string())
            .with("X-Repo-Commit", &commit);
    }
    if !cached {
        let location = format!("/api/resolve-cache/models/{repo}/{commit}/{file}");
        return described(Answer::status(307).with("Location", &location));
    }
    let answer = described(Answer::content(held.content.clone(), None));
    answer.failing(state.faults.get_mut(file).and_then(VecDeque::pop_front))
}
