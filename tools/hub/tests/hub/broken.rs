//! Connections that break, silence, and servers that do not resume.

use std::fs;
use std::time::{Duration, Instant};

use ocelli_hub::testing::Fault;
use ocelli_hub::{HubError, Settings};

use super::{Notes, Place, REPO, WEIGHTS, weights};

/// Where the first connection breaks.
const BREAK: usize = 70_000;

#[test]
fn a_download_that_breaks_goes_on_where_it_broke() {
    let place = Place::with_model();
    place.hub.fault(WEIGHTS, Fault::BreakAfter(BREAK));
    place.hub.fault(WEIGHTS, Fault::BreakAfter(1));
    let mut notes = Notes::default();
    let snapshot = place.pull_as(REPO, place.settings(), &mut notes).unwrap();
    assert_eq!(fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), weights());
    let last = weights().len() - 1;
    let expected = [None, Some(format!("bytes={BREAK}-{last}")), Some(format!("bytes={}-{last}", BREAK + 1))];
    assert_eq!(place.take_ranges(), expected);
    let told =
        [format!("start {WEIGHTS} {}", last + 1), format!("retry {WEIGHTS}"), format!("retry {WEIGHTS}"), format!("finish {}", last + 1)];
    assert_eq!(notes.said[7..], told);
}

#[test]
fn what_has_come_is_kept_for_the_next_pull() {
    let place = Place::with_model();
    place.hub.fault(WEIGHTS, Fault::BreakAfter(BREAK));
    let settings = Settings { retries: 0, ..place.settings() };
    let error = place.pull_as(REPO, settings, &mut Notes::default()).unwrap_err();
    assert!(matches!(&error, HubError::BrokenOff { have: 70_000, bytes: 200_000, .. }), "{error}");
    assert!(error.to_string().contains(WEIGHTS), "{error}");
    assert!(place.blobs().iter().any(|name| name.ends_with(".incomplete")));
    place.hub.take_seen();

    let mut notes = Notes::default();
    let snapshot = place.pull_as(REPO, place.settings(), &mut notes).unwrap();
    assert_eq!(fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), weights());
    assert_eq!(place.take_ranges(), [Some("bytes=70000-199999".to_owned())]);
    assert_eq!(notes.said, ["plan 1 200000", &format!("start {WEIGHTS} 200000"), "finish 200000"]);
    assert!(!place.blobs().iter().any(|name| name.ends_with(".incomplete")));
}

#[test]
fn a_partial_file_that_is_whole_needs_no_connection() {
    let place = Place::with_model();
    let sha256 = place.pull().unwrap().files[3].sha256.clone();
    let blobs = place.cache.path().join("models--org--model/blobs");
    fs::rename(blobs.join(&sha256), blobs.join(format!("{sha256}.incomplete"))).unwrap();
    place.hub.take_seen();
    assert!(place.pull().unwrap().files[3].fetched);
    assert_eq!(place.take_ranges(), []);
    assert_eq!(fs::read(blobs.join(sha256)).unwrap(), weights());
}

#[test]
fn a_server_that_does_not_resume_sends_all_of_it_again() {
    for fault in [Fault::NoRange, Fault::NoSuchRange, Fault::OtherRange] {
        let place = Place::with_model();
        place.hub.fault(WEIGHTS, Fault::BreakAfter(BREAK));
        place.hub.fault(WEIGHTS, fault.clone());
        let mut notes = Notes::default();
        let snapshot = place.pull_as(REPO, place.settings(), &mut notes).unwrap();
        assert_eq!(fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), weights(), "{fault:?}");
        assert_eq!(notes.bytes, 200_000, "{fault:?}: progress began anew as well");
        assert_eq!(notes.said.iter().filter(|said| said.starts_with(&format!("start {WEIGHTS}"))).count(), 2, "{fault:?}");
    }
}

#[test]
fn silence_counts_as_broken_and_slowness_does_not() {
    let place = Place::with_model();
    let patience = Duration::from_secs(1);
    let settings = || Settings { patience, retries: 1, ..place.settings() };
    place.hub.fault(WEIGHTS, Fault::SilentAfter(BREAK));
    let started = Instant::now();
    let snapshot = place.pull_as(REPO, settings(), &mut Notes::default()).unwrap();
    assert!(started.elapsed() >= patience);
    assert_eq!(fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), weights());

    let place = Place::with_model();
    // Two hundred pieces: longer than the patience in all, shorter each.
    place.hub.fault(WEIGHTS, Fault::Slow(Duration::from_millis(8)));
    let started = Instant::now();
    let mut notes = Notes::default();
    place.pull_as(REPO, Settings { patience, retries: 0, ..place.settings() }, &mut notes).unwrap();
    assert!(started.elapsed() > patience);
    assert!(!notes.said.contains(&format!("retry {WEIGHTS}")));
}

#[test]
fn retries_end() {
    let place = Place::with_model();
    for _ in 0..10 {
        place.hub.fault(WEIGHTS, Fault::Status(503));
    }
    let mut notes = Notes::default();
    let error = place.pull_as(REPO, Settings { retries: 3, ..place.settings() }, &mut notes).unwrap_err();
    assert!(matches!(error, HubError::Status { status: 503, .. }), "{error}");
    assert_eq!(notes.said.iter().filter(|said| said.starts_with("retry")).count(), 3);
    assert_eq!(place.take_ranges().len(), 4);
}

#[test]
fn a_pull_can_be_stopped_and_goes_on_later() {
    let place = Place::with_model();
    let mut notes = Notes { stop_at: Some(1000), ..Notes::default() };
    let error = place.pull_as(REPO, place.settings(), &mut notes).unwrap_err();
    assert!(matches!(error, HubError::Cancelled), "{error}");
    assert!(place.blobs().iter().any(|name| name.ends_with(".incomplete")));
    place.hub.take_seen();
    place.pull().unwrap();
    assert!(place.take_ranges()[0].is_some());
}

/// `/dev/full` takes the place of a disk that is.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said() {
    let place = Place::with_model();
    let sha256 = Place::with_model().pull().unwrap().files[3].sha256.clone();
    let blobs = place.cache.path().join("models--org--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    std::os::unix::fs::symlink("/dev/full", blobs.join(format!("{sha256}.incomplete"))).unwrap();
    let error = place.pull().unwrap_err();
    assert!(matches!(error, HubError::NoSpace { missing: 200_000, .. }), "{error}");
}
