//! The table of tensors, as transformers names them.

use super::config::{Decoder, EncoderDecoderConfig};
use crate::blocks::VisionConfig;
use crate::table::{Kind, Piece, Row, Rows};
use crate::text::TextTransformerConfig;
use crate::text::transformer::Positions;

/// Places of BART's table that no token has.
const OFFSET: usize = 2;

/// Every tensor of a checkpoint.
pub fn rows(config: &EncoderDecoderConfig) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut table = Rows::new(&mut rows);
    vision(&mut table.below("vision", "encoder"), &config.vision);
    if config.projected {
        table.linear("projection", "enc_to_dec_proj", [config.vision.width, config.text.width], Kind::Linear, true);
    }
    match config.decoder {
        Decoder::Gpt2 => gpt2(&mut table.below("decoder", "decoder"), &config.text),
        Decoder::Trocr => trocr(&mut table.below("decoder", "decoder"), &config.text),
    }
    rows
}

/// `ViTModel` and `DeiTModel`, without their pooling.
fn vision(table: &mut Rows<'_>, config: &VisionConfig) {
    let (d, patch) = (config.width, config.patch);
    let patches = vec![Piece::whole(table.source("embeddings.patch_embeddings.projection.weight"), &[d, 3, patch, patch])];
    table.row("patches.weight", &[3 * patch * patch, d], Kind::Linear, patches);
    table.float("patches.bias", "embeddings.patch_embeddings.projection.bias", &[d]);
    let tokens = ["cls_token", "distillation_token"].into_iter().take(config.class_tokens());
    let tokens = tokens.map(|name| Piece::whole(table.source(&format!("embeddings.{name}")), &[1, d])).collect();
    table.row("class_token", &[config.class_tokens(), d], Kind::Float, tokens);
    table.float("positions", "embeddings.position_embeddings", &[config.tokens(), d]);
    for i in 0..config.layers {
        let mut layer = table.below(&format!("layers.{i}"), &format!("encoder.layer.{i}"));
        layer.norm("norm1", "layernorm_before", d);
        let qkv = ["query", "key", "value"].map(|name| format!("attention.attention.{name}"));
        joined(&mut layer, "qkv", &qkv.each_ref().map(String::as_str), [d, 3 * d], !config.plain_qkv);
        layer.linear("output", "attention.output.dense", [d, d], Kind::Linear, true);
        layer.norm("norm2", "layernorm_after", d);
        layer.linear("up", "intermediate.dense", [d, config.hidden], Kind::Linear, true);
        layer.linear("down", "output.dense", [config.hidden, d], Kind::Linear, true);
    }
    table.norm("post_norm", "layernorm", d);
}

/// [`Rows::joined`], with biases or without.
fn joined(table: &mut Rows<'_>, name: &str, sources: &[&str], shape: [usize; 2], bias: bool) {
    if bias {
        return table.joined(name, sources, shape, Kind::Linear);
    }
    let each = shape[1] / sources.len();
    let pieces = sources.iter().map(|source| Piece::whole(table.source(&format!("{source}.weight")), &[each, shape[0]])).collect();
    table.row(&format!("{name}.weight"), &shape, Kind::Linear, pieces);
}

/// `GPT2LMHeadModel`, whose linear layers keep their weights as `[in, out]`.
fn gpt2(table: &mut Rows<'_>, config: &TextTransformerConfig) {
    let d = config.width;
    let mut body = table.below("", "transformer");
    body.table("tokens", "wte.weight", [config.vocabulary, d]);
    body.float("positions", "wpe.weight", &[config.max_tokens, d]);
    for i in 0..config.layers {
        let mut layer = body.below(&format!("layers.{i}"), &format!("h.{i}"));
        layer.norm("attention_norm", "ln_1", d);
        turned(&mut layer, "qkv", "attn.c_attn", [d, 3 * d]);
        turned(&mut layer, "output", "attn.c_proj", [d, d]);
        layer.norm("cross.norm", "ln_cross_attn", d);
        turned(&mut layer, "cross.q", "crossattention.q_attn", [d, d]);
        turned(&mut layer, "cross.kv", "crossattention.c_attn", [config.memory, 2 * d]);
        turned(&mut layer, "cross.output", "crossattention.c_proj", [d, d]);
        layer.norm("feed_forward_norm", "ln_2", d);
        turned(&mut layer, "up", "mlp.c_fc", [d, config.hidden]);
        turned(&mut layer, "down", "mlp.c_proj", [config.hidden, d]);
    }
    body.norm("norm", "ln_f", d);
    head(table, config, "lm_head");
}

fn turned(table: &mut Rows<'_>, name: &str, source: &str, shape: [usize; 2]) {
    let mut below = table.below(name, source);
    let piece = Piece::whole(below.source("weight"), &shape);
    below.row("weight", &shape, Kind::Linear, vec![piece]).turned = true;
    below.float("bias", "bias", &[shape[1]]);
}

/// `TrOCRForCausalLM`
fn trocr(table: &mut Rows<'_>, config: &TextTransformerConfig) {
    let d = config.width;
    let mut body = table.below("", "model.decoder");
    body.table("tokens", "embed_tokens.weight", [config.vocabulary, d]);
    if config.positions == Positions::Learned {
        let most = OFFSET + config.max_tokens;
        let piece = Piece::part(body.source("embed_positions.weight"), &[most, d], OFFSET..most);
        body.row("positions", &[config.max_tokens, d], Kind::Float, vec![piece]);
    }
    if config.embedding_norm {
        body.norm("embedding_norm", "layernorm_embedding", d);
    }
    for i in 0..config.layers {
        let mut layer = body.below(&format!("layers.{i}"), &format!("layers.{i}"));
        layer.joined("qkv", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], [d, 3 * d], Kind::Linear);
        layer.linear("output", "self_attn.out_proj", [d, d], Kind::Linear, true);
        layer.norm("attention_norm", "self_attn_layer_norm", d);
        layer.linear("cross.q", "encoder_attn.q_proj", [d, d], Kind::Linear, true);
        layer.joined("cross.kv", &["encoder_attn.k_proj", "encoder_attn.v_proj"], [config.memory, 2 * d], Kind::Linear);
        layer.linear("cross.output", "encoder_attn.out_proj", [d, d], Kind::Linear, true);
        layer.norm("cross.norm", "encoder_attn_layer_norm", d);
        layer.linear("up", "fc1", [d, config.hidden], Kind::Linear, true);
        layer.linear("down", "fc2", [config.hidden, d], Kind::Linear, true);
        layer.norm("feed_forward_norm", "final_layer_norm", d);
    }
    head(table, config, "output_projection");
}

/// A matrix for logits that is not the table of tokens; kept as that would be.
fn head(table: &mut Rows<'_>, config: &TextTransformerConfig, source: &str) {
    if config.head.is_some_and(|head| !head.shared) {
        table.linear("head", source, [config.width, config.vocabulary], Kind::Linear, false);
    }
}
