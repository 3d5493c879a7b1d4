//! Layers that more than one model is built of. One layer a file: config, `init`, forward with shapes.

pub mod attention;
pub mod feed_forward;
pub mod transformer;

pub use attention::{KeyValue, MultiHeadAttention, causal_mask, padding_mask};
pub use feed_forward::FeedForward;
pub use transformer::{DecoderLayer, DecoderState, EncoderLayer};
