//! The cache alone.

use std::fs;

use ocelli_hub::{HubError, Settings, Silent, Snapshot};

use super::{Place, REPO, WEIGHTS, model};

fn offline(place: &Place, text: &str) -> Result<Snapshot, HubError> {
    let result = place.pull_as(text, Settings { offline: true, ..place.settings() }, &mut Silent);
    assert!(place.hub.take_seen().is_empty(), "a connection was opened");
    result
}

fn why(error: HubError) -> String {
    match error {
        HubError::NotCached { why, .. } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn what_was_pulled_is_found() {
    let place = Place::with_model();
    let online = place.pull().unwrap();
    place.hub.take_seen();
    for text in [REPO.to_owned(), format!("{REPO}@{}", online.commit)] {
        let found = offline(&place, &text).unwrap();
        assert_eq!((&found.commit, &found.folder, &found.licence), (&online.commit, &online.folder, &online.licence));
        let of = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.files.iter().map(|f| (f.name.clone(), f.path.clone(), f.bytes, f.sha256.clone())).collect()
        };
        assert_eq!(of(&found), of(&online));
        assert!(found.files.iter().all(|file| !file.fetched));
    }
}

#[test]
fn what_was_not_pulled_is_said() {
    let place = Place::with_model();
    assert!(why(offline(&place, REPO).unwrap_err()).contains("not been pulled"));
    let commit = place.pull().unwrap().commit;
    place.hub.take_seen();
    assert!(why(offline(&place, "org/model@v1").unwrap_err()).contains("not been pulled"));
    assert!(why(offline(&place, "org/other").unwrap_err()).contains("not been pulled"));
    let none = "0".repeat(40);
    assert!(why(offline(&place, &format!("{REPO}@{none}")).unwrap_err()).contains(&none));
    assert_ne!(commit, none);
}

#[test]
fn half_a_model_and_a_damaged_one_are_said() {
    let place = Place::with_model();
    let online = place.pull().unwrap();
    place.hub.take_seen();
    let weights = online.folder.join(WEIGHTS);
    let content = fs::read(&weights).unwrap();
    fs::write(&weights, &content[1..]).unwrap();
    assert!(why(offline(&place, REPO).unwrap_err()).contains("model.safetensors there is damaged"));
    fs::remove_file(&weights).unwrap();
    assert!(why(offline(&place, REPO).unwrap_err()).contains("weights are missing"));
}

/// A reference that points out of the cache, or to nothing, is none.
#[test]
fn a_damaged_reference_is_none() {
    let place = Place::with_model();
    let commit = place.pull().unwrap().commit;
    assert_eq!(commit, model().commit());
    place.hub.take_seen();
    for odd in ["", "../..", "main"] {
        fs::write(place.cache.path().join("models--org--model/refs/main"), odd).unwrap();
        assert!(why(offline(&place, REPO).unwrap_err()).contains("not been pulled"), "{odd}");
    }
}
