//! Reading a configuration field by field: what is missing has its class's default, what is wrong is named.

use ocelli_ops::Activation;
use serde_json::Value;

use super::PlanError;
use crate::blocks::activation;

/// An object of a configuration and where it stands.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Fields<'a> {
    /// The whole configuration.
    pub fn new(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The object of a field, if it has one.
    pub fn below(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name).filter(|value| value.is_object())?;
        Some(Self { value, path: self.path(name) })
    }

    /// The object of a field; everything in it is the default where it is missing.
    pub fn below_or_default(&self, name: &str) -> Self {
        self.below(name).unwrap_or_else(|| Self { value: &Value::Null, path: self.path(name) })
    }

    /// What is wrong with a field.
    pub fn wrong(&self, name: &str, reason: impl Into<String>) -> PlanError {
        PlanError::Field { field: self.path(name), reason: reason.into() }
    }

    /// A size or a count.
    pub fn size(&self, name: &str, default: usize) -> Result<usize, PlanError> {
        self.optional_size(name).map(|size| size.unwrap_or(default))
    }

    /// A size or a count, if it is there.
    pub fn optional_size(&self, name: &str) -> Result<Option<usize>, PlanError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| self.wrong(name, format!("is {value}, not a size")))
    }

    /// The side of a square: a number, or two that are equal.
    pub fn side(&self, name: &str, default: usize) -> Result<usize, PlanError> {
        match self.get(name).and_then(Value::as_array).map(Vec::as_slice) {
            None => self.size(name, default),
            Some([height, width]) if height == width => {
                height.as_u64().map(|side| side as usize).ok_or_else(|| self.wrong(name, format!("is {height}, not a size")))
            }
            Some(sides) => Err(self.wrong(name, format!("is {}, and only squares are read", Value::from(sides)))),
        }
    }

    /// A number.
    pub fn number(&self, name: &str, default: f64) -> Result<f64, PlanError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| self.wrong(name, format!("is {value}, not a number")))
    }

    /// Yes or no.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, PlanError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(name, format!("is {value}, not true or false")))
    }

    /// A token's id: a number, or the first of a list.
    pub fn token(&self, name: &str, default: u32) -> Result<u32, PlanError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let id = value.get(0).unwrap_or(value).as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.wrong(name, format!("is {value}, not a token's id")))
    }

    /// Whether a field is there and says something: not null, not false, not empty.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.as_bool() != Some(false) && value.as_str() != Some(""))
    }

    /// A text, if it is there.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    /// An activation by its name.
    pub fn activation(&self, name: &str, default: &str) -> Result<Activation, PlanError> {
        let asked = self.text(name).unwrap_or(default);
        activation::named(asked).ok_or_else(|| self.wrong(name, format!("is {asked:?}; there are {}", activation::names())))
    }

    /// What `check` says of the object as a whole.
    pub fn sound(&self, check: Result<(), String>) -> Result<(), PlanError> {
        let place = if self.path.is_empty() { "a size" } else { &self.path };
        check.map_err(|reason| PlanError::Field { field: place.to_owned(), reason: format!("cannot be true: {reason}") })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    fn path(&self, name: &str) -> String {
        match (self.path.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{name}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let config = json!({"vision_config": {"hidden_size": -3, "image_size": [224, 224], "patch_size": [14, 16], "hidden_act": "sine"}});
        let fields = Fields::new(&config);
        let vision = fields.below("vision_config").unwrap();
        assert_eq!(vision.side("image_size", 1), Ok(224));
        assert_eq!(vision.size("depth", 7), Ok(7));
        for error in [
            vision.size("hidden_size", 1).unwrap_err(),
            vision.side("patch_size", 1).unwrap_err(),
            vision.activation("hidden_act", "gelu").unwrap_err(),
        ] {
            assert!(error.to_string().contains("vision_config."), "{error}");
        }
        assert_eq!(fields.below_or_default("text_config").size("hidden_size", 5), Ok(5));
    }
}
