//! One file a command: arguments as typed, what they become, what is done.

pub mod ask;
pub mod bench;
pub mod caption;
pub mod classify;
pub mod completions;
pub mod embed;
pub mod eval;
pub mod ground;
pub mod import;
pub mod inspect;
pub mod matching;
pub mod preprocess;
pub mod pull;
pub mod quantize;
pub mod run;
pub mod search;
pub mod verify;
