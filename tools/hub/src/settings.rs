//! Where the cache is, which server, and which token.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::HubError;

/// The Hub itself.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// What a pull needs to know about its surroundings. [`Settings::from_env`] reads it as Python's huggingface_hub does; tests give values.
#[derive(Clone)]
pub struct Settings {
    /// The folder of `models--ORG--NAME` folders.
    pub cache: PathBuf,
    /// The server, `https://huggingface.co` or a mirror.
    pub endpoint: String,
    /// Sent to the endpoint, and to nobody else.
    pub token: Option<String>,
    /// No connection is opened: only what is in the cache.
    pub offline: bool,
    /// Whether the environment's `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` hold.
    pub proxy_from_env: bool,
    /// How often a download is tried again that broke off without getting anywhere.
    pub retries: u32,
    /// The pause before the first retry. It doubles with each, up to [`Settings::LONGEST_PAUSE`].
    pub pause: Duration,
    /// A connection that is silent for so long counts as broken.
    pub patience: Duration,
}

/// The token is not shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// No pause between two tries is longer.
    pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    /// The Hub, without a token, into this cache.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            token: None,
            offline: false,
            proxy_from_env: false,
            retries: 4,
            pause: Duration::from_millis(500),
            patience: Duration::from_secs(30),
        }
    }

    /// As the environment says:
    ///
    /// | variable | what | without it |
    /// |---|---|---|
    /// | `HF_HUB_CACHE` | the cache | `HF_HOME/hub` |
    /// | `HF_HOME` | where the cache and the token lie | `XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface` |
    /// | `HF_ENDPOINT` | the server | `https://huggingface.co` |
    /// | `HF_TOKEN` | the token | the file `HF_TOKEN_PATH`, else `HF_HOME/token`, if it is there |
    /// | `HF_HUB_OFFLINE` | `1`, `on`, `yes` or `true`: no connection | connections are allowed |
    ///
    /// # Errors
    /// [`HubError::NoHome`] if none of the variables and no home folder says where the cache is, [`HubError::Io`] for a token file that cannot be read.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| env::var_os(name), env::home_dir())
    }

    /// The same from any table of variables.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().trim().to_owned()).filter(|value| !value.is_empty());
        let path = |name: &str| {
            let value = PathBuf::from(set(name)?);
            let below_home = value.strip_prefix("~").ok().and_then(|rest| Some(home.as_ref()?.join(rest)));
            Some(below_home.unwrap_or(value))
        };
        let hf_home = || {
            let named = path("HF_HOME").or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")));
            named.or_else(|| Some(home.as_ref()?.join(".cache").join("huggingface"))).ok_or(HubError::NoHome)
        };
        let cache = match path("HF_HUB_CACHE") {
            Some(cache) => cache,
            None => hf_home()?.join("hub"),
        };
        let token = match text("HF_TOKEN") {
            Some(token) => Some(token),
            None => match path("HF_TOKEN_PATH").or_else(|| Some(hf_home().ok()?.join("token"))) {
                Some(file) if file.exists() => {
                    let token =
                        fs::read_to_string(&file).map_err(|source| HubError::Io { doing: "read the token in", path: file, source })?;
                    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
                }
                _ => None,
            },
        };
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Self { endpoint, token, offline, proxy_from_env: true, ..Self::new(cache) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)], home: Option<&str>) -> Result<Settings, HubError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Settings::from_variables(find, home.map(PathBuf::from))
    }

    #[test]
    fn the_cache_is_where_python_puts_it() {
        for (variables, cache) in [
            (&[][..], "/home/x/.cache/huggingface/hub"),
            (&[("HF_HOME", "/hf")], "/hf/hub"),
            (&[("HF_HOME", "~/hf")], "/home/x/hf/hub"),
            (&[("XDG_CACHE_HOME", "/xdg")], "/xdg/huggingface/hub"),
            (&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/xdg")], "/hf/hub"),
            (&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cache")], "/cache"),
            (&[("HF_HOME", "")], "/home/x/.cache/huggingface/hub"),
        ] {
            assert_eq!(from(variables, Some("/home/x")).unwrap().cache, PathBuf::from(cache), "{variables:?}");
        }
        assert!(matches!(from(&[], None), Err(HubError::NoHome)));
        assert_eq!(from(&[("HF_HUB_CACHE", "/cache")], None).unwrap().cache, PathBuf::from("/cache"));
    }

    #[test]
    fn the_token_comes_from_its_variable_or_its_file_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(from(&[("HF_HOME", home)], None).unwrap().token, None);
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(from(&[("HF_HOME", home)], None).unwrap().token.as_deref(), Some("hf_file"));
        let settings = from(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable ")], None).unwrap();
        assert_eq!(settings.token.as_deref(), Some("hf_variable"));
        assert!(!format!("{settings:?}").contains("hf_variable"));
    }

    #[test]
    fn offline_and_the_endpoint() {
        let of = |value: &str| from(&[("HF_HUB_OFFLINE", value)], Some("/h")).unwrap().offline;
        assert!(of("1") && of("TRUE") && of("yes") && of("on"));
        assert!(!of("0") && !of("") && !of("false"));
        assert_eq!(from(&[], Some("/h")).unwrap().endpoint, DEFAULT_ENDPOINT);
        assert_eq!(from(&[("HF_ENDPOINT", "http://mirror")], Some("/h")).unwrap().endpoint, "http://mirror");
    }
}
