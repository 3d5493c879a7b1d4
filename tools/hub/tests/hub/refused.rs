//! Names, tokens, and what a server may say.

use std::io::Read;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use ocelli_hub::testing::{Fault, Model};
use ocelli_hub::{HubError, Settings, Silent};

use super::{Place, REPO, WEIGHTS, model};

fn with_token(place: &Place, token: &str) -> Settings {
    Settings { token: Some(token.into()), ..place.settings() }
}

#[test]
fn the_token_goes_to_the_endpoint_and_to_nobody_else() {
    let place = Place::new();
    place.hub.add(REPO, model().for_token("hf_secret"));
    place.hub.fault(WEIGHTS, Fault::BreakAfter(1000));
    place.pull_as(REPO, with_token(&place, "hf_secret"), &mut Silent).unwrap();
    let (store, hub): (Vec<_>, Vec<_>) = place.hub.take_seen().into_iter().partition(|seen| seen.store);
    assert_eq!(store.len(), 2, "two tries");
    assert!(store.iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert!(!store.iter().any(|seen| format!("{seen:?}").contains("hf_secret")));
    assert!(hub.len() >= 8, "a listing, three small files with a redirect each, and two redirects to the store");
    assert!(hub.iter().all(|seen| seen.headers.get("authorization").is_some_and(|value| value == "Bearer hf_secret")));
}

#[test]
fn private_gated_and_unknown_are_told_apart() {
    let place = Place::new();
    place.hub.add("org/private", model().for_token("hf_right"));
    place.hub.add("org/gated", model().gated());
    let error = |name: &str, token: Option<&str>| {
        let settings = token.map_or_else(|| place.settings(), |token| with_token(&place, token));
        place.pull_as(name, settings, &mut Silent).unwrap_err()
    };
    let says = |error: HubError, what: &[&str]| {
        let sentence = error.to_string();
        assert!(what.iter().all(|part| sentence.contains(part)), "{sentence}");
        assert!(!sentence.contains("hf_"), "{sentence}: no token is repeated");
    };
    let needs = error("org/private", None);
    assert!(matches!(needs, HubError::NeedsToken { .. }), "{needs}");
    says(needs, &["org/private", "HF_TOKEN", "check the name"]);
    let refused = error("org/private", Some("hf_wrong"));
    assert!(matches!(refused, HubError::TokenRefused { .. }), "{refused}");
    says(refused, &["org/private", "new token"]);
    for token in [None, Some("hf_any")] {
        let gated = error("org/gated", token);
        assert!(matches!(gated, HubError::Gated { .. }), "{gated}");
        says(gated, &[&format!("{}/org/gated", place.hub.endpoint()), "accept"]);
    }
    let unknown = error("org/nothing", Some("hf_any"));
    assert!(matches!(unknown, HubError::NoSuchModel { .. }), "{unknown}");
    says(unknown, &["org/nothing", "check its name"]);
    assert!(matches!(error("org/nothing", None), HubError::NeedsToken { .. }), "the Hub does not tell without a token");
    place.pull_as("org/private", with_token(&place, "hf_right"), &mut Silent).unwrap();
}

#[test]
fn an_unknown_revision() {
    let place = Place::with_model();
    let error = place.pull_as("org/model@v9", place.settings(), &mut Silent).unwrap_err();
    assert!(matches!(&error, HubError::NoSuchRevision { revision, .. } if revision == "v9"), "{error}");
    assert!(place.cache.path().read_dir().unwrap().next().is_none(), "nothing was made in the cache");
}

#[test]
fn a_bad_name_opens_nothing() {
    let place = Place::with_model();
    for name in ["../model", "org/..", "org/model@../../x", "org/model/more", "org\\model", "org/model@"] {
        let error = place.pull_as(name, place.settings(), &mut Silent).unwrap_err();
        assert!(matches!(error, HubError::BadName { .. } | HubError::BadRevision { .. }), "{error}");
    }
    assert!(place.hub.take_seen().is_empty());
    assert!(place.cache.path().read_dir().unwrap().next().is_none());
}

#[test]
fn a_bad_token_or_endpoint_opens_nothing() {
    let place = Place::with_model();
    let error = place.pull_as(REPO, with_token(&place, "hf_a\r\nX-Evil: 1"), &mut Silent).unwrap_err();
    assert!(matches!(error, HubError::BadToken { .. }), "{error}");
    for endpoint in ["", "huggingface.co", "ftp://x", "http://user@x", "http://x?y", "http://x y"] {
        let settings = Settings { endpoint: endpoint.into(), ..place.settings() };
        let error = place.pull_as(REPO, settings, &mut Silent).unwrap_err();
        assert!(matches!(error, HubError::BadEndpoint { .. }), "{endpoint}: {error}");
    }
    assert!(place.hub.take_seen().is_empty());
}

#[test]
fn a_repository_without_weights() {
    let place = Place::new();
    place.hub.add(REPO, Model::new().small("config.json", "{}").large("model.gguf", "x").large("onnx_model.onnx", "x"));
    let error = place.pull().unwrap_err();
    assert!(matches!(error, HubError::NoWeights { .. }), "{error}");
    assert!(error.to_string().contains("config.json, model.gguf, onnx_model.onnx"), "{error}");
    assert!(place.hub.take_seen().len() == 1 && place.blobs().is_empty(), "nothing was fetched");
}

#[test]
fn nobody_there() {
    let place = Place::with_model();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = Settings { endpoint: format!("http://127.0.0.1:{port}"), ..place.settings() };
    let error = place.pull_as(REPO, settings, &mut Silent).unwrap_err();
    assert!(matches!(error, HubError::NoConnection { .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_OFFLINE=1"), "{error}");
}

/// A server that only listens: patience ends.
#[test]
fn nobody_who_answers() {
    let place = Place::with_model();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let settings = Settings { endpoint, patience: Duration::from_millis(200), ..place.settings() };
    let error = place.pull_as(REPO, settings, &mut Silent).unwrap_err();
    assert!(matches!(&error, HubError::NoConnection { why, .. } if why.contains("in time")), "{error}");
}

/// TLS is spoken, and whoever does not speak it is an error and no panic.
#[test]
fn a_server_without_tls() {
    let place = Place::with_model();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let first_byte = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        byte[0]
    });
    let error = place.pull_as(REPO, Settings { endpoint, ..place.settings() }, &mut Silent).unwrap_err();
    assert!(matches!(error, HubError::NoConnection { .. }), "{error}");
    assert_eq!(first_byte.join().unwrap(), 22, "a TLS handshake record");
}

#[test]
fn other_statuses_are_said() {
    let place = Place::with_model();
    place.hub.refuse_listing(500);
    let error = place.pull().unwrap_err();
    assert!(matches!(error, HubError::Status { status: 500, .. }), "{error}");
    place.hub.fault("config.json", Fault::Status(404));
    let error = place.pull().unwrap_err();
    assert!(matches!(&error, HubError::NoSuchFile { url } if url.ends_with("config.json")), "{error}");
}
