//! Activations by the names that transformers gives them, for configurations.

use ocelli_ops::Activation;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

const NAMES: [(&str, Activation); 6] = [
    ("quick_gelu", Activation::QuickGelu),
    ("gelu", Activation::Gelu),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
];

/// The activation of a name.
pub fn named(name: &str) -> Option<Activation> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation)
}

/// Every name, for errors.
pub fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(activation: &Activation, serializer: S) -> Result<S::Ok, S::Error> {
    let found = NAMES.iter().find(|(_, known)| known == activation);
    serializer.serialize_str(found.map_or("none", |(name, _)| name))
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Activation, D::Error> {
    let name = String::deserialize(deserializer)?;
    named(&name).ok_or_else(|| D::Error::custom(format!("activation {name:?} is not known; there are {}", names())))
}
