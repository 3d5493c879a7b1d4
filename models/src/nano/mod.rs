//! nano, the embedded default: one frozen EfficientNet-Lite0, three heads on its features, and a small text tower.
//!
//! | module | what |
//! |---|---|
//! | [`backbone`] | picture → feature maps, once a frame |
//! | [`embed`] | features → a point of the joint image-text space; text likewise |
//! | [`ground`] | features and a phrase → scored boxes |
//! | [`caption`] | features → one sentence |
//! | [`config`] | what a bundle says of their shapes |
//! | [`model`] | all of it behind the traits of `ocelli_flow` |

pub mod backbone;
pub mod backbone_goldens;
pub mod backbone_import;
pub mod caption;
pub mod config;
pub mod embed;
pub mod ground;
pub mod model;

pub use config::NanoConfig;
pub use model::Nano;

/// The manifest's family.
pub const FAMILY: &str = "nano";
