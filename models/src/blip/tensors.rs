//! BLIP's table of tensors, as transformers names them.

use super::config::{BlipConfig, Purpose};
use crate::blocks::VisionConfig;
use crate::table::{Kind, Piece, Row, Rows};
use crate::text::TextTransformerConfig;

/// Every tensor of a checkpoint.
pub fn rows(config: &BlipConfig) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut table = Rows::new(&mut rows);
    vision(&mut table.below("vision", "vision_model"), &config.vision);
    if let Some(encoder) = &config.encoder() {
        bert(&mut table.below("encoder", "text_encoder"), encoder);
    }
    if let Some(decoder) = config.decoder() {
        bert(&mut table.below("decoder", "text_decoder.bert"), decoder);
        predictions(&mut table.below("decoder", "text_decoder.cls.predictions"), decoder);
    }
    if let Purpose::Match(dim) = config.purpose {
        table.linear("vision_projection", "vision_proj", [config.vision.width, dim], Kind::Head, true);
        table.linear("text_projection", "text_proj", [config.text.width, dim], Kind::Head, true);
        table.linear("match_head", "itm_head", [config.text.width, 2], Kind::Head, true);
    }
    rows
}

fn vision(table: &mut Rows<'_>, config: &VisionConfig) {
    let (d, patch) = (config.width, config.patch);
    let patches = vec![Piece::whole(table.source("embeddings.patch_embedding.weight"), &[d, 3, patch, patch])];
    table.row("patches.weight", &[3 * patch * patch, d], Kind::Linear, patches);
    table.float("patches.bias", "embeddings.patch_embedding.bias", &[d]);
    table.float("class_token", "embeddings.class_embedding", &[1, d]);
    table.float("positions", "embeddings.position_embedding", &[config.tokens(), d]);
    for i in 0..config.layers {
        let mut layer = table.below(&format!("layers.{i}"), &format!("encoder.layers.{i}"));
        layer.norm("norm1", "layer_norm1", d);
        layer.linear("qkv", "self_attn.qkv", [d, 3 * d], Kind::Linear, true);
        layer.linear("output", "self_attn.projection", [d, d], Kind::Linear, true);
        layer.norm("norm2", "layer_norm2", d);
        layer.linear("up", "mlp.fc1", [d, config.hidden], Kind::Linear, true);
        layer.linear("down", "mlp.fc2", [config.hidden, d], Kind::Linear, true);
    }
    table.norm("post_norm", "post_layernorm", d);
}

/// BERT's layers with attention over a memory.
fn bert(table: &mut Rows<'_>, config: &TextTransformerConfig) {
    let d = config.width;
    table.table("tokens", "embeddings.word_embeddings.weight", [config.vocabulary, d]);
    table.float("positions", "embeddings.position_embeddings.weight", &[config.max_tokens, d]);
    table.norm("embedding_norm", "embeddings.LayerNorm", d);
    for i in 0..config.layers {
        let mut layer = table.below(&format!("layers.{i}"), &format!("encoder.layer.{i}"));
        layer.joined("qkv", &["attention.self.query", "attention.self.key", "attention.self.value"], [d, 3 * d], Kind::Linear);
        layer.linear("output", "attention.output.dense", [d, d], Kind::Linear, true);
        layer.norm("attention_norm", "attention.output.LayerNorm", d);
        layer.linear("cross.q", "crossattention.self.query", [d, d], Kind::Linear, true);
        let kv = ["crossattention.self.key", "crossattention.self.value"];
        layer.joined("cross.kv", &kv, [config.memory, 2 * d], Kind::Linear);
        layer.linear("cross.output", "crossattention.output.dense", [d, d], Kind::Linear, true);
        layer.norm("cross.norm", "crossattention.output.LayerNorm", d);
        layer.linear("up", "intermediate.dense", [d, config.hidden], Kind::Linear, true);
        layer.linear("down", "output.dense", [config.hidden, d], Kind::Linear, true);
        layer.norm("feed_forward_norm", "output.LayerNorm", d);
    }
}

/// BERT's head for words.
fn predictions(table: &mut Rows<'_>, config: &TextTransformerConfig) {
    let d = config.width;
    table.linear("transform.dense", "transform.dense", [d, d], Kind::Linear, true);
    table.norm("transform.norm", "transform.LayerNorm", d);
    if config.head.is_some_and(|head| head.shared) {
        table.float("bias", "bias", &[config.vocabulary]);
    } else {
        table.linear("head", "decoder", [d, config.vocabulary], Kind::Linear, true);
    }
}
