//! A conversation put into words by the checkpoint's chat template.
//!
//! Templates are programs in Jinja that come with a model. They run with a bound on their steps, on the conversation alone: there is no loader
//! of other templates, no file, no clock.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use ocelli_flow::{Message, ModelError, Part};

use crate::LoadError;

/// Steps that a template may take; those of known models take some hundreds for a turn.
const FUEL: u64 = 1_000_000;
/// Longest template that is read, in bytes: ten times the longest known.
const MAX_TEMPLATE_BYTES: usize = 1 << 18;
/// The template's name in the environment, and so in messages.
const NAME: &str = "chat_template";

/// A template that can be run.
pub struct ChatTemplate {
    environment: Environment<'static>,
    start: Option<String>,
    end: Option<String>,
    /// Whether a message is a list of parts, as with pictures, or a text.
    parts: bool,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChatTemplate").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Reads a template. `start` and `end` are the tokenizer's `bos_token` and `eos_token`; with `parts` a message reaches the template as a list
    /// of pictures and texts, else as a text.
    ///
    /// # Errors
    /// Where it is no template.
    pub fn new(template: &str, start: Option<String>, end: Option<String>, parts: bool) -> Result<Self, LoadError> {
        let wrong = |reason: String| LoadError::ChatTemplate { reason };
        if template.len() > MAX_TEMPLATE_BYTES {
            return Err(wrong(format!("it has {} bytes; the limit is {MAX_TEMPLATE_BYTES}", template.len())));
        }
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        // As transformers runs them.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| wrong(said(&error)))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, template.to_owned()).map_err(|error| wrong(said(&error)))?;
        Ok(Self { environment, start, end, parts })
    }

    /// The prompt of a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    /// What the template says is wrong with the conversation, that it does not come to an end, or that it asks for what it may not have.
    pub fn render(&self, messages: &[Message]) -> Result<String, ModelError> {
        let rendered = match self.rendered(messages, self.parts) {
            // Written for texts: pictures are markers in them.
            Err(error) if self.parts && error.kind() == ErrorKind::InvalidOperation => self.rendered(messages, false).map_err(|_| error),
            rendered => rendered,
        };
        rendered.map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::OutOfFuel => format!("it does not come to an end within {FUEL} steps; give the whole prompt with --raw"),
                _ => format!("{}; give the whole prompt with --raw", said(&error)),
            };
            ModelError::Prompt { reason: format!("the model's chat template: {reason}") }
        })
    }

    fn rendered(&self, messages: &[Message], parts: bool) -> Result<String, minijinja::Error> {
        let messages: Vec<Value> = messages.iter().map(|message| as_value(message, parts)).collect();
        let fields = context! {
            messages => messages, add_generation_prompt => true, bos_token => &self.start, eos_token => &self.end,
        };
        self.environment.get_template(NAME)?.render(fields)
    }
}

/// A message as a template reads it: with a list of parts, or with one text in which pictures are markers.
fn as_value(message: &Message, parts: bool) -> Value {
    let role = message.role.name();
    if !parts {
        let texts = message.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Picture => "<image>",
        });
        return context! { role => role, content => texts.collect::<Vec<_>>().join("") };
    }
    let parts = message.parts.iter().map(|part| match part {
        Part::Text(text) => context! { type => "text", text => text },
        Part::Picture => context! { type => "image" },
    });
    context! { role => role, content => parts.collect::<Vec<_>>() }
}

/// What an error says, with the line.
fn said(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    format!("{error}{line}", error = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use ocelli_flow::Role;

    use super::*;

    const SMOLVLM: &str = "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

    fn user(parts: Vec<Part>) -> Message {
        Message { role: Role::User, parts }
    }

    #[test]
    fn pictures_and_texts_stand_where_the_template_puts_them() {
        let template = ChatTemplate::new(SMOLVLM, None, None, true).unwrap();
        let asked = user(vec![Part::Picture, Part::Text("What is this?".into())]);
        let answered = Message { role: Role::Assistant, parts: vec![Part::Text("A cat.".into())] };
        let prompt = template.render(&[asked.clone(), answered, asked]).unwrap();
        let turn = "User:<image>What is this?<end_of_utterance>\n";
        assert_eq!(prompt, format!("<|im_start|>{turn}Assistant: A cat.<end_of_utterance>\n{turn}Assistant:"));
    }

    #[test]
    fn texts_alone_are_texts() {
        let template = "{% for m in messages %}{{ bos_token + m['role'] + ' ' + m['content'].strip() }}{% endfor %}";
        let template = ChatTemplate::new(template, Some("<s>".into()), None, false).unwrap();
        assert_eq!(template.render(&[user(vec![Part::Text("  hi ".into())])]).unwrap(), "<s>user hi");
    }

    #[test]
    fn a_template_for_texts_gets_markers() {
        let template =
            ChatTemplate::new("{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}", None, None, true).unwrap();
        let asked = user(vec![Part::Picture, Part::Text("What?".into())]);
        assert_eq!(template.render(&[asked]).unwrap(), "user: <image>What?");
    }

    #[test]
    fn what_does_not_end_or_reaches_out_is_refused() {
        let loops = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
        let long = "{% for i in range(9999) %}{% for j in range(9999) %}{{ i }}{% endfor %}{% endfor %}";
        let file = "{% include '/etc/passwd' %}";
        let import = "{% import '/etc/passwd' as x %}{{ x }}";
        for (template, says) in [(loops, "chat template"), (long, "steps"), (file, "chat template"), (import, "chat template")] {
            let refused = match ChatTemplate::new(template, None, None, true) {
                Ok(template) => template.render(&[user(vec![])]).unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(refused.contains(says), "{template}: {refused}");
        }
        assert!(ChatTemplate::new("{% for %}", None, None, true).unwrap_err().to_string().contains("line 1"));
        let raises = ChatTemplate::new("{{ raise_exception('no system turns') }}", None, None, true).unwrap();
        assert!(raises.render(&[]).unwrap_err().to_string().contains("no system turns"));
    }
}
