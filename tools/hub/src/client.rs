//! Requests to the Hub, the redirects they take, and what a status means.
//!
//! Redirects are followed here and not by ureq, for two reasons: the token must go to the endpoint alone, down to the port; and what
//! describes a file (`X-Linked-Etag`, `X-Linked-Size`) stands on the Hub's answer, not on that of the store it redirects to.

use std::io;
use std::ops::Range;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use ureq::Body;
use ureq::http::{HeaderMap, Response, Uri};

use crate::digest::Checksum;
use crate::listing::{LONGEST_BYTES, Listing};
use crate::{HubError, Request};

const MOST_REDIRECTS: usize = 10;

/// How long a name may take to resolve, and a connection to stand.
const CONNECTING: Duration = Duration::from_secs(10);

/// One repository of one server.
pub(crate) struct Client<'a> {
    request: &'a Request,
    api: Api,
    /// Without a slash at its end.
    endpoint: &'a str,
    origin: Origin,
}

/// An answer, and what the Hub said about the file on the way.
pub(crate) struct Answer {
    pub response: Response<Body>,
    pub etag: Option<String>,
    pub linked_size: Option<u64>,
}

/// Scheme, host and port: who may see the token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn of(address: &Uri) -> Option<Self> {
        let https = match address.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let port = address.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host: address.host()?.to_ascii_lowercase(), port })
    }
}

impl<'a> Client<'a> {
    pub fn new(request: &'a Request) -> Result<Self, HubError> {
        let settings = &request.settings;
        let endpoint = settings.endpoint.trim_end_matches('/');
        let bad = |why| HubError::BadEndpoint { endpoint: settings.endpoint.clone(), why };
        if endpoint.contains(['?', '#', '@']) {
            return Err(bad("'?', '#' and '@' have no place in it"));
        }
        let address: Uri = endpoint.parse().map_err(|_| bad("it cannot be parsed"))?;
        let origin = Origin::of(&address).ok_or_else(|| bad("it has to begin with https:// or http://, and a host"))?;
        let in_a_header = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if settings.token.as_ref().is_some_and(|token| !in_a_header(token)) {
            return Err(HubError::BadToken { endpoint: endpoint.to_owned() });
        }
        // hf-hub is given no token: it would send it wherever it is redirected.
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_token(None)
            .with_endpoint(endpoint.to_owned())
            .with_user_agent("ocelli", env!("CARGO_PKG_VERSION"))
            .build();
        let api = api.map_err(|error| HubError::NoConnection { url: endpoint.to_owned(), why: error.to_string() })?;
        Ok(Self { request, api, endpoint, origin })
    }

    /// What the repository holds at the revision.
    pub fn listing(&self) -> Result<Listing, HubError> {
        let url = format!("{}/api/{}?blobs=true", self.endpoint, repo_at(self.request, self.request.revision()).api_url());
        let mut answer = self.get(&url, None)?;
        let bad = |why: String| HubError::BadAnswer { url: url.clone(), why };
        let text = answer.response.body_mut().with_config().limit(LONGEST_BYTES).read_to_vec();
        let text = text.map_err(|error| bad(error.to_string()))?;
        let listing: Listing = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if !crate::request::is_commit(&listing.sha) {
            return Err(bad(format!("{:?} is not a commit's hash", listing.sha)));
        }
        Ok(listing)
    }

    /// The address of a file at a commit.
    pub fn file_url(&self, name: &str, commit: &str) -> String {
        self.hub(commit).url(name)
    }

    /// How long a file is and what it hashes to, from the headers of its first byte. For servers whose listing does not say.
    pub fn describe(&self, url: &str) -> Result<(u64, Checksum), HubError> {
        let answer = self.get(url, Some(0..1))?;
        let checksum = answer.etag.as_deref().and_then(Checksum::parse).ok_or_else(|| HubError::NoChecksum { url: url.to_owned() })?;
        let headers = answer.response.headers();
        let whole = match answer.response.status().as_u16() {
            206 => header(headers, "content-range").and_then(|range| range.rsplit('/').next()?.parse().ok()),
            // An empty file has no first byte.
            416 => Some(0),
            _ => header(headers, "content-length").and_then(|length| length.parse().ok()),
        };
        let bytes = answer.linked_size.or(whole);
        Ok((
            bytes.ok_or_else(|| HubError::BadAnswer { url: url.to_owned(), why: "it does not say how long the file is".into() })?,
            checksum,
        ))
    }

    /// An answer with status 200, 206 or 416, the last two only if a range of bytes is asked for.
    pub fn get(&self, url: &str, range: Option<Range<u64>>) -> Result<Answer, HubError> {
        let mut address: Uri =
            url.parse().map_err(|_| HubError::BadAnswer { url: url.to_owned(), why: "no such address can be".into() })?;
        let (mut linked_etag, mut etag, mut linked_size) = (None, None, None);
        for _ in 0..=MOST_REDIRECTS {
            let trusted = Origin::of(&address).as_ref() == Some(&self.origin);
            let response = self.send(&address, range.as_ref(), trusted)?;
            let headers = response.headers();
            if trusted {
                // The store's own ETag, of another origin, describes something else.
                linked_etag = header(headers, "x-linked-etag").or(linked_etag);
                etag = header(headers, "etag").or(etag);
                linked_size = header(headers, "x-linked-size").and_then(|size| size.parse().ok()).or(linked_size);
            }
            match response.status().as_u16() {
                200 => return Ok(Answer { response, etag: linked_etag.or(etag), linked_size }),
                206 | 416 if range.is_some() => return Ok(Answer { response, etag: linked_etag.or(etag), linked_size }),
                301 | 302 | 303 | 307 | 308 => address = redirected(&address, header(headers, "location"))?,
                status => return Err(self.refusal(url, status, headers)),
            }
        }
        Err(HubError::BadRedirect { url: url.to_owned(), to: address.to_string(), why: "there are too many redirects" })
    }

