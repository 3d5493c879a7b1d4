//! Models of two towers that put pictures and texts into one space: what CLIP and SigLIP share.

pub mod config;
pub mod model;

pub use config::{JointConfig, Scoring};
pub use model::JointModel;
