//! Layers that more than one model is built of. One layer a file: config, `init`, forward with shapes.

pub mod attention;
pub mod feed_forward;
pub mod linear;
pub mod norm;
pub mod transformer;
pub mod vit;

pub use attention::{KeyValue, Mask, MultiHeadAttention, padding};
pub use feed_forward::FeedForward;
pub use linear::{Linear, Linears, Slot, Target};
pub use norm::{LayerNorm, RmsNorm};
pub use transformer::{DecoderLayer, DecoderState, EncoderLayer};
