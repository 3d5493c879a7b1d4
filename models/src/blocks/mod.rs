//! Layers that more than one model is built of. One layer a file: config, `init`, forward with shapes.

pub mod activation;
pub mod attention;
pub mod attention_pool;
pub mod decoder_cache;
pub mod feed_forward;
pub mod linear;
pub mod low_rank;
pub mod norm;
pub mod pieces;
pub mod text_layer;
pub mod tokens;
pub mod transformer;
pub mod vision_config;
pub mod vision_tower;
pub mod vit;

pub use attention::{KeyValue, Mask, MultiHeadAttention, padding};
pub use attention_pool::AttentionPool;
pub use decoder_cache::DecoderCache;
pub use feed_forward::FeedForward;
pub use linear::{Linear, Linears, Slot, Target};
pub use low_rank::{LowRank, adapt};
pub use norm::{LayerNorm, RmsNorm};
pub use pieces::{in_pieces, piece, pieces, put};
pub use text_layer::{CrossAttention, NormPlace, TextLayer, TextLayerConfig};
pub use tokens::token_vectors;
pub use transformer::{DecoderLayer, DecoderState, EncoderLayer};
pub use vision_config::{Head, VisionConfig};
pub use vision_tower::{Seen, VisionTower};
pub use vit::ViTLayer;

/// Largest width, table or count that is believed of a configuration.
pub const LARGEST: usize = 1 << 20;

/// Whether every size is within 1 to [`LARGEST`].
pub(crate) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
        Some((name, size)) => Err(format!("{name} is {size}, not within 1 to {LARGEST}")),
        None => Ok(()),
    }
}
