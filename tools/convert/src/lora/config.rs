//! `adapter_config.json`: ranks and scales, and what is asked for that is not done.

use std::path::Path;

use serde_json::{Map, Value};

use super::AdapterError;
use crate::ImportError;

/// What of it counts here. Which layers are adapted is said by the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    rank: usize,
    alpha: f64,
    /// Scales are divided by the rank's root instead of the rank (Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>).
    rank_stabilized: bool,
    ranks: Vec<(String, usize)>,
    alphas: Vec<(String, f64)>,
}

/// Settings that change what an adapter computes, in ways that are not done here.
const CHANGES: [&str; 10] = [
    "use_dora",
    "use_qalora",
    "lora_bias",
    "modules_to_save",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "layer_replication",
    "target_parameters",
    "use_bdlora",
    "arrow_config",
];

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let json = crate::source::read_json(path)?;
        let object = json.as_object().ok_or_else(|| ImportError::json(path, "is no JSON object"))?;
        Self::of(object).map_err(|source| ImportError::Adapter { path: path.to_owned(), source })
    }

    fn of(config: &Map<String, Value>) -> Result<Self, AdapterError> {
        let unsupported = |name: &str, value: &Value| AdapterError::Unsupported { what: format!("{name} is {value}") };
        if let Some(kind) = config.get("peft_type").filter(|kind| !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("lora"))) {
            return Err(unsupported("peft_type", kind));
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        if let Some((name, value)) = CHANGES.iter().filter_map(|name| Some((name, config.get(*name)?))).find(|(_, value)| is_set(value)) {
            return Err(unsupported(name, value));
        }
        let rank = rank("r", config.get("r").unwrap_or(&Value::from(8)))?;
        let alpha = number("lora_alpha", config.get("lora_alpha").unwrap_or(&Value::from(8)))?;
        let rank_stabilized = config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        let ranks = pattern(config, "rank_pattern", self::rank)?;
        let alphas = pattern(config, "alpha_pattern", number)?;
        Ok(Self { rank, alpha, rank_stabilized, ranks, alphas })
    }

    /// The rank of a layer.
    pub fn rank(&self, module: &str) -> usize {
        find(&self.ranks, module).unwrap_or(self.rank)
    }

    /// What B A is multiplied by for a layer of rank `rank`.
    pub fn scale(&self, module: &str, rank: usize) -> f64 {
        let alpha = find(&self.alphas, module).unwrap_or(self.alpha);
        alpha / if self.rank_stabilized { (rank as f64).sqrt() } else { rank as f64 }
    }
}

/// The first entry whose name is the layer's, or the end of it behind a dot.
fn find<T: Copy>(entries: &[(String, T)], module: &str) -> Option<T> {
    let fits = |name: &str| match name.strip_prefix('^') {
        Some(whole) => whole == module,
        None => module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.')),
    };
    entries.iter().find(|(name, _)| fits(name)).map(|(_, value)| *value)
}

/// `rank_pattern` or `alpha_pattern`. PEFT reads its keys as regular expressions; nearly all are names, and only those are read.
fn pattern<T>(
    config: &Map<String, Value>,
    setting: &str,
    read: impl Fn(&str, &Value) -> Result<T, AdapterError>,
) -> Result<Vec<(String, T)>, AdapterError> {
    let entries = config.get(setting).and_then(Value::as_object).into_iter().flatten();
    let entry = |(key, value): (&String, &Value)| {
        let plain = key.replace("\\.", ".");
        let name = plain.strip_prefix('^').unwrap_or(&plain);
        if !name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
            return Err(AdapterError::Unsupported { what: format!("{setting} has the regular expression {key:?}") });
        }
        Ok((plain.clone(), read(&format!("{setting} of {key}"), value)?))
    };
    entries.map(entry).collect()
}

fn rank(setting: &str, value: &Value) -> Result<usize, AdapterError> {
    let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok()).filter(|rank| (1..=1 << 16).contains(rank));
    rank.ok_or_else(|| AdapterError::Setting { setting: setting.to_owned(), value: value.to_string(), needs: "a rank of 1 or more" })
}

fn number(setting: &str, value: &Value) -> Result<f64, AdapterError> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| AdapterError::Setting { setting: setting.to_owned(), value: value.to_string(), needs: "a number" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: Value) -> Result<Config, AdapterError> {
        Config::of(config.as_object().unwrap())
    }

    #[test]
    fn ranks_and_scales_of_layers() {
        let config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 2, "^a.k_proj": 3}, "alpha_pattern": {"layers\\.1\\.q_proj": 6.0}});
        let config = read(config).unwrap();
        assert_eq!((config.rank("a.q_proj"), config.rank("a.k_proj"), config.rank("b.a.k_proj"), config.rank("eq_proj")), (2, 3, 4, 4));
        assert_eq!((config.scale("layers.1.q_proj", 2), config.scale("layers.11.q_proj", 2)), (3.0, 4.0));
        let rooted = read(json!({"r": 4, "lora_alpha": 8, "use_rslora": true})).unwrap();
        assert_eq!(rooted.scale("q_proj", 4), 4.0);
    }

    #[test]
    fn what_is_not_done_is_named() {
        for (config, word) in [
            (json!({"peft_type": "IA3"}), "IA3"),
            (json!({"use_dora": true}), "use_dora"),
            (json!({"modules_to_save": ["lm_head"]}), "lm_head"),
            (json!({"alpha_pattern": {"layers.[0-3].q": 3}}), "[0-3]"),
            (json!({"r": 0}), "r is 0"),
            (json!({"lora_alpha": "much"}), "much"),
        ] {
            let said = read(config).unwrap_err().to_string();
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(read(json!({"modules_to_save": [], "use_dora": false, "layer_replication": null})).is_ok());
    }
}
