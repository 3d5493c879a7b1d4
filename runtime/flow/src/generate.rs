//! Texts that a model writes token by token: how it shall choose them, who listens, and what came of it.

use std::ops::ControlFlow;

use crate::{Caption, Detection, Encoded, ModelError};

/// How tokens are chosen. What is `None` is the model's own default, as its checkpoint's `generation_config.json` says it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerateOptions {
    /// At most so many tokens, those of the prompt not counted.
    pub max_tokens: Option<usize>,
    /// Sequences that a beam search follows; 1 is greedy decoding, or sampling where that is asked for.
    pub beams: Option<usize>,
    /// Beams are compared by `logprob / tokens^length_penalty`.
    pub length_penalty: Option<f32>,
    /// Tokens are drawn instead of the likeliest taken.
    pub sampling: Option<Sampling>,
    /// Logits of tokens that are there already are divided by it where they are positive, else multiplied (Keskar et al. 2019,
    /// <https://arxiv.org/abs/1909.05858>); 1 changes nothing.
    pub repetition_penalty: Option<f32>,
    /// No sequence of so many tokens comes twice; 0 forbids nothing.
    pub no_repeat_ngram: Option<usize>,
    /// Texts at which writing stops; they are cut off.
    pub stop: Vec<String>,
    /// What may be written at all.
    pub grammar: Option<Grammar>,
}

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; above 0.
    pub temperature: f32,
    /// Only the so many likeliest.
    pub top_k: Option<usize>,
    /// Only the likeliest that together have this probability (Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>).
    pub top_p: Option<f32>,
    /// Only those with at least this part of the likeliest's probability (Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>).
    pub min_p: Option<f32>,
    /// The same seed draws the same tokens.
    pub seed: u64,
}

/// What may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// A JSON value that a JSON schema describes.
    JsonSchema(String),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// A text of a context-free grammar in Lark's form.
    Lark(String),
}

/// Why no more was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model said that this is the end.
    End,
    /// As many tokens as were allowed.
    Length,
    /// A text at which to stop.
    Stop,
    /// The listener had enough.
    Cancelled,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The text, special tokens left out.
    pub text: String,
    /// The generated token ids, without prompt, start and end tokens.
    pub tokens: Vec<u32>,
    /// The log-probability of each token as the model sees it, the end token's, too, where one came.
    pub token_logprobs: Vec<f32>,
    /// What beams are compared by; without beams the sum of `token_logprobs`.
    pub score: f32,
    /// Why it ends there.
    pub finish: Finish,
}

impl Generation {
    /// Sum of the tokens' log-probabilities, the end token's included.
    pub fn logprob(&self) -> f32 {
        self.token_logprobs.iter().sum()
    }
}

/// Hears a text while it is written.
pub trait Listener {
    /// The next piece; texts that may be cut off again are held back. A beam search has one piece, at its end, and an empty one a step.
    fn piece(&mut self, text: &str) -> ControlFlow<()>;

    /// Whether it listens at all: for one that does not, no piece is made.
    fn hears(&self) -> bool {
        true
    }
}

/// Nobody listens.
impl Listener for () {
    fn hears(&self) -> bool {
        false
    }

    fn piece(&mut self, _text: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(&str) -> ControlFlow<()>> Listener for F {
    fn piece(&mut self, text: &str) -> ControlFlow<()> {
        self(text)
    }
}

/// How to caption.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaptionOptions {
    /// How the caption begins, or what the model is told; not every model takes one.
    pub prompt: Option<String>,
    /// One of [`Captioner::tasks`]; `None`: a caption.
    pub task: Option<String>,
    /// How tokens are chosen.
    pub generate: GenerateOptions,
}

/// Says what is in a picture.
pub trait Captioner {
    /// What it can say beside a plain caption, by name.
    fn tasks(&self) -> &[&'static str] {
        &[]
    }

    /// One sentence, or what the task asks for.
    fn caption(&self, encoded: &Encoded, options: &CaptionOptions, listener: &mut dyn Listener) -> Result<Caption, ModelError>;

    /// The likeliest token at each place of a caption, where the tokens before it are given: as many as `tokens`. For comparing models.
    fn follow(&self, _encoded: &Encoded, _tokens: &[u32]) -> Result<Vec<u32>, ModelError> {
        Err(ModelError::Unsupported { what: "follow a given caption" })
    }
}

/// What a model is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation, which the model's chat template puts into words.
    Messages(Vec<Message>),
    /// The whole prompt as it is, markers of pictures included.
    Raw(String),
}

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose.
    pub role: Role,
    /// Pictures and texts in order.
    pub parts: Vec<Part>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who says how to answer.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As chat templates name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Words.
    Text(String),
    /// The next of the pictures that come with the question.
    Picture,
}

/// Answers questions about pictures.
pub trait Answerer {
    /// The answer to a prompt in which `pictures` stand, in order.
    fn ask(
        &self,
        pictures: &[&Encoded],
        prompt: &Prompt,
        options: &GenerateOptions,
        listener: &mut dyn Listener,
    ) -> Result<Generation, ModelError>;
}

/// How well a text fits a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// 0 to 1: the probability that they belong together, from a head that read both.
    pub score: f32,
    /// Cosine of their embeddings, where the model has them.
    pub cosine: Option<f32>,
}

/// Judges whether a text describes a picture, having read both at once (image-text matching, Li et al. 2022,
/// <https://arxiv.org/abs/2201.12086>).
pub trait Matcher {
    /// One match a text, in order.
    fn match_texts(&self, encoded: &Encoded, texts: &[&str]) -> Result<Vec<Match>, ModelError>;
}

impl Caption {
    /// A caption of a generation, and what it says of places.
    pub fn new(generation: Generation, regions: Vec<Detection>) -> Self {
        let logprob = generation.logprob();
        Self { text: generation.text, tokens: generation.tokens, logprob, score: generation.score, regions }
    }
}
