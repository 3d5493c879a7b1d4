//! Which weight is kept in which form: by what it is, and by rules for names.

use std::collections::BTreeSet;

use ocelli_ops::quant::GROUP;

use super::{Kind, Row, Storage};
use crate::weights::Recipe;

/// How values are kept, whatever their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// int8 with a scale for each output channel.
    Int8,
    /// int8 with a scale for each 32 input channels.
    Int8Groups,
    /// int4 with a scale for each 32 input channels.
    Int4,
}

/// Forms by what weights are, and exceptions by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// For weights that no rule names; `None`: as they are.
    pub default: Option<Storage>,
    /// The last one that matches counts.
    pub rules: Vec<Rule>,
}

/// What becomes of weights of some names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A name; `*` stands for any letters, dots included.
    pub names: String,
    /// `None`: as they are.
    pub form: Option<Form>,
}

/// A rule that says nothing. `rule`: its index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No name matches.
    #[error("no weight of the model is called {names:?}; there are {there}")]
    Unmatched {
        /// Which rule.
        rule: usize,
        /// Its names.
        names: String,
        /// What the weights are called, layers left out.
        there: String,
    },
    /// Only parameters match that have one form.
    #[error("{names:?} names only norms, biases and positions, which stay f32; weights are {there}")]
    Fixed {
        /// Which rule.
        rule: usize,
        /// Its names.
        names: String,
        /// What the weights are called, layers left out.
        there: String,
    },
}

impl PolicyError {
    /// Index of the rule.
    pub fn rule(&self) -> usize {
        match self {
            Self::Unmatched { rule, .. } | Self::Fixed { rule, .. } => *rule,
        }
    }
}

/// Towers whose work is arithmetic rather than reading weights, and which int4 would not make faster.
const SEEING: [&str; 2] = ["vision.", "connector."];

impl Row {
    /// Its recipe in a form; groups of input channels need whole groups, and rows of another length get a scale for each output channel.
    pub fn recipe_of(&self, form: Form) -> Recipe {
        let transposed = matches!(self.kind, Kind::Linear | Kind::Head);
        let inputs: usize = if transposed { self.shape.first().copied().unwrap_or(0) } else { self.shape.iter().skip(1).product() };
        let whole = inputs > 0 && inputs.is_multiple_of(GROUP);
        match form {
            _ if self.kind == Kind::Float => Recipe::F32,
            Form::F32 => Recipe::F32Packed { transposed },
            Form::F16 => Recipe::F16Packed { transposed },
            Form::Int4 if whole => Recipe::Int4Packed { transposed },
            Form::Int8Groups if whole => Recipe::Int8GroupsPacked { transposed },
            Form::Int8 | Form::Int8Groups | Form::Int4 => Recipe::Int8Packed { transposed },
        }
    }

    /// How it is stored.
    pub fn recipe(&self, storage: Storage) -> Recipe {
        let seeing = SEEING.iter().any(|tower| self.name.starts_with(tower));
        // A layer that gives logits of tokens is to them what a table is.
        let says = self.name.ends_with("head.weight");
        self.recipe_of(match (storage, self.kind) {
            (Storage::F16, _) => Form::F16,
            (Storage::F32, _) | (_, Kind::Head | Kind::Float) => Form::F32,
            (Storage::Int8, _) => Form::Int8,
            (Storage::Int8Groups, _) => Form::Int8Groups,
            (Storage::Int4, Kind::Linear) if seeing => Form::Int8,
            (Storage::Int4, Kind::Linear) if !says => Form::Int4,
            (Storage::Int4, _) => Form::Int8Groups,
        })
    }
}

impl Policy {
    /// Without exceptions.
    pub fn of(storage: Storage) -> Self {
        Self { default: Some(storage), rules: Vec::new() }
    }

    /// The recipe of each row; `None`: as it is.
    ///
    /// # Errors
    /// Where a rule says nothing.
    pub fn recipes(&self, rows: &[Row]) -> Result<Vec<Option<Recipe>>, PolicyError> {
        for (rule, Rule { names, .. }) in self.rules.iter().enumerate() {
            let mut named = rows.iter().filter(|row| matches(names, &row.name)).peekable();
            let (none, names, there) = (named.peek().is_none(), names.clone(), there(rows));
            if none {
                return Err(PolicyError::Unmatched { rule, names, there });
            }
            if named.all(|row| row.kind == Kind::Float) {
                return Err(PolicyError::Fixed { rule, names, there });
            }
        }
        let recipe = |row: &Row| match self.rules.iter().rfind(|rule| matches(&rule.names, &row.name)) {
            Some(rule) => rule.form.map(|form| row.recipe_of(form)),
            None => self.default.map(|storage| row.recipe(storage)),
        };
        Ok(rows.iter().map(recipe).collect())
    }
}

