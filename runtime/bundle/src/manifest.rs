//! What a bundle says of itself, as JSON under the metadata key `ocelli.manifest`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The manifest version that this build writes, and the latest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Tensors whose names start so are golden vectors, not weights.
pub const GOLDEN_PREFIX: &str = "golden/";

/// Everything about a model but its weights and texts.
///
/// Fields are only ever added. Those this build does not know are kept in [`Manifest::extra`], so that a tool that reads a
/// bundle and writes another loses nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the build that wrote it.
    pub format_version: u32,
    /// Short name, as in the results' `"model"`.
    pub name: String,
    /// The registry's key: which code reads the tensors.
    pub family: String,
    /// `embed`, `classify`, `ground`, `caption`, …
    #[serde(default)]
    pub tasks: Vec<String>,
    /// The family's own configuration.
    #[serde(default)]
    pub config: Value,
    /// How pixels become model input: side, mean, standard deviation, filter, …
    #[serde(default)]
    pub preprocessing: Value,
    /// Recipe of each quantized tensor: name to `int8`, `int4`, … A tensor that is not listed is stored as it is.
    #[serde(default)]
    pub quantization: BTreeMap<String, String>,
    /// What it was made of.
    #[serde(default)]
    pub provenance: Vec<Source>,
    /// Licence of the bundle as a whole, as an SPDX expression or in words.
    #[serde(default)]
    pub licence: String,
    /// Metrics measured when it was made.
    #[serde(default)]
    pub metrics: Value,
    /// Inputs with the outputs expected of them.
    #[serde(default)]
    pub golden: Vec<Golden>,
    /// Fields of later versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// A manifest with only a name and a family; fill in the rest through its fields.
    pub fn new(name: impl Into<String>, family: impl Into<String>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            name: name.into(),
            family: family.into(),
            tasks: Vec::new(),
            config: Value::Null,
            preprocessing: Value::Null,
            quantization: BTreeMap::new(),
            provenance: Vec::new(),
            licence: String::new(),
            metrics: Value::Null,
            golden: Vec::new(),
            extra: Map::new(),
        }
    }
}

/// Weights or data that a model was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What it is: a package, a repository, a data set.
    pub name: String,
    /// Version, commit or date.
    #[serde(default)]
    pub revision: String,
    /// Its licence, as an SPDX expression or in words.
    #[serde(default)]
    pub licence: String,
    /// SHA-256 of each file used, in hexadecimal.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// One golden vector: an input, and what this model made of it when the bundle was written.
///
/// Names of tensors in the same bundle; by custom `golden/NAME/input` and `golden/NAME/OUTPUT`. That they are all there is
/// checked when the bundle is opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// What it shows, for people.
    pub name: String,
    /// The tensor with the input.
    pub input: String,
    /// Texts that go with the input, if any: phrases, labels.
    #[serde(default)]
    pub texts: Vec<String>,
    /// The tensors with the outputs.
    pub expected: Vec<String>,
    /// Largest difference allowed between an output and what is expected, relative to the expected tensor's largest magnitude.
    pub tolerance: f32,
}
