//! What lies where after a pull, and what is not asked for again.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ocelli_hub::Silent;
use ocelli_hub::testing::{Fault, Model};

use super::{Notes, Place, REPO, WEIGHTS, model, weights};

#[test]
fn the_cache_is_laid_out_as_pythons() {
    let place = Place::with_model();
    let snapshot = place.pull().unwrap();

    assert_eq!((snapshot.repo.as_str(), snapshot.revision.as_str()), (REPO, "main"));
    assert_eq!(snapshot.commit, model().commit());
    assert_eq!(snapshot.licence.as_deref(), Some("apache-2.0"));
    let names: Vec<&str> = snapshot.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["README.md", "config.json", "tokenizer.json", WEIGHTS]);

    let root = place.cache.path().join("models--org--model");
    assert_eq!(snapshot.folder, root.join("snapshots").join(&snapshot.commit));
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), snapshot.commit);
    let config = &snapshot.files[1];
    assert_eq!(fs::read_to_string(&config.path).unwrap(), "{\"model_type\": \"clip\"}");
    // `printf '{"model_type": "clip"}' | git hash-object --stdin`, and `| sha256sum`
    assert_eq!(fs::read_link(&config.path).unwrap(), Path::new("../../blobs/6d71d5947a0a8a2ad1517d775879c0ba7ac762dc"));
    assert_eq!(config.sha256, "fbb51bc95cb51145be7e6963605bb9fb496efe34cca2f1de3e0ff98107cb8e15");
    let whole = &snapshot.files[3];
    assert_eq!(fs::read(&whole.path).unwrap(), weights());
    assert_eq!(fs::read_link(&whole.path).unwrap(), Path::new("../../blobs").join(&whole.sha256));
    assert_eq!(whole.bytes, weights().len() as u64);
    // Four blobs, and nothing else: no partial file, no lock.
    assert_eq!(place.blobs().len(), 4);
    assert!(place.cache.path().join(".locks/models--org--model").join(format!("{}.lock", whole.sha256)).exists());
}

#[test]
fn a_second_pull_asks_for_the_listing_only() {
    let place = Place::with_model();
    assert!(place.pull().unwrap().files.iter().all(|file| file.fetched));
    assert!(place.hub.take_seen().len() > 4);
    let mut notes = Notes::default();
    let again = place.pull_as(REPO, place.settings(), &mut notes).unwrap();
    assert!(again.files.iter().all(|file| !file.fetched));
    assert!(notes.said.is_empty(), "{:?}", notes.said);
    let seen = place.hub.take_seen();
    assert_eq!(seen.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/api/models/org/model/revision/main?blobs=true"]);
}

#[test]
fn a_new_commit_brings_only_what_has_changed() {
    let place = Place::with_model();
    let old = place.pull().unwrap();
    place.hub.add(REPO, model().small("config.json", "{\"model_type\": \"siglip\"}"));
    let new = place.pull().unwrap();
    assert_ne!(old.commit, new.commit);
    let fetched: Vec<&str> = new.files.iter().filter(|file| file.fetched).map(|file| file.name.as_str()).collect();
    assert_eq!(fetched, ["config.json"]);
    // The old snapshot stands.
    assert_eq!(fs::read_to_string(&old.files[1].path).unwrap(), "{\"model_type\": \"clip\"}");
    assert_eq!(fs::read_to_string(&new.files[1].path).unwrap(), "{\"model_type\": \"siglip\"}");
}

#[test]
fn what_python_has_fetched_is_not_fetched_again() {
    let place = Place::with_model();
    let sha256 = place.pull().unwrap().files[3].sha256.clone();
    let other = Place::with_model();
    let blobs = other.cache.path().join("models--org--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(sha256), weights()).unwrap();
    let snapshot = other.pull().unwrap();
    assert_eq!(snapshot.files.iter().map(|file| file.fetched).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), weights());
}

#[test]
fn branches_tags_and_commits() {
    let place = Place::new();
    let commit = place.hub.add(REPO, model().revision("v1.0").revision("refs/pr/1"));
    for revision in ["v1.0", "refs/pr/1", &commit] {
        let snapshot = place.pull_as(&format!("{REPO}@{revision}"), place.settings(), &mut Silent).unwrap();
        assert_eq!(snapshot.commit, commit);
        assert_eq!(snapshot.revision, revision);
    }
    let refs = place.cache.path().join("models--org--model/refs");
    assert_eq!(fs::read_to_string(refs.join("refs/pr/1")).unwrap(), commit);
    assert!(!refs.join(&commit).exists(), "a commit needs no reference");
    assert!(!refs.join("main").exists(), "nobody asked for main");
}

#[test]
fn all_parts_of_weights_in_parts() {
    let place = Place::new();
    let parts = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    let sharded = |count: usize| {
        let model = Model::new().small("config.json", "{}").small("model.safetensors.index.json", "{\"weight_map\":{}}");
        parts[..count].iter().fold(model, |model, part| model.large(part, format!("content of {part}")))
    };
    place.hub.add(REPO, sharded(3));
    let snapshot = place.pull().unwrap();
    assert_eq!(snapshot.files.len(), 5);
    for part in parts {
        assert_eq!(fs::read_to_string(snapshot.folder.join(part)).unwrap(), format!("content of {part}"));
    }
    place.hub.add(REPO, sharded(2));
    let error = place.pull().unwrap_err();
    assert!(error.to_string().contains("model-00003-of-00003.safetensors"), "{error}");
}

#[test]
fn a_listing_of_names_is_enough() {
    let place = Place::new();
    place.hub.add(REPO, model().small("vocab.txt", ""));
    place.hub.list_names_only();
    let snapshot = place.pull().unwrap();
    assert_eq!(fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), weights());
    assert_eq!(fs::read(snapshot.folder.join("vocab.txt")).unwrap(), b"");
    place.hub.take_seen();
    assert!(place.pull().unwrap().files.iter().all(|file| !file.fetched));
    // To know that the weights are the same, their headers are asked for, and a byte at most.
    assert!(place.take_ranges().iter().all(|range| range.as_deref() == Some("bytes=0-0")));
}

#[test]
fn progress_is_told() {
    let place = Place::with_model();
    let mut notes = Notes::default();
    place.pull_as(REPO, place.settings(), &mut notes).unwrap();
    let bytes = weights().len();
    let small = [38, 22, 2];
    assert_eq!(notes.said[0], format!("plan 4 {}", bytes + small.iter().sum::<usize>()));
    assert_eq!(notes.said[1..3], ["start README.md 38", "finish 38"]);
    assert_eq!(notes.said[7..], [format!("start {WEIGHTS} {bytes}"), format!("finish {bytes}")]);
}

#[test]
fn two_at_once_fetch_each_file_once() {
    let place = Place::with_model();
    place.hub.fault(WEIGHTS, Fault::Slow(Duration::from_millis(1)));
    let pulls = || thread::scope(|scope| [0; 2].map(|_| scope.spawn(|| place.pull())).map(|pull| pull.join().unwrap().unwrap()));
    for snapshot in pulls() {
        assert_eq!(fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), weights());
    }
    assert_eq!(place.take_ranges(), [None]);
}
