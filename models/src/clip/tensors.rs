//! CLIP's table of tensors, as transformers and open_clip name them.

use crate::blocks::{Head, VisionConfig};
use crate::joint::JointConfig;
use crate::plan::Format;
use crate::table::{Kind, Piece, Row, Rows, transformers};
use crate::text::TextConfig;

/// Every tensor of a checkpoint.
pub fn rows(config: &JointConfig, format: Format) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut table = Rows::new(&mut rows);
    match format {
        Format::Transformers => of_transformers(&mut table, config),
        Format::OpenClip => of_open_clip(&mut table, config),
    }
    if config.is_whole() {
        table.float("logit_scale", "logit_scale", &[1]);
    }
    rows
}

fn of_transformers(table: &mut Rows<'_>, config: &JointConfig) {
    if let Some(vision) = &config.vision {
        transformers::vision(&mut table.below("vision", "vision_model"), vision, "pre_layrnorm");
        table.linear("vision.projection", "visual_projection", [vision.width, config.dim()], Kind::Head, false);
    }
    if let Some(text) = &config.text {
        transformers::text(&mut table.below("text", "text_model"), text);
        table.linear("text.projection", "text_projection", [text.width, text.joint], Kind::Head, false);
    }
}

fn of_open_clip(table: &mut Rows<'_>, config: &JointConfig) {
    if let Some(vision) = &config.vision {
        open_clip_vision(&mut table.below("vision", "visual"), vision);
    }
    if let Some(text) = &config.text {
        open_clip_text(&mut table.below("text", ""), text);
    }
}

fn open_clip_vision(table: &mut Rows<'_>, config: &VisionConfig) {
    let (d, patch) = (config.width, config.patch);
    let patches = vec![Piece::whole(table.source("conv1.weight"), &[d, 3, patch, patch])];
    table.row("patches.weight", &[3 * patch * patch, d], Kind::Linear, patches);
    table.float("class_token", "class_embedding", &[1, d]);
    table.float("positions", "positional_embedding", &[config.tokens(), d]);
    table.norm("pre_norm", "ln_pre", d);
    layers(table, config.layers, d, config.hidden);
    table.norm("post_norm", "ln_post", d);
    if let Head::Projection(joint) = config.head {
        projection(table, "proj", [d, joint]);
    }
}

fn open_clip_text(table: &mut Rows<'_>, config: &TextConfig) {
    let d = config.width;
    table.table("tokens.weight", "token_embedding.weight", [config.vocabulary, d]);
    table.float("positions", "positional_embedding", &[config.max_tokens, d]);
    layers(table, config.layers, d, config.hidden);
    table.norm("norm", "ln_final", d);
    projection(table, "text_projection", [d, config.joint]);
}

/// Kept as `[in, out]`.
fn projection(table: &mut Rows<'_>, source: &str, shape: [usize; 2]) {
    let piece = Piece::whole(table.source(source), &shape);
    table.row("projection.weight", &shape, Kind::Head, vec![piece]).turned = true;
}

fn layers(table: &mut Rows<'_>, count: usize, d: usize, hidden: usize) {
    for i in 0..count {
        let mut layer = table.below(&format!("layers.{i}"), &format!("transformer.resblocks.{i}"));
        layer.norm("norm1", "ln_1", d);
        let qkv = vec![Piece::whole(layer.source("attn.in_proj_weight"), &[3 * d, d])];
        layer.row("qkv.weight", &[d, 3 * d], Kind::Linear, qkv);
        layer.float("qkv.bias", "attn.in_proj_bias", &[3 * d]);
        layer.linear("output", "attn.out_proj", [d, d], Kind::Linear, true);
        layer.norm("norm2", "ln_2", d);
        layer.linear("up", "mlp.c_fc", [d, hidden], Kind::Linear, true);
        layer.linear("down", "mlp.c_proj", [hidden, d], Kind::Linear, true);
    }
}
