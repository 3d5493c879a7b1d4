//! The table of tensors of a decoder, as transformers' `LlamaForCausalLM` names them.

use super::DecoderConfig;
use crate::table::{Kind, Piece, Rows};

/// Rows of a decoder whose layers stand at `model` in the checkpoint, and whose output layer, where it has one of its own, is `head`.
pub fn rows(table: &mut Rows<'_>, config: &DecoderConfig, model: &str, head: &str) {
    let (d, q, kv) = (config.width, config.q_width(), config.kv_width());
    {
        let mut table = table.below("", model);
        table.table("tokens", "embed_tokens.weight", [config.vocabulary, d]);
        for i in 0..config.layers {
            let mut layer = table.below(&format!("layers.{i}"), &format!("layers.{i}"));
            layer.float("attention_norm.gamma", "input_layernorm.weight", &[d]);
            let parts = [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
            joined(&mut layer, "qkv.weight", d, &parts);
            layer.linear("output", "self_attn.o_proj", [q, d], Kind::Linear, false);
            layer.float("feed_forward_norm.gamma", "post_attention_layernorm.weight", &[d]);
            joined(&mut layer, "gate_up.weight", d, &[("mlp.gate_proj", config.hidden), ("mlp.up_proj", config.hidden)]);
            layer.linear("down", "mlp.down_proj", [config.hidden, d], Kind::Linear, false);
        }
        table.float("norm.gamma", "norm.weight", &[d]);
    }
    if !config.tied {
        table.linear("head", head, [d, config.vocabulary], Kind::Linear, false);
    }
}

/// A linear layer without a bias whose output channels are several layers of the checkpoint, each of a width of its own.
fn joined(table: &mut Rows<'_>, name: &str, input: usize, parts: &[(&str, usize)]) {
    let pieces = parts.iter().map(|(source, width)| Piece::whole(format!("{}.weight", table.source(source)), &[*width, input])).collect();
    let output = parts.iter().map(|(_, width)| width).sum();
    table.row(name, &[input, output], Kind::Linear, pieces);
}
