//! `run` over a folder: every picture is processed, a bad one is reported and does not stop the rest.

use std::path::Path;

use tempfile::tempdir;

use crate::pictures::{self, put};
use crate::program::{ocelli, text};

/// Good, odd and bad pictures, and a file that is none.
fn mixed(folder: &Path) -> (usize, usize) {
    put(folder, "a good one.jpg", &pictures::jpeg());
    let (odd, bad) = (pictures::odd(), pictures::bad());
    for (name, content) in &odd {
        put(folder, name, content);
    }
    for (name, content, _) in &bad {
        put(folder, name, content);
    }
    put(folder, "notes.txt", b"not meant to be looked at");
    (odd.len() + 1, bad.len())
}

#[test]
fn the_rest_is_processed_and_the_bad_are_counted() {
    let folder = tempdir().unwrap();
    let (good, bad) = mixed(folder.path());
    let said = ocelli(["run", "--json", text(folder.path())]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!((said.lines_of("frame").len(), said.lines_of("error").len()), (good, bad), "{said:?}");
    for (name, _, word) in pictures::bad() {
        let place = folder.path().join(name);
        let line =
            said.lines_of("error").into_iter().find(|line| line["source"] == text(&place)).unwrap_or_else(|| panic!("{name}: {said:?}"));
        assert!(line["error"].as_str().unwrap().contains(word), "{line}");
        assert!(said.stderr.contains(name), "{name} is said on standard error, too: {said:?}");
    }
    let last = said.stderr.lines().last().unwrap();
    assert!(last.contains(&format!("{bad} of {}", good + bad)), "{last}");
    let dropped: Vec<_> = said.lines_of("frame").iter().map(|line| line["dropped"].as_u64()).collect();
    assert_eq!(dropped, vec![Some(0); good], "a folder is not live: nothing is dropped");
}

#[test]
fn odd_pictures_are_fine() {
    let folder = tempdir().unwrap();
    for (name, content) in pictures::odd() {
        put(folder.path(), name, &content);
    }
    let said = ocelli(["run", "--json", text(folder.path())]).good();
    assert_eq!(said.stderr, "", "{said:?}");
    let sizes: Vec<_> =
        said.lines_of("frame").iter().map(|line| (line["width"].as_u64().unwrap(), line["height"].as_u64().unwrap())).collect();
    assert_eq!(sizes, [(160, 120), (160, 120), (8, 8), (160, 120), (160, 120)], "{said:?}");
}

#[test]
fn annotated_pictures_can_be_opened() {
    let (folder, out) = (tempdir().unwrap(), tempdir().unwrap());
    put(folder.path(), "a.jpg", &pictures::jpeg());
    put(folder.path(), "b.png", &pictures::png_16_bit());
    let out = out.path().join("new");
    ocelli(["run", text(folder.path()), "--phrase", "stripes", "--caption", "--annotate", text(&out)]).good();
    let drawn: Vec<_> = std::fs::read_dir(&out).unwrap().flatten().map(|entry| image::open(entry.path()).unwrap()).collect();
    assert_eq!(drawn.len(), 2);
    for picture in drawn {
        assert!(picture.width() >= 160 && picture.height() >= 120, "{}x{}", picture.width(), picture.height());
    }
}
