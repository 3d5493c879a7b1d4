//! Constrained decoding: only tokens that a JSON schema, a regular expression or a grammar allows (<https://github.com/guidance-ai/llguidance>).

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use ocelli_flow::{Grammar, ModelError};
use serde_json::{Value, json};

use super::Codec;
use super::generate::{Context, LogitsProcessor};

/// The tokens of a model as bytes, which grammars are about; made once a model.
pub struct TokenBytes {
    factory: ParserFactory,
    vocabulary: usize,
}

impl std::fmt::Debug for TokenBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenBytes").field("vocabulary", &self.vocabulary).finish_non_exhaustive()
    }
}

impl TokenBytes {
    /// Of a tokenizer whose first token to end a text is `end`, for a table of `vocabulary` rows.
    ///
    /// # Errors
    /// Where the tokenizer is of a kind whose tokens are not bytes.
    pub fn new(codec: &Codec, end: u32, vocabulary: usize) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::Compute { stage: "grammar", reason };
        let json = codec.inner().to_string(false).map_err(|error| wrong(error.to_string()))?;
        let json = serde_json::from_str(&json).map_err(|error| wrong(error.to_string()))?;
        let mut words = llguidance::token_bytes_from_tokenizer_json(&json)
            .map_err(|error| wrong(format!("the model's tokenizer cannot follow a grammar: {error}")))?;
        words.resize(vocabulary, Vec::new());
        let count = u32::try_from(vocabulary).map_err(|_| wrong("a vocabulary beyond 32 bits".into()))?;
        let trie = TokTrie::from(&TokRxInfo::new(count, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| wrong(error.to_string()))?;
        factory.quiet();
        Ok(Self { factory, vocabulary })
    }

    /// What keeps a text within a grammar; `end` are the tokens that may end it.
    ///
    /// # Errors
    /// Where it is no grammar.
    pub fn processor(&self, grammar: &Grammar, end: &[u32]) -> Result<Box<dyn LogitsProcessor>, ModelError> {
        let (option, grammar) = match grammar {
            Grammar::JsonSchema(schema) => {
                let option = "json-schema";
                let schema = serde_json::from_str(schema).map_err(|error| refused(option, &format!("it is not JSON: {error}")))?;
                let schema = compact(schema);
                (option, TopLevelGrammar::from_json_schema(schema))
            }
            Grammar::Regex(regex) => ("regex", TopLevelGrammar::from_regex(regex)),
            Grammar::Lark(grammar) => ("grammar", TopLevelGrammar::from_lark(grammar.clone())),
        };
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(refused(option, &error)),
            None => Ok(Box::new(Follow { matcher, option, end: end.to_vec(), followed: 0 })),
        }
    }
}

/// The schema with blanks only where `json.dumps` has them, unless it says itself how JSON is laid out: a model that may write any number of
/// blanks sometimes writes nothing else.
fn compact(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        let layout = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
        fields.entry("x-guidance").or_insert(layout);
    }
    schema
}

fn refused(option: &'static str, reason: &str) -> ModelError {
    ModelError::Option { option, reason: format!("it cannot be followed: {}", reason.lines().next().unwrap_or_default()) }
}

/// Follows a text through a grammar.
struct Follow {
    matcher: Matcher,
    option: &'static str,
    end: Vec<u32>,
    /// Generated tokens that the matcher knows.
    followed: usize,
}

impl LogitsProcessor for Follow {
    fn process(&mut self, context: Context<'_>, scores: &mut [f32]) -> Result<(), ModelError> {
        let new = &context.sequence[context.prompt + self.followed..];
        self.matcher.consume_tokens(new).map_err(|error| refused(self.option, &error.to_string()))?;
        self.followed += new.len();
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| refused(self.option, &error.to_string()))?;
        let ends = self.end.iter().any(|&end| mask.is_allowed(end));
        let allowed = |mask: &SimpleVob, token: usize| mask.is_allowed(token as u32) || ends && self.end.contains(&(token as u32));
        for (token, score) in scores.iter_mut().enumerate() {
            if !allowed(&mask, token) {
                *score = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}
