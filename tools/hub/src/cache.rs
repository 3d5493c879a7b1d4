//! The Hub's cache on disk, as Python's huggingface_hub lays it out.
//!
//! ```text
//! models--ORG--NAME/blobs/HASH              the files, named by their checksum; HASH.incomplete while one is fetched
//! models--ORG--NAME/refs/REVISION           the commit that a branch or tag stood for when it was last asked for
//! models--ORG--NAME/snapshots/COMMIT/FILE   links to the blobs
//! .locks/models--ORG--NAME/HASH.lock        locked while a blob is fetched
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hf_hub::{Cache, CacheRepo};

use crate::client::repo_at;
use crate::digest::Checksum;
use crate::request::is_commit;
use crate::{HubError, Progress, Request};

/// How often a lock is tried that another program holds.
const LOCK_TRIES: Duration = Duration::from_millis(100);

/// One repository's part of the cache.
pub(crate) struct CachedModel<'a> {
    request: &'a Request,
    hub: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
}

impl<'a> CachedModel<'a> {
    pub fn new(request: &'a Request) -> Self {
        let cache = &request.settings.cache;
        let repo = repo_at(request, request.revision());
        let (folder, locks) = (cache.join(repo.folder_name()), cache.join(".locks").join(repo.folder_name()));
        Self { request, hub: Cache::new(cache.clone()).repo(repo), folder, locks }
    }

    /// Where the content with this checksum lies, or will.
    pub fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.hub.blob_path(checksum.hex())
    }

    /// Where the content lies while it is fetched.
    pub fn partial(&self, checksum: &Checksum) -> PathBuf {
        self.hub.blob_path(&format!("{}.incomplete", checksum.hex()))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.hub.pointer_path(commit)
    }

    /// The commit that the revision stood for when it was last pulled.
    pub fn commit(&self) -> Option<String> {
        let revision = self.request.revision();
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Writes down which commit the revision stands for.
    pub fn set_commit(&self, commit: &str) -> Result<(), HubError> {
        if self.request.revision() == commit {
            return Ok(());
        }
        let path = || self.folder.join("refs").join(self.request.revision());
        self.hub.create_ref(commit).map_err(|source| HubError::Io { doing: "write", path: path(), source })
    }

    /// Waits until nobody else fetches this blob. The lock lasts as long as what is returned.
    pub fn lock(&self, checksum: &Checksum, progress: &dyn Progress) -> Result<File, HubError> {
        create_folder(&self.locks)?;
        let path = self.locks.join(format!("{}.lock", checksum.hex()));
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|source| HubError::Io { doing: "write", path, source })?;
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if progress.cancelled() => return Err(HubError::Cancelled),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_TRIES),
                // A file system without locks: the checksum still tells if two have written into one another's file.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
            }
        }
    }

    /// Puts a file of a commit in its place, and says where that is.
    pub fn link(&self, commit: &str, name: &str, checksum: &Checksum) -> Result<PathBuf, HubError> {
        let folder = self.snapshot(commit);
        create_folder(&folder)?;
        let path = folder.join(name);
        // The files chosen lie at the top, so that the way back up is always the same.
        let target = Path::new("..").join("..").join("blobs").join(checksum.hex());
        if fs::read_link(&path).is_ok_and(|there| there == target) {
            return Ok(path);
        }
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(HubError::Io { doing: "replace", path, source }),
            _ => {}
        }
        match link_or_copy(&target, &self.blob(checksum), &path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(HubError::Io { doing: "make the link", path, source }),
            _ => Ok(path),
        }
    }
}

/// A folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), HubError> {
    fs::create_dir_all(path).map_err(|source| HubError::Io { doing: "make the folder", path: path.to_owned(), source })
}

#[cfg(unix)]
fn link_or_copy(target: &Path, _blob: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Windows lets only some users make links.
#[cfg(not(unix))]
fn link_or_copy(target: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    #[cfg(windows)]
    if std::os::windows::fs::symlink_file(target, path).is_ok() {
        return Ok(());
    }
    let _ = target;
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(|_| ()))
}
