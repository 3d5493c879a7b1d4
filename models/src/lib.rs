//! What the networks are.
//!
//! | module | what |
//! |---|---|
//! | [`registry`] | from a bundle to a model: the one place that knows all families |
//! | [`plan`], [`table`] | how somebody else's checkpoint becomes a bundle: a family's configuration and table of tensors |
//! | [`weights`] | from a bundle's tensors to a module's parameters, and back |
//! | [`blocks`] | layers that more than one model is built of |
//! | [`text`] | tokenizers, text towers, the decode engine |
//! | [`nano`] | the embedded default model |
//! | [`clip`], [`siglip`] | pictures and texts in one space; what they share is [`joint`] |
//! | [`owl`] | boxes for phrases: OWL-ViT and OWLv2 |
//! | [`encoder_decoder`] | captions and lines of text: a vision transformer that GPT-2 or TrOCR's decoder reads |
//! | [`blip`] | captions, answers, and matches of pictures and texts: BLIP |
//! | [`florence`] | captions, objects, texts and phrases, written with their places: Florence-2 |
//! | [`pictures`] | a picture as the tensors that a tower reads |
//! | [`smolvlm`] | pictures among the words of a language model: SmolVLM, Idefics3 |
//! | [`llama`] | decoder-only language models |
//! | [`architecture`] | known shapes with random weights, for measuring |
//! | [`random`] | random numbers that are the same everywhere |
//! | [`golden`] | what a model made of a few pictures, computed anew |
//!
//! No module here names a backend: a device comes in, tensors live on it.
#![forbid(unsafe_code)]

pub mod architecture;
pub mod blip;
pub mod blocks;
pub mod clip;
pub mod encoder_decoder;
pub mod error;
pub mod florence;
pub mod golden;
pub mod joint;
pub mod llama;
pub mod nano;
pub mod owl;
pub mod pictures;
pub mod plan;
pub mod random;
pub mod registry;
pub mod siglip;
pub mod smolvlm;
pub mod table;
pub mod text;
pub mod weights;

pub use error::LoadError;
pub use registry::load;