    /// One request, no redirect followed.
    fn send(&self, address: &Uri, range: Option<&Range<u64>>, with_token: bool) -> Result<Response<Body>, HubError> {
        let settings = &self.request.settings;
        let mut config = self.hub(self.request.revision()).info_request().uri(address.clone()).config();
        if !settings.proxy_from_env {
            config = config.proxy(None);
        }
        let mut request = config
            .http_status_as_error(false)
            .max_redirects(0)
            // What is counted, resumed and hashed are the file's bytes.
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECTING))
            .timeout_connect(Some(CONNECTING))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience))
            .build();
        if let (Some(token), true) = (&settings.token, with_token) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        request.call().map_err(|error| HubError::NoConnection { url: place(address), why: plain(&error) })
    }

    /// What a status means that is no success. The Hub says more in `X-Error-Code`.
    fn refusal(&self, url: &str, status: u16, headers: &HeaderMap) -> HubError {
        let (repo, endpoint) = (self.request.repo().to_owned(), self.endpoint.to_owned());
        let code = header(headers, "x-error-code").unwrap_or_default();
        match (status, code.as_str()) {
            (404, "RevisionNotFound") => HubError::NoSuchRevision { repo, revision: self.request.revision().to_owned(), endpoint },
            (404, "EntryNotFound") => HubError::NoSuchFile { url: url.to_owned() },
            (404, _) if url.contains("/resolve/") => HubError::NoSuchFile { url: url.to_owned() },
            (404, _) => HubError::NoSuchModel { repo, endpoint },
            (_, "GatedRepo") | (403, _) => HubError::Gated { repo, endpoint },
            (401, _) if self.request.settings.token.is_some() => HubError::TokenRefused { repo, endpoint },
            (401, _) => HubError::NeedsToken { repo, endpoint },
            _ => HubError::Status { url: url.to_owned(), status },
        }
    }

    /// hf-hub's handle of the repository at a revision.
    fn hub(&self, revision: &str) -> ApiRepo {
        self.api.repo(repo_at(self.request, revision))
    }
}

/// The repository at a revision, as hf-hub names it in addresses and in the cache.
pub(crate) fn repo_at(request: &Request, revision: &str) -> Repo {
    Repo::with_revision(request.repo().to_owned(), RepoType::Model, revision.to_owned())
}

/// A header as text, if it is there and is text.
pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The address that `location` means, seen from `from`.
fn redirected(from: &Uri, location: Option<String>) -> Result<Uri, HubError> {
    let to = location.unwrap_or_default();
    let bad = |why| HubError::BadRedirect { url: place(from), to: to.clone(), why };
    let (Some(scheme), Some(authority)) = (from.scheme_str(), from.authority()) else {
        return Err(bad("it has no host"));
    };
    let absolute = match to.as_bytes() {
        [b'/', b'/', ..] => format!("{scheme}:{to}"),
        [b'/', ..] => format!("{scheme}://{authority}{to}"),
        _ => to.clone(),
    };
    let address: Uri = absolute.parse().map_err(|_| bad("it is no address"))?;
    let origin = Origin::of(&address).ok_or_else(|| bad("it is no address"))?;
    if scheme == "https" && !origin.https {
        return Err(bad("it leaves https"));
    }
    Ok(address)
}

/// An address without its query: a store's has a signature there, which is nothing for a log.
fn place(address: &Uri) -> String {
    let text = address.to_string();
    text.split('?').next().unwrap_or_default().to_owned()
}

/// ureq's error in a user's words.
fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name is not known".into(),
        ureq::Error::Timeout(_) => "it does not answer in time".into(),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "nobody answers there".into(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(from: &str, to: &str) -> Result<String, HubError> {
        redirected(&from.parse().unwrap(), Some(to.to_owned())).map(|address| address.to_string())
    }

    #[test]
    fn redirects_are_relative_or_whole_and_stay_with_https() {
        assert_eq!(from("https://a:1/x?y", "/z").unwrap(), "https://a:1/z");
        assert_eq!(from("https://a/x", "//b/z").unwrap(), "https://b/z");
        assert_eq!(from("http://a/x", "https://b/z?s=1").unwrap(), "https://b/z?s=1");
        for to in ["http://b/z", "", "z", "ftp://b/z", "file:///etc/passwd", "https://", "https://b/ü z"] {
            assert!(matches!(from("https://a/x", to), Err(HubError::BadRedirect { .. })), "{to}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |address: &str| Origin::of(&address.parse().unwrap());
        assert_eq!(of("https://A.b/x"), of("https://a.b:443/y"));
        for other in ["http://a.b/", "https://a.b:444/", "https://a.b.c/", "http://a.b:443/"] {
            assert_ne!(of("https://a.b/x"), of(other), "{other}");
        }
        assert_eq!(of("ftp://a"), None);
    }

    #[test]
    fn a_signature_is_not_repeated() {
        assert_eq!(place(&"https://store/x?X-Signature=secret".parse().unwrap()), "https://store/x");
    }
}
