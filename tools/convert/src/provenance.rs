//! Where a checkpoint is from: name, revision, licence, and the digests of its files.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ocelli_bundle::Source as Provenance;
use ocelli_models::plan::Format;
use sha2::{Digest, Sha256};

use crate::ImportError;
use crate::source::{Source, Weights};

/// Longest text file that is looked at for a licence.
const MAX_TEXT: u64 = 1 << 20;
/// Bytes that are hashed at a time.
const CHUNK: usize = 1 << 22;

/// Name and revision of a folder: those of the repository in a cache of Hugging Face's (`models--ORG--NAME/snapshots/REVISION`), else the
/// folder's name.
pub fn name(folder: &Path) -> (String, String) {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let part = |path: Option<&Path>| path.and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned);
    let own = part(Some(&folder)).unwrap_or_else(|| "model".to_owned());
    let above = folder.parent();
    let repository =
        part(above.and_then(Path::parent)).and_then(|name| name.strip_prefix("models--").map(|name| name.replacen("--", "/", 1)));
    match repository {
        Some(repository) if part(above).as_deref() == Some("snapshots") => (repository, own),
        _ => (own, String::new()),
    }
}

/// The licence that the README's front matter names, or that a LICENSE file is there; empty where nothing is said.
pub fn licence(source: &Source) -> String {
    if let Some(gguf) = &source.gguf {
        return gguf.licence.clone();
    }
    // A README that is too large or no text says nothing.
    let text = |name: &str| source.text(name, MAX_TEXT).ok().flatten();
    let named = text("README.md").and_then(|readme| {
        let matter = readme.strip_prefix("---")?.split("\n---").next()?.to_owned();
        let field = |key: &str| {
            let value = matter.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':').map(str::trim))?;
            let value = value.trim_matches(['"', '\'']);
            (!value.is_empty() && value.len() <= 200).then(|| value.to_owned())
        };
        field("license_name").or_else(|| field("license"))
    });
    let file = || ["LICENSE", "LICENSE.txt", "LICENSE.md"].into_iter().find(|name| source.folder.join(name).is_file());
    named.or_else(|| file().map(|name| format!("as the source's {name} says"))).unwrap_or_default()
}

/// Where the checkpoint is from, with the digests of `files`. `done` is told how many bytes were read.
pub fn provenance(source: &Source, files: &[PathBuf], done: &mut dyn FnMut(u64)) -> Result<Provenance, ImportError> {
    let (name, revision) = match &source.gguf {
        Some(gguf) if !gguf.name.is_empty() => (gguf.name.clone(), String::new()),
        Some(_) => (source.config_file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), String::new()),
        None => name(&source.folder),
    };
    let mut digests = std::collections::BTreeMap::new();
    for file in files {
        let own = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        digests.insert(own, digest(file, done)?);
    }
    Ok(Provenance { name, revision, licence: licence(source), files: digests })
}

/// The same of an adapter's folder.
pub fn of_adapter(folder: &Path, files: &[PathBuf], done: &mut dyn FnMut(u64)) -> Result<Provenance, ImportError> {
    // A licence is looked for beside a configuration, and nothing else of the source is.
    let source = Source {
        folder: folder.to_owned(),
        weights: Weights::File(PathBuf::new()),
        format: Format::Transformers,
        config_file: PathBuf::new(),
        config: serde_json::Value::Null,
        gguf: None,
    };
    provenance(&source, files, done)
}

fn digest(path: &Path, done: &mut dyn FnMut(u64)) -> Result<String, ImportError> {
    let bytes = ocelli_bundle::map(path).map_err(ImportError::io(path))?;
    let mut digest = Sha256::new();
    for chunk in bytes.chunks(CHUNK) {
        digest.update(chunk);
        done(chunk.len() as u64);
    }
    Ok(digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_and_snapshots() {
        let cached = Path::new("/home/me/.cache/huggingface/hub/models--openai--clip-vit-base-patch32/snapshots/3d74acf9");
        assert_eq!(name(cached), ("openai/clip-vit-base-patch32".to_owned(), "3d74acf9".to_owned()));
        assert_eq!(name(Path::new("/data/tiny-clip")), ("tiny-clip".to_owned(), String::new()));
        assert_eq!(name(Path::new("/")), ("model".to_owned(), String::new()));
    }
}
