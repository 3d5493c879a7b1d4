//! Florence-2's table of tensors, as transformers names them and as Microsoft does.

use super::FlorenceConfig;
use super::config::{BartConfig, DaViTConfig, LayersConfig, Naming, StageConfig};
use crate::table::{Kind, Piece, Row, Rows};

/// A [`super::davit::Mixer`]'s tensors in a checkpoint.
struct MixerNames {
    convolutions: [&'static str; 2],
    norms: [&'static str; 2],
    attention: String,
    feed_forward: &'static str,
}

/// Every tensor of a checkpoint.
pub fn rows(config: &FlorenceConfig) -> Vec<Row> {
    let (vision, text, naming) = (&config.vision, &config.text, config.naming);
    // transformers' names begin with `model.` but in older files; the importer finds out.
    let mut rows = Vec::new();
    let mut table = Rows::new(&mut rows);
    for (i, stage) in vision.stages.iter().enumerate() {
        let before = if i == 0 { 3 } else { vision.stages[i - 1].width };
        stage_rows(&mut table, vision, naming, [i, before], stage);
    }
    projector(&mut table, config);
    let language = match naming {
        Naming::Transformers => "language_model",
        Naming::Microsoft => "language_model.model",
    };
    bart(&mut table.below("text", language), text);
    rows
}

fn stage_rows(table: &mut Rows<'_>, vision: &DaViTConfig, naming: Naming, [i, before]: [usize; 2], stage: &StageConfig) {
    let (d, patch) = (stage.width, stage.patch);
    let mut below = table.below(&format!("vision.stages.{i}"), &format!("vision_tower.convs.{i}"));
    let convolution = if naming == Naming::Microsoft { "proj" } else { "conv" };
    let kernels = Piece::whole(below.source(&format!("{convolution}.weight")), &[d, before, patch, patch]);
    below.row("embed.weight", &[before * patch * patch, d], Kind::Linear, vec![kernels]);
    below.float("embed.bias", &format!("{convolution}.bias"), &[d]);
    below.norm("norm", "norm", if stage.pre_norm { before } else { d });
    for j in 0..stage.depth {
        let mut block = table.below(&format!("vision.stages.{i}.blocks.{j}"), &format!("vision_tower.blocks.{i}.{j}"));
        for (name, source, attention) in [("spatial", "spatial_block", "window_attn"), ("channel", "channel_block", "channel_attn")] {
            mixer(&mut block.below(name, source), stage, vision.qkv_bias, &names(naming, attention));
        }
    }
}

fn names(naming: Naming, attention: &'static str) -> MixerNames {
    match naming {
        Naming::Transformers => {
            MixerNames { convolutions: ["conv1", "conv2"], norms: ["norm1", "norm2"], attention: attention.to_owned(), feed_forward: "ffn" }
        }
        Naming::Microsoft => MixerNames {
            convolutions: ["conv1.fn.dw", "conv2.fn.dw"],
            norms: [if attention == "window_attn" { "window_attn.norm" } else { "channel_attn.norm" }, "ffn.norm"],
            attention: format!("{attention}.fn"),
            feed_forward: "ffn.fn.net",
        },
    }
}

fn mixer(table: &mut Rows<'_>, stage: &StageConfig, qkv_bias: bool, names: &MixerNames) {
    let (d, hidden) = (stage.width, stage.hidden);
    for (name, source) in ["conv1", "conv2"].into_iter().zip(names.convolutions) {
        table.float(&format!("{name}.weight"), &format!("{source}.weight"), &[d, 1, 3, 3]);
        table.float(&format!("{name}.bias"), &format!("{source}.bias"), &[d]);
    }
    for (name, source) in ["norm1", "norm2"].into_iter().zip(names.norms) {
        table.norm(name, source, d);
    }
    let (attention, feed_forward) = (&names.attention, names.feed_forward);
    table.linear("qkv", &format!("{attention}.qkv"), [d, 3 * d], Kind::Linear, qkv_bias);
    table.linear("output", &format!("{attention}.proj"), [d, d], Kind::Linear, true);
    table.linear("up", &format!("{feed_forward}.fc1"), [d, hidden], Kind::Linear, true);
    table.linear("down", &format!("{feed_forward}.fc2"), [hidden, d], Kind::Linear, true);
}

fn projector(table: &mut Rows<'_>, config: &FlorenceConfig) {
    let (d, positions, width) = (config.vision.width(), config.vision.positions, config.text.width);
    let transformers = config.naming == Naming::Transformers;
    let (base, places) = if transformers { ("multi_modal_projector", "image_position_embed") } else { ("", "image_pos_embed") };
    let mut below = table.below("projector", base);
    below.float("rows", &format!("{places}.row_embeddings.weight"), &[positions, d / 2]);
    below.float("columns", &format!("{places}.column_embeddings.weight"), &[positions, d - d / 2]);
    if transformers {
        below.linear("dense", "image_projection", [d, width], Kind::Linear, false);
    } else {
        // A parameter by itself, which stands on the right of a product.
        let piece = Piece::whole("image_projection", &[d, width]);
        below.row("dense.weight", &[d, width], Kind::Linear, vec![piece]).turned = true;
    }
    below.norm("norm", "image_proj_norm", width);
}

fn bart(table: &mut Rows<'_>, config: &BartConfig) {
    table.table("tokens", "shared.weight", [config.vocabulary, config.width]);
    layers(&mut table.below("encoder", "encoder"), config, &config.encoder, false);
    layers(&mut table.below("decoder", "decoder"), config, &config.decoder, true);
}

fn layers(table: &mut Rows<'_>, config: &BartConfig, layers: &LayersConfig, memory: bool) {
    let (d, hidden) = (config.width, layers.hidden);
    table.float("positions", "embed_positions.weight", &[2 + config.max_tokens, d]);
    table.norm("norm", "layernorm_embedding", d);
    for i in 0..layers.layers {
        let mut layer = table.below(&format!("layers.{i}"), &format!("layers.{i}"));
        layer.norm("attention_norm", "self_attn_layer_norm", d);
        layer.joined("qkv", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], [d, 3 * d], Kind::Linear);
        layer.linear("output", "self_attn.out_proj", [d, d], Kind::Linear, true);
        if memory {
            layer.norm("cross.norm", "encoder_attn_layer_norm", d);
            layer.linear("cross.q", "encoder_attn.q_proj", [d, d], Kind::Linear, true);
            layer.joined("cross.kv", &["encoder_attn.k_proj", "encoder_attn.v_proj"], [d, 2 * d], Kind::Linear);
            layer.linear("cross.output", "encoder_attn.out_proj", [d, d], Kind::Linear, true);
        }
        layer.norm("feed_forward_norm", "final_layer_norm", d);
        layer.linear("up", "fc1", [d, hidden], Kind::Linear, true);
        layer.linear("down", "fc2", [hidden, d], Kind::Linear, true);
    }
}
