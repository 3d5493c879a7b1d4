//! A checkpoint in several files, and the index that says which tensor is where.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Checkpoint, Tensor, open_file};
use crate::ImportError;
use crate::source::read_json;

/// Most files that a checkpoint may have.
const MAX_FILES: usize = 1000;

/// Opens every file that the index names.
pub fn open(index: &Path) -> Result<Checkpoint, ImportError> {
    let wrong = |reason: String| ImportError::json(index, reason);
    let json = read_json(index)?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| wrong("has no weight_map".into()))?;
    let mut wanted: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| wrong(format!("says that tensor {tensor} is in {file}, which is no name")))?;
        wanted.entry(file).or_default().push(tensor);
    }
    if wanted.len() > MAX_FILES {
        return Err(wrong(format!("names {} files, and {MAX_FILES} are the limit", wanted.len())));
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    let mut files = vec![index.to_owned()];
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, members) in wanted {
        if !is_plain(name) {
            return Err(wrong(format!("names the file {name:?}, which does not lie beside it")));
        }
        let path = folder.join(name);
        if !path.is_file() {
            return Err(ImportError::absent(&path, format!("missing, and {} tensors are in it; download it, too", members.len())));
        }
        let mut found = open_file(&path)?;
        for member in members {
            let Some(tensor) = found.remove(member) else {
                return Err(wrong(format!("says that tensor {member} is in {name}, which does not have it")));
            };
            tensors.insert(member.clone(), tensor);
        }
        files.push(path);
    }
    Ok(Checkpoint { tensors, files })
}

/// Whether a name is that of a file and no path to one.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn names_that_are_paths() {
        assert!(is_plain("model-00001-of-00002.safetensors"));
        for path in ["", ".", "..", "../x.safetensors", "/etc/passwd", "a\\b", "C:x"] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
