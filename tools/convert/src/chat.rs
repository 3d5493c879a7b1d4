//! The checkpoint's chat template: how a conversation is put into words.

use serde_json::Value;

use crate::ImportError;
use crate::source::{MAX_JSON_BYTES, Source};
use crate::tokenizer::Found;

/// The template of a checkpoint, if it has one: `chat_template.jinja`, the field of `chat_template.json`, `processor_config.json` or
/// `tokenizer_config.json`, in this order.
///
/// # Errors
/// Where a file cannot be read.
pub fn template(source: &Source, tokenizer: Option<&Found>) -> Result<Option<String>, ImportError> {
    if let Some(template) = source.text("chat_template.jinja", MAX_JSON_BYTES)? {
        return Ok(Some(template));
    }
    for name in ["chat_template.json", "processor_config.json"] {
        if let Some(template) = source.json(name)?.as_ref().and_then(named) {
            return Ok(Some(template));
        }
    }
    Ok(tokenizer.and_then(|found| named(&found.files.config)))
}

/// The field `chat_template`: a text, or a list of named ones, of which the default counts.
fn named(config: &Value) -> Option<String> {
    let field = &config["chat_template"];
    let listed = || field.as_array()?.iter().find(|item| item["name"] == "default")?["template"].as_str();
    field.as_str().or_else(listed).map(str::to_owned)
}
