//! The values that flow through ocelli, and the traits of those who pass them on.
//!
//! No tensor library, no threads, no hardware: everything else in the workspace may depend on this crate.
//!
//! | module | what |
//! |---|---|
//! | [`frame`] | a picture with its age: [`Frame`], [`FrameMeta`] |
//! | [`yuv`] | a camera's pixels, and how they become RGB: [`Yuv`], [`YuvLayout`] |
//! | [`inputs`] | a picture made ready for a model: [`Inputs`] |
//! | [`result`] | what a model says of it: [`Embedding`], [`Detection`], [`Caption`], [`Classification`] |
//! | [`model`] | who says it: [`Model`] with [`Embedder`], [`Grounder`] |
//! | [`adapter`] | what is added to a model's weights while it runs: [`Adapter`] |
//! | [`generate`] | who writes texts, and how: [`Captioner`], [`Answerer`], [`Matcher`], [`GenerateOptions`] |
//! | [`stream`] | where frames come from and results go: [`FrameSource`], [`Sink`] |
//! | [`error`] | what can go wrong with what comes from outside |
#![forbid(unsafe_code)]

pub mod adapter;
pub mod error;
pub mod frame;
pub mod generate;
pub mod inputs;
pub mod model;
pub mod result;
pub mod stream;
pub mod yuv;

pub use adapter::{Adapter, LowRank};
pub use error::{ModelError, SinkError, SourceError};
pub use frame::{Frame, FrameMeta};
pub use generate::{
    Answerer, CaptionOptions, Captioner, Finish, GenerateOptions, Generation, Grammar, Listener, Match, Matcher, Message, Part, Prompt,
    Role, Sampling,
};
pub use inputs::{InputTensor, InputValues, Inputs};
pub use model::{Embedder, Encoded, GroundOptions, Grounder, Model, PhraseSet, Scoring};
pub use result::{BoundingBox, Caption, Classification, Detection, Embedding, LabelScore};
pub use stream::{FrameResult, FrameSource, Next, Sink};
pub use yuv::{Yuv, YuvFormat, YuvLayout, YuvRange, YuvTooShort};
