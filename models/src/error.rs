//! Why a bundle could not become a model.

use ocelli_bundle::BundleError;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A bundle could not be loaded as a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A family this build does not know.
    #[error("the bundle holds a model of family {family:?}; this build knows {known}")]
    Family {
        /// The manifest's family.
        family: String,
        /// The families there are.
        known: String,
    },
    /// The configuration.
    #[error("the bundle's configuration does not fit its family: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// A text entry that the family needs.
    #[error("the bundle has no entry {key:?}, which {family} needs; convert the model again")]
    Entry {
        /// The entry.
        key: String,
        /// The family.
        family: &'static str,
    },
    /// The preprocessing recipe.
    #[error("the bundle's preprocessing recipe: {reason}; convert the model again")]
    Preprocessing {
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer.
    #[error("the bundle's tokenizer.json: {reason}")]
    Tokenizer {
        /// What is wrong.
        reason: String,
    },
    /// The chat template.
    #[error("the bundle's chat template: {reason}; import the model again with its own template")]
    ChatTemplate {
        /// What is wrong.
        reason: String,
    },
    /// A weight that is not there.
    #[error("tensor {name} is missing; the model needs it with shape {expected:?}")]
    Missing {
        /// The tensor.
        name: String,
        /// Its shape in the model.
        expected: Vec<usize>,
    },
    /// A weight of another shape or type.
    #[error("tensor {name}: {reason}")]
    Misshapen {
        /// The tensor.
        name: String,
        /// What is there, and what should be.
        reason: String,
    },
}

/// A manifest's `config` as a family's own, whose sizes `check` finds possible.
pub(crate) fn config<T: DeserializeOwned>(config: &Value, check: impl FnOnce(&T) -> Result<(), String>) -> Result<T, LoadError> {
    let wrong = |reason: String| LoadError::Config { reason };
    let config: T = serde_json::from_value(config.clone()).map_err(|error| wrong(error.to_string()))?;
    check(&config).map_err(wrong)?;
    Ok(config)
}
