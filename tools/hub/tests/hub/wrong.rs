//! Content that is not what it should be.

use std::fs;

use ocelli_hub::HubError;
use ocelli_hub::testing::Fault;

use super::{Place, REPO, WEIGHTS, model, weights};

#[test]
fn a_wrong_checksum_deletes_the_file_and_names_it() {
    for (file, kind, whole) in [(WEIGHTS, "SHA-256", 4), ("config.json", "git SHA-1", 2)] {
        let place = Place::with_model();
        place.hub.fault(file, Fault::Damaged);
        let error = place.pull().unwrap_err();
        assert!(matches!(&error, HubError::WrongChecksum { file: named, kind: k, .. } if named == file && *k == kind), "{error}");
        // What came before it is there; of itself there is nothing.
        assert_eq!(place.blobs().len(), whole - 1);
        assert!(!place.blobs().iter().any(|name| name.ends_with(".incomplete")));
        place.pull().unwrap();
        assert_eq!(place.blobs().len(), 4);
    }
}

#[test]
fn a_resumed_file_is_checked_from_its_beginning() {
    let place = Place::with_model();
    let sha256 = Place::with_model().pull().unwrap().files[3].sha256.clone();
    let blobs = place.cache.path().join("models--org--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{sha256}.incomplete")), b"of another file").unwrap();
    let error = place.pull().unwrap_err();
    assert!(matches!(error, HubError::WrongChecksum { .. }), "{error}");
    assert_eq!(place.take_ranges(), [Some("bytes=15-199999".to_owned())]);
    place.pull().unwrap();
    assert_eq!(fs::read(blobs.join(sha256)).unwrap(), weights());
}

#[test]
fn a_wrong_length_deletes_the_file_and_names_it() {
    for fault in [Fault::Longer, Fault::LongerUnsaid] {
        let place = Place::with_model();
        place.hub.fault(WEIGHTS, fault);
        let error = place.pull().unwrap_err();
        assert!(matches!(&error, HubError::WrongLength { file, expected: 200_000, got: 200_001 } if file == WEIGHTS), "{error}");
        assert!(!place.blobs().iter().any(|name| name.ends_with(".incomplete")));
        place.pull().unwrap();
    }
}

#[test]
fn a_partial_file_that_is_too_long_begins_anew() {
    let place = Place::with_model();
    let sha256 = Place::with_model().pull().unwrap().files[3].sha256.clone();
    let blobs = place.cache.path().join("models--org--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{sha256}.incomplete")), vec![0; 300_000]).unwrap();
    place.pull().unwrap();
    assert_eq!(place.take_ranges(), [None]);
    assert_eq!(fs::read(blobs.join(sha256)).unwrap(), weights());
}

#[test]
fn what_is_damaged_in_the_cache_is_fetched_again() {
    let place = Place::with_model();
    let first = place.pull().unwrap();
    let mut damaged = weights();
    damaged[150_000] ^= 4;
    for content in [damaged.as_slice(), b"short"] {
        fs::write(&first.files[3].path, content).unwrap();
        let again = place.pull().unwrap();
        assert_eq!(again.files.iter().map(|file| file.fetched).collect::<Vec<_>>(), [false, false, false, true]);
        assert_eq!(fs::read(&again.files[3].path).unwrap(), weights());
    }
}

#[test]
fn a_server_that_gives_no_checksum_is_not_trusted() {
    for odd in ["../../../../outside", "12345", "", "no-hash-but-forty-characters-all-the-same"] {
        let place = Place::new();
        place.hub.add(REPO, model().etag(WEIGHTS, odd));
        let error = place.pull().unwrap_err();
        assert!(matches!(&error, HubError::NoChecksum { url } if url.ends_with(WEIGHTS)), "{odd}: {error}");
        assert!(!place.blobs().iter().any(|name| name.contains("incomplete")));
    }
}
