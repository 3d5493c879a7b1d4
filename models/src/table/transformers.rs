//! Rows that CLIP, SigLIP and OWL-ViT share in transformers' checkpoints.

use super::{Kind, Piece, Rows};
use crate::blocks::{Head, VisionConfig};
use crate::text::TextConfig;

/// A vision tower; `pre_norm` is what the checkpoint calls the norm before the first layer.
pub fn vision(table: &mut Rows<'_>, config: &VisionConfig, pre_norm: &str) {
    let (d, patch) = (config.width, config.patch);
    let pixels = 3 * patch * patch;
    let shape: &[usize] = if config.flexible { &[d, pixels] } else { &[d, 3, patch, patch] };
    let patches = vec![Piece::whole(table.source("embeddings.patch_embedding.weight"), shape)];
    table.row("patches.weight", &[pixels, d], Kind::Linear, patches);
    if config.patch_bias {
        table.float("patches.bias", "embeddings.patch_embedding.bias", &[d]);
    }
    if config.class_token {
        table.float("class_token", "embeddings.class_embedding", &[1, d]);
    }
    table.float("positions", "embeddings.position_embedding.weight", &[config.tokens(), d]);
    if config.pre_norm {
        table.norm("pre_norm", pre_norm, d);
    }
    layers(table, config.layers, d, config.hidden);
    table.norm("post_norm", "post_layernorm", d);
    if config.head == Head::AttentionPool {
        pool(&mut table.below("pool", "head"), d, config.hidden);
    }
}

/// SigLIP's pooling head, whose query, key and value projections are one tensor, as `torch.nn.MultiheadAttention` has it.
fn pool(table: &mut Rows<'_>, d: usize, hidden: usize) {
    table.float("probe", "probe", &[1, d]);
    let (weight, bias) = (table.source("attention.in_proj_weight"), table.source("attention.in_proj_bias"));
    for (name, rows) in [("q", 0..d), ("kv", d..3 * d)] {
        let width = rows.len();
        let mut below = table.below(name, "");
        below.row("weight", &[d, width], Kind::Linear, vec![Piece::part(&weight, &[3 * d, d], rows.clone())]);
        below.row("bias", &[width], Kind::Float, vec![Piece::part(&bias, &[3 * d], rows)]);
    }
    table.linear("output", "attention.out_proj", [d, d], Kind::Linear, true);
    table.norm("norm", "layernorm", d);
    table.linear("up", "mlp.fc1", [d, hidden], Kind::Linear, true);
    table.linear("down", "mlp.fc2", [hidden, d], Kind::Linear, true);
}

/// A text tower without its projection.
pub fn text(table: &mut Rows<'_>, config: &TextConfig) {
    let d = config.width;
    table.table("tokens.weight", "embeddings.token_embedding.weight", [config.vocabulary, d]);
    table.float("positions", "embeddings.position_embedding.weight", &[config.max_tokens, d]);
    layers(table, config.layers, d, config.hidden);
    table.norm("norm", "final_layer_norm", d);
}

fn layers(table: &mut Rows<'_>, count: usize, d: usize, hidden: usize) {
    for i in 0..count {
        let mut layer = table.below(&format!("layers.{i}"), &format!("encoder.layers.{i}"));
        layer.norm("norm1", "layer_norm1", d);
        layer.joined("qkv", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], [d, 3 * d], Kind::Linear);
        layer.linear("output", "self_attn.out_proj", [d, d], Kind::Linear, true);
        layer.norm("norm2", "layer_norm2", d);
        layer.linear("up", "mlp.fc1", [d, hidden], Kind::Linear, true);
        layer.linear("down", "mlp.fc2", [hidden, d], Kind::Linear, true);
    }
}