/// Names of weights, with a star for a layer's number: a dozen at most.
fn there(rows: &[Row]) -> String {
    let star = |part: &str| if part.bytes().all(|byte| byte.is_ascii_digit()) { "*".to_owned() } else { part.to_owned() };
    let name = |row: &Row| row.name.split('.').map(star).collect::<Vec<_>>().join(".");
    let names: BTreeSet<String> = rows.iter().filter(|row| row.kind != Kind::Float).map(name).collect();
    let more = if names.len() > 12 { ", …" } else { "" };
    format!("{}{more}", names.into_iter().take(12).collect::<Vec<_>>().join(", "))
}

/// Whether a pattern with stars is this name.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::super::Piece;
    use super::*;

    fn row(name: &str, shape: &[usize], kind: Kind) -> Row {
        Row::new(name, shape, kind, Piece::whole(name, shape))
    }

    fn rows() -> Vec<Row> {
        vec![
            row("vision.layers.0.qkv.weight", &[64, 96], Kind::Linear),
            row("vision.layers.0.norm.gamma", &[64], Kind::Float),
            row("vision.projection.weight", &[64, 32], Kind::Head),
            row("text.tokens", &[100, 64], Kind::Table),
            row("text.layers.0.qkv.weight", &[64, 96], Kind::Linear),
            row("text.layers.0.down.weight", &[40, 64], Kind::Linear),
            row("text.head.weight", &[64, 100], Kind::Linear),
        ]
    }

    fn names(policy: &Policy) -> Vec<&'static str> {
        policy.recipes(&rows()).unwrap().into_iter().map(|recipe| recipe.map_or("keep", |recipe| recipe.name().unwrap_or("none"))).collect()
    }

    #[test]
    fn forms_follow_what_weights_are() {
        let of = |storage| names(&Policy::of(storage));
        assert_eq!(of(Storage::Int8), ["int8.t.p", "none", "f32.t.p", "int8.p", "int8.t.p", "int8.t.p", "int8.t.p"]);
        assert_eq!(of(Storage::Int4), ["int8.t.p", "none", "f32.t.p", "int8g.p", "int4.t.p", "int8.t.p", "int8g.t.p"]);
        assert_eq!(of(Storage::Int8Groups), ["int8g.t.p", "none", "f32.t.p", "int8g.p", "int8g.t.p", "int8.t.p", "int8g.t.p"]);
        assert_eq!(of(Storage::F16), ["f16.t.p", "none", "f16.t.p", "f16.p", "f16.t.p", "f16.t.p", "f16.t.p"]);
    }

    #[test]
    fn the_last_rule_that_matches_counts() {
        let rule = |names: &str, form| Rule { names: names.to_owned(), form };
        let rules = vec![
            rule("text.*", Some(Form::Int4)),
            rule("text.layers.*", None),
            rule("vision.projection.weight", Some(Form::Int8)),
            rule("text.*.down.weight", Some(Form::F16)),
        ];
        let policy = Policy { default: None, rules };
        assert_eq!(names(&policy), ["keep", "keep", "int8.t.p", "int4.p", "keep", "f16.t.p", "int4.t.p"]);
    }

    #[test]
    fn a_rule_that_says_nothing_is_refused() {
        let refused = |names: &str| {
            let rule = |names: &str| Rule { names: names.to_owned(), form: Some(Form::Int8) };
            Policy { default: None, rules: vec![rule("text.*"), rule(names)] }.recipes(&rows()).unwrap_err()
        };
        let error = refused("decoder.*");
        assert_eq!(error.rule(), 1);
        assert!(error.to_string().contains("decoder.*") && error.to_string().contains("text.layers.*.qkv.weight"), "{error}");
        assert!(matches!(refused("*.norm.gamma"), PolicyError::Fixed { rule: 1, .. }));
    }

    #[test]
    fn stars_stand_for_any_letters() {
        assert!(matches("*", "a.b") && matches("a*", "a.b") && matches("*b", "a.b") && matches("a*.*c", "a.b.c") && matches("a", "a"));
        assert!(!matches("a", "a.b") && !matches("a*c", "a.b") && !matches("b*", "a.b") && !matches("a*a", "a"));
    }
}
