//! A model, from the Hub into the cache, or out of the cache alone.

use std::fs;
use std::path::PathBuf;

use crate::cache::CachedModel;
use crate::choose::{Unsuitable, choose};
use crate::client::Client;
use crate::digest::{self, Checksum};
use crate::download::Target;
use crate::listing::{Listing, licence_of_card};
use crate::{HubError, Progress, Request};

/// How many files an error lists of a repository without weights.
const SHOWN: usize = 8;

/// A model's files at one commit, in the cache, all of them checked.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// `ORG/NAME`.
    pub repo: String,
    /// As it was asked for.
    pub revision: String,
    /// The commit that the revision stands for.
    pub commit: String,
    /// The folder that the files lie in, `snapshots/COMMIT`.
    pub folder: PathBuf,
    /// The licence's tag on the Hub, such as `apache-2.0`.
    pub licence: Option<String>,
    /// The files, the small ones first.
    pub files: Vec<PulledFile>,
}

/// One file of a snapshot.
#[derive(Debug, Clone)]
pub struct PulledFile {
    /// Its name in the repository.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its content, 64 hexadecimal digits.
    pub sha256: String,
    /// Whether it came over the network now. `false`: it was in the cache.
    pub fetched: bool,
}

/// Brings what an importer needs of a model into the cache, and says where it is.
///
/// One request resolves the revision and lists the files; a file that is in the cache and right is not asked for. Each file is compared
/// with its checksum, also one that was there. Offline nothing is asked for at all.
///
/// # Errors
/// A [`HubError`] that says what to do. What has come of a file that broke off is kept, and the next pull goes on from there.
pub fn pull(request: &Request, progress: &mut dyn Progress) -> Result<Snapshot, HubError> {
    if request.settings.offline {
        return from_cache(request);
    }
    let client = Client::new(request)?;
    let listing = client.listing()?;
    let targets = targets(request, &client, &listing)?;
    let model = CachedModel::new(request);

    let there = targets.iter().map(|target| target.cached(&model)).collect::<Result<Vec<_>, _>>()?;
    let missing = || targets.iter().zip(&there).filter(|(_, there)| there.is_none()).map(|(target, _)| target);
    if missing().count() > 0 {
        progress.plan(missing().count(), missing().map(|target| target.bytes).sum());
    }

    let mut files = Vec::with_capacity(targets.len());
    for (target, there) in targets.iter().zip(there) {
        let fetched = there.is_none();
        let digests = match there {
            Some(digests) => digests,
            None => target.fetch(&client, &model, &request.settings, progress)?,
        };
        let path = model.link(&listing.sha, &target.name, &target.checksum)?;
        files.push(PulledFile { name: target.name.clone(), path, bytes: target.bytes, sha256: digests.sha256, fetched });
    }
    // Last, so that offline a revision never stands for a commit of which half is there.
    model.set_commit(&listing.sha)?;
    let (licence, folder) = (listing.licence(), model.snapshot(&listing.sha));
    Ok(Snapshot { repo: request.repo().into(), revision: request.revision().into(), commit: listing.sha, folder, licence, files })
}

/// The files to fetch, with their addresses, lengths and checksums.
fn targets(request: &Request, client: &Client, listing: &Listing) -> Result<Vec<Target>, HubError> {
    let (repo, revision) = (request.repo().to_owned(), request.revision().to_owned());
    let all = || listing.siblings.iter().map(|file| file.name.as_str());
    let names = choose(all()).map_err(|unsuitable| match unsuitable {
        Unsuitable::MissingShard(missing) => HubError::MissingShard { repo, revision, missing },
        Unsuitable::NoWeights => {
            let more = all().count().saturating_sub(SHOWN);
            let shown = all().take(SHOWN).collect::<Vec<_>>().join(", ");
            let has = match (shown.is_empty(), more) {
                (true, _) => "no files".to_owned(),
                (_, 0) => shown,
                (_, more) => format!("{shown} and {more} more"),
            };
            HubError::NoWeights { repo, revision, has }
        }
    })?;
    let target = |name: String| {
        let url = client.file_url(&name, &listing.sha);
        let known = listing.file(&name).and_then(|file| file.known());
        let (bytes, checksum) = known.map_or_else(|| client.describe(&url), Ok)?;
        Ok(Target { name, url, bytes, checksum })
    };
    names.into_iter().map(target).collect()
}

/// The same without a connection: the names in the cache are the checksums.
fn from_cache(request: &Request) -> Result<Snapshot, HubError> {
    let model = CachedModel::new(request);
    let not_cached = |why: String| HubError::NotCached {
        repo: request.repo().into(),
        revision: request.revision().into(),
        cache: request.settings.cache.clone(),
        why,
    };
    let commit = model.commit().ok_or_else(|| not_cached("it has not been pulled yet".into()))?;
    let folder = model.snapshot(&commit);
    let entries = fs::read_dir(&folder).map_err(|_| not_cached(format!("commit {commit} has not been pulled yet")))?;
    let there: Vec<String> =
        entries.flatten().filter(|entry| entry.path().is_file()).filter_map(|e| e.file_name().into_string().ok()).collect();
    let names = choose(there.iter().map(String::as_str)).map_err(|unsuitable| match unsuitable {
        Unsuitable::MissingShard(missing) => not_cached(format!("{missing} is missing")),
        Unsuitable::NoWeights => not_cached("the weights are missing".into()),
    })?;

    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = folder.join(&name);
        let reading = |source| HubError::Io { doing: "read", path: path.clone(), source };
        let blob = path.canonicalize().map_err(reading)?;
        let promised = blob.file_name().and_then(|name| Checksum::parse(name.to_str()?));
        // A copy in place of a link, as on some Windows, has the file's own name: then there is nothing to compare with.
        let checksum = promised.clone().unwrap_or_else(|| Checksum::Sha256(String::new()));
        let digests = digest::of_file(&blob, &checksum).map_err(reading)?;
        if promised.is_some() && !digests.agree_with(&checksum) {
            return Err(not_cached(format!("{name} there is damaged, its {} is {}", checksum.kind(), digests.like(&checksum))));
        }
        let bytes = fs::metadata(&blob).map_err(reading)?.len();
        files.push(PulledFile { name, path, bytes, sha256: digests.sha256, fetched: false });
    }
    let licence = fs::read_to_string(folder.join("README.md")).ok().and_then(|readme| licence_of_card(&readme));
    Ok(Snapshot { repo: request.repo().into(), revision: request.revision().into(), commit, folder, licence, files })
}
