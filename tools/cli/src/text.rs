//! Texts as typed: neither empty nor endless.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// More than any model here can read; what a model itself cannot read, it refuses in its own words.
pub const MAX_CHARS: usize = 1_000;

/// Refuses a text without a visible character and one that is too long. `option` as in `--phrase`.
pub fn check(option: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        bail!("{option}: the text is empty; write what is meant, for example {option} \"a dog\"");
    }
    let chars = text.chars().count();
    ensure!(chars <= MAX_CHARS, "{option}: the text has {chars} characters and at most {MAX_CHARS} can be read; shorten it");
    Ok(())
}

/// [`check`] on every one.
pub fn check_all(option: &str, texts: &[String]) -> Result<()> {
    texts.iter().try_for_each(|text| check(option, text))
}

/// A template has one place for the label.
pub fn check_template(template: &str) -> Result<()> {
    check("--template", template)?;
    ensure!(template.contains("{}"), "--template: {template:?} has no {{}} where the label goes; write it like \"a photo of a {{}}\"");
    Ok(())
}

/// One label a line; empty lines do not count.
pub fn labels_of_file(path: &Path) -> Result<Vec<String>> {
    let content = fs::read_to_string(path).with_context(|| format!("{}: cannot read the labels", path.display()))?;
    let labels: Vec<String> = content.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(!labels.is_empty(), "{}: no labels in here; write one a line", path.display());
    check_all("--labels-file", &labels)?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_endless_texts_are_refused() {
        assert!(check("--phrase", "a dog").is_ok());
        assert!(check("--phrase", " \t").unwrap_err().to_string().contains("empty"));
        let long = check("--phrase", &"ä".repeat(10_000)).unwrap_err().to_string();
        assert!(long.contains("10000") && long.contains("1000"), "{long}");
        assert!(check("--phrase", &"ä".repeat(MAX_CHARS)).is_ok());
    }

    #[test]
    fn a_template_needs_its_place() {
        assert!(check_template("a photo of a {}").is_ok());
        assert!(check_template("a photo").unwrap_err().to_string().contains("{}"));
    }

    #[test]
    fn label_files_have_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.txt");
        fs::write(&file, "dog\r\n\n  cat \n").unwrap();
        assert_eq!(labels_of_file(&file).unwrap(), ["dog", "cat"]);
        fs::write(&file, "\n").unwrap();
        assert!(labels_of_file(&file).is_err());
        assert!(labels_of_file(&folder.path().join("none")).is_err());
    }
}
