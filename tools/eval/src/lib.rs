//! Metrics of captions, retrieval and grounding, and the data format they are measured on.
//!
//! | module | what |
//! |---|---|
//! | [`dataset`] | reads a folder in the data's format: records, and the pictures' files from a folder or a tar |
//! | [`captions`] | BLEU, CIDEr-D, ROUGE-L as coco-caption computes them |
//! | [`retrieval`] | recall at k, pictures from texts and texts from pictures |
//! | [`grounding`] | accuracy at an IoU, and pointing |
//! | [`ranking`] | area under the ROC curve |
//!
//! Nothing here runs a model: candidates, similarities and boxes come in, numbers go out.
//!
//! ```
//! use ocelli_eval::captions::{Sample, bleu, cider_d};
//!
//! let references = ["a dog runs on the grass", "a brown dog is running"];
//! let samples = [
//!     Sample::new("a dog is running on grass", references),
//!     Sample::new("two men on a bench", ["two men sit on a bench", "men are sitting outside"]),
//! ];
//! assert!(bleu(&samples)[0] > 0.5);
//! assert!(cider_d(&samples).mean > 0.5);
//! ```
#![forbid(unsafe_code)]

pub mod captions;
pub mod dataset;
pub mod grounding;
pub mod ranking;
pub mod retrieval;
