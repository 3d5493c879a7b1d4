//! One file: fetched, resumed, tried again, and checked.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::cache::{CachedModel, create_folder};
use crate::client::{Client, header};
use crate::digest::{self, Checksum, Digests, Hasher};
use crate::{HubError, Progress, Settings};

/// A try that has brought so much begins the count of retries anew: a long download over a bad line may break often.
const WORTH_GOING_ON: u64 = 1 << 20;

/// Large enough that writing and hashing are what costs, small enough that progress is smooth.
const BUFFER_BYTES: usize = 1 << 17;

/// A file that is wanted, and what it must be.
#[derive(Debug)]
pub(crate) struct Target {
    pub name: String,
    pub url: String,
    pub bytes: u64,
    pub checksum: Checksum,
}

impl Target {
    /// The digests of what is in the cache, if it is what it must be. What is not is deleted.
    pub fn cached(&self, model: &CachedModel) -> Result<Option<Digests>, HubError> {
        let path = model.blob(&self.checksum);
        match fs::metadata(&path) {
            Ok(about) if about.len() == self.bytes => {
                let digests = digest::of_file(&path, &self.checksum).map_err(|source| reading(&path, source))?;
                if digests.agree_with(&self.checksum) {
                    return Ok(Some(digests));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(reading(&path, source)),
        }
        delete(&path)?;
        Ok(None)
    }

    /// Brings the file into the cache.
    pub fn fetch(
        &self,
        client: &Client,
        model: &CachedModel,
        settings: &Settings,
        progress: &mut dyn Progress,
    ) -> Result<Digests, HubError> {
        let _lock = model.lock(&self.checksum, progress)?;
        progress.start(&self.name, self.bytes);
        // Another program may have fetched it while this one waited.
        if let Some(digests) = self.cached(model)? {
            progress.advance(self.bytes);
            progress.finish();
            return Ok(digests);
        }
        let mut partial = Partial::open(model.partial(&self.checksum), self)?;
        progress.advance(partial.have);
        let (mut tries, mut pause) = (0, settings.pause);
        while partial.have < self.bytes {
            let before = partial.have;
            let error = match self.go_on(client, &mut partial, progress) {
                Ok(()) => break,
                Err(error) => error,
            };
            if partial.have >= before + WORTH_GOING_ON {
                (tries, pause) = (0, settings.pause);
            }
            if tries == settings.retries || !is_worth_a_retry(&error) {
                return Err(self.given_up(error, partial));
            }
            tries += 1;
            progress.retry(&self.name, &why(&error), pause);
            wait(pause, progress)?;
            pause = (2 * pause).min(Settings::LONGEST_PAUSE);
        }
        let digests = partial.keep(self, &model.blob(&self.checksum))?;
        progress.finish();
        Ok(digests)
    }

    /// One connection: from where the partial file ends to the end of the file.
    fn go_on(&self, client: &Client, partial: &mut Partial, progress: &mut dyn Progress) -> Result<(), HubError> {
        let resumed = partial.have > 0;
        let mut answer = client.get(&self.url, resumed.then_some(partial.have..self.bytes))?;
        let headers = answer.response.headers();
        let whole = match answer.response.status().as_u16() {
            206 => {
                let range = header(headers, "content-range").unwrap_or_default();
                let (start, whole) = content_range(&range);
                if start != Some(partial.have) {
                    self.begin_anew(partial, progress)?;
                    return Err(self.broken_off(partial, format!("the server sent {range:?} instead of the rest")));
                }
                whole
            }
            // There is no such range: what is here cannot be the file's beginning.
            416 => {
                self.begin_anew(partial, progress)?;
                return Err(self.broken_off(partial, "the server has no such range".into()));
            }
            // The server does not resume.
            _ => {
                if resumed {
                    self.begin_anew(partial, progress)?;
                }
                header(headers, "content-length").and_then(|length| length.parse().ok())
            }
        };
        if let Some(got) = whole.filter(|whole| *whole != self.bytes) {
            return Err(self.wrong_length(got));
        }
        let mut reader = answer.response.body_mut().as_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if progress.cancelled() {
                return Err(HubError::Cancelled);
            }
            match reader.read(&mut buffer) {
                Ok(0) if partial.have < self.bytes => return Err(self.broken_off(partial, "the connection was closed".into())),
                Ok(0) => return Ok(()),
                Ok(count) if partial.have + count as u64 > self.bytes => return Err(self.wrong_length(partial.have + count as u64)),
                Ok(count) => {
                    partial.append(&buffer[..count], self.bytes)?;
                    progress.advance(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken_off(partial, error.to_string())),
            }
        }
    }

    fn begin_anew(&self, partial: &mut Partial, progress: &mut dyn Progress) -> Result<(), HubError> {
        partial.clear(self)?;
        progress.start(&self.name, self.bytes);
        Ok(())
    }

    /// The error that a fetch ends with. A file that cannot be right goes; all else stays, to be resumed.
    fn given_up(&self, error: HubError, partial: Partial) -> HubError {
        match error {
            HubError::WrongLength { .. } => delete(&partial.path).err().unwrap_or(error),
            HubError::NoConnection { why, .. } if partial.have > 0 => self.broken_off(&partial, why),
            error => error,
        }
    }

    fn broken_off(&self, partial: &Partial, why: String) -> HubError {
        HubError::BrokenOff { file: self.name.clone(), have: partial.have, bytes: self.bytes, why }
    }

    fn wrong_length(&self, got: u64) -> HubError {
        HubError::WrongLength { file: self.name.clone(), expected: self.bytes, got }
    }
}

/// What has come of a file so far, on disk and hashed.
struct Partial {
    path: PathBuf,
    file: File,
    have: u64,
    hasher: Hasher,
}

impl Partial {
    /// What an earlier pull, or another program, left of the file; else an empty one.
    fn open(path: PathBuf, target: &Target) -> Result<Self, HubError> {
        create_folder(path.parent().unwrap_or(&path))?;
        let file = File::options().read(true).append(true).create(true).open(&path);
        let file = file.map_err(|source| HubError::Io { doing: "write", path: path.clone(), source })?;
        let mut hasher = Hasher::new(&target.checksum, target.bytes);
        let about = file.metadata().map_err(|source| reading(&path, source))?;
        let have = if about.len() == 0 { 0 } else { hasher.update_from(&file).map_err(|source| reading(&path, source))? };
        let mut partial = Self { path, file, have, hasher };
        if have > target.bytes {
            partial.clear(target)?;
        }
        Ok(partial)
    }

    fn clear(&mut self, target: &Target) -> Result<(), HubError> {
        self.file.set_len(0).map_err(|source| HubError::Io { doing: "empty", path: self.path.clone(), source })?;
        (self.have, self.hasher) = (0, Hasher::new(&target.checksum, target.bytes));
        Ok(())
    }

    fn append(&mut self, content: &[u8], bytes: u64) -> Result<(), HubError> {
        self.file.write_all(content).map_err(|source| writing(&self.path, bytes - self.have, source))?;
        self.hasher.update(content);
        self.have += content.len() as u64;
        Ok(())
    }

    /// Compares the whole with its checksum, and gives it its name if that is right.
    fn keep(self, target: &Target, blob: &Path) -> Result<Digests, HubError> {
        let digests = self.hasher.finish();
        let (file, kind) = (target.name.clone(), target.checksum.kind());
        if !digests.agree_with(&target.checksum) {
            delete(&self.path)?;
            let (expected, got) = (target.checksum.hex().to_owned(), digests.like(&target.checksum).to_owned());
            return Err(HubError::WrongChecksum { file, kind, expected, got });
        }
        // The name promises the content, also after the power has failed.
        self.file.sync_all().map_err(|source| writing(&self.path, 0, source))?;
        fs::rename(&self.path, blob).map_err(|source| HubError::Io { doing: "rename", path: self.path, source })?;
        Ok(digests)
    }
}

/// The first byte and the whole length of `bytes 5-9/10`. The length may be `*`.
fn content_range(text: &str) -> (Option<u64>, Option<u64>) {
    let Some((range, whole)) = text.trim().strip_prefix("bytes ").and_then(|rest| rest.split_once('/')) else {
        return (None, None);
    };
    (range.split_once('-').and_then(|(start, _)| start.parse().ok()), whole.parse().ok())
}

/// Whether the same request may go better in a moment.
fn is_worth_a_retry(error: &HubError) -> bool {
    match error {
        HubError::NoConnection { .. } | HubError::BrokenOff { .. } => true,
        HubError::Status { status, .. } => *status >= 500 || [408, 429].contains(status),
        _ => false,
    }
}

/// The cause alone: what to do about it is not said while it is tried again.
fn why(error: &HubError) -> String {
    match error {
        HubError::NoConnection { why, .. } | HubError::BrokenOff { why, .. } => why.clone(),
        HubError::Status { status, .. } => format!("status {status}"),
        other => other.to_string(),
    }
}

fn wait(pause: Duration, progress: &dyn Progress) -> Result<(), HubError> {
    let until = Instant::now() + pause;
    loop {
        if progress.cancelled() {
            return Err(HubError::Cancelled);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

fn delete(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(HubError::Io { doing: "delete", path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

fn reading(path: &Path, source: io::Error) -> HubError {
    HubError::Io { doing: "read", path: path.to_owned(), source }
}

fn writing(path: &Path, missing: u64, source: io::Error) -> HubError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HubError::NoSpace { path, missing },
        _ => HubError::Io { doing: "write", path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 5-9/10"), (Some(5), Some(10)));
        assert_eq!(content_range("bytes 5-9/*"), (Some(5), None));
        for odd in ["", "bytes", "bytes */10", "items 5-9/10"] {
            assert_eq!(content_range(odd).0, None, "{odd}");
        }
    }
}
