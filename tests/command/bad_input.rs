//! One clear sentence on standard error, nothing on standard output, exit code 2.

use tempfile::tempdir;

use crate::pictures;
use crate::program::{command, ocelli, text};

/// The commands that look at single pictures, with what else they need.
#[cfg(feature = "nano")]
const LOOKING: &[&[&str]] = &[
    &["caption", "--image"],
    &["embed", "--image"],
    &["classify", "--label", "a cat", "--image"],
    &["ground", "--phrase", "a cat", "--image"],
];

#[test]
#[cfg(feature = "nano")]
fn single_bad_pictures() {
    let folder = tempdir().unwrap();
    let mut cases: Vec<_> =
        pictures::bad().into_iter().map(|(name, content, word)| (pictures::put(folder.path(), name, &content), name, word)).collect();
    cases.push((folder.path().join("absent.jpg"), "absent.jpg", "no such file"));
    for (path, name, word) in cases {
        ocelli(["run", text(&path)]).refused(&[name, word]);
        for command in LOOKING {
            ocelli(command.iter().copied().chain([text(&path)])).refused(&[name, word]);
        }
    }
}

/// In JSON the reader of the lines is told, too.
#[test]
#[cfg(feature = "nano")]
fn single_bad_picture_in_json() {
    let folder = tempdir().unwrap();
    let path = pictures::put(folder.path(), "cut.jpg", &pictures::truncated_jpeg());
    for arguments in [&["run", "--json"][..], &["caption", "--json", "--image"]] {
        let said = ocelli(arguments.iter().copied().chain([text(&path)])).one_sentence(&["cut.jpg", "cut short"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        let lines = said.lines();
        assert_eq!(lines.len(), 1, "{said:?}");
        assert_eq!((lines[0]["type"].as_str(), lines[0]["source"].as_str()), (Some("error"), Some(text(&path))), "{said:?}");
        assert!(lines[0]["error"].as_str().unwrap().contains("cut short"), "{said:?}");
    }
}

#[test]
fn the_pictures_are_looked_for_before_the_model() {
    let folder = tempdir().unwrap();
    ocelli(["run", text(&folder.path().join("absent"))]).refused(&["absent", "no such file"]);
    ocelli(["run", text(folder.path())]).refused(&[text(folder.path()), "no pictures"]);
    ocelli(["run", text(&folder.path().join("*.jpg"))]).refused(&["*.jpg", "no pictures"]);
}

/// Nobody can be kept out of a folder as root: then the program is started as `nobody`, so that this is tested all the same.
#[test]
#[cfg(unix)]
fn unreadable_folder() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;

    let folder = tempdir().unwrap();
    let mode = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    pictures::put(&locked, "a.jpg", &pictures::jpeg());
    mode(&locked, 0o000);
    let said = if std::fs::read_dir(&locked).is_err() {
        ocelli(["run", text(&locked)])
    } else {
        // A copy, because the program's own folder may be closed to `nobody`.
        let program = folder.path().join("ocelli");
        std::fs::copy(crate::program::PROGRAM, &program).unwrap();
        mode(&program, 0o755);
        let mut command = std::process::Command::new(&program);
        command.args(["run", text(&locked)]).current_dir(folder.path()).uid(NOBODY).gid(NOBODY);
        command.output().expect("start the program as nobody").into()
    };
    mode(&locked, 0o755);
    said.refused(&["locked", "permission denied"]);
}

#[test]
fn command_lines() {
    ocelli(["run", "x.jpg", "--no-such-flag"]).refused(&["--no-such-flag", "--help"]);
    ocelli(["cpation", "--image", "x.jpg"]).refused(&["cpation", "caption"]);
    ocelli(["run"]).refused(&["SOURCE"]);
    ocelli(["run", "x.jpg", "--threads", "0"]).refused(&["--threads", "0"]);
    ocelli(["run", "x.jpg", "--device", "abacus"]).refused(&["abacus", "auto"]);
    ocelli(["ground", "--image", "x.jpg", "--phrase", "a", "--threshold", "7"]).refused(&["--threshold", "7"]);
}

#[test]
fn phrases_and_texts() {
    let long = "cat ".repeat(2_500);
    for (phrase, word) in [("", "empty"), (" \t ", "empty"), (long.as_str(), "10000")] {
        ocelli(["run", "x.jpg", "--phrase", phrase]).refused(&["--phrase", word]);
        ocelli(["ground", "--image", "x.jpg", "--phrase", phrase]).refused(&["--phrase", word]);
        ocelli(["embed", "--text", phrase]).refused(&["--text", word]);
        ocelli(["classify", "--image", "x.jpg", "--label", phrase]).refused(&["--label", word]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn absent_camera() {
    let said = ocelli(["run", "/dev/video97"]).refused(&["/dev/video97"]);
    assert!(said.stderr.len() > "ocelli: /dev/video97: ".len() + 20, "what to do is said, too: {said:?}");
}

#[test]
fn output_that_nobody_reads_is_no_panic() {
    let mut child = command(["--help"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let said = crate::program::Said::from(child.wait_with_output().unwrap());
    assert!(!said.stderr.contains("panicked"), "{said:?}");
}
