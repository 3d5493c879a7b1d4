//! What the README promises: its commands early, its links to files that are there.

use std::fs;

use crate::root;

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn both_commands_stand_in_the_first_25_lines() {
    let text = readme();
    let start: Vec<&str> = text.lines().take(25).collect();
    let commands: Vec<&&str> = start.iter().filter(|line| line.starts_with("cargo ")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands[0].starts_with("cargo run --release -- run tests/frames "), "{commands:?}");
    assert_eq!(*commands[1], "cargo test --workspace --release");
}

#[test]
fn links_lead_somewhere() {
    let text = readme();
    let targets: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let local: Vec<&str> = targets.into_iter().filter(|target| !target.starts_with("http") && !target.starts_with('#')).collect();
    assert!(local.len() >= 10, "{local:?}");
    let missing: Vec<&&str> = local.iter().filter(|target| !root().join(target.split('#').next().unwrap_or(target)).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_photograph_has_its_licence_written_down() {
    let folder = root().join("tests/frames");
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut bytes = 0;
    for entry in fs::read_dir(&folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        bytes += entry.metadata().unwrap().len();
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        assert!(name == "README.md" || row.is_some_and(|row| row.contains("CC") || row.contains("public domain")), "{name}");
    }
    assert!(bytes <= 2_000_000, "{bytes} bytes of photographs");
}
