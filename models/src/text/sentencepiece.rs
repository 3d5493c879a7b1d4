//! stub
use serde_json::Value;
use super::build::BuildError;
/// x
pub struct Facts {
    pub lower: bool,
    pub start: Option<String>,
    pub end: Option<Option<String>>,
    pub unknown: String,
    pub pad: Option<String>,
}
pub fn siglip(_m: &[u8], _f: &Facts) -> Result<Value, BuildError> { Err(BuildError::Incomplete("x".into())) }
pub fn gemma(_m: &[u8], _f: &Facts) -> Result<Value, BuildError> { Err(BuildError::Incomplete("x".into())) }
