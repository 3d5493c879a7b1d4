//! OWL-ViT's table of tensors, as transformers names them.

use super::OwlConfig;
use crate::table::{Kind, Row, Rows, transformers};

/// Every tensor of a checkpoint.
pub fn rows(config: &OwlConfig) -> Vec<Row> {
    let (vision, text) = (&config.vision, &config.text);
    let (d, joint) = (vision.width, text.joint);
    let base = if config.second { "owlv2" } else { "owlvit" };
    let mut rows = Vec::new();
    let mut table = Rows::new(&mut rows);
    transformers::vision(&mut table.below("vision", &format!("{base}.vision_model")), vision, "pre_layernorm");
    transformers::text(&mut table.below("text", &format!("{base}.text_model")), text);
    table.linear("text.projection", &format!("{base}.text_projection"), [text.width, joint], Kind::Head, false);
    table.norm("norm", "layer_norm", d);
    let mut class = table.below("class", "class_head");
    class.linear("dense", "dense0", [d, joint], Kind::Head, true);
    class.linear("shift", "logit_shift", [d, 1], Kind::Head, true);
    class.linear("scale", "logit_scale", [d, 1], Kind::Head, true);
    mlp(&mut table.below("boxes", "box_head"), d, 4);
    if config.second {
        mlp(&mut table.below("objectness", "objectness_head"), d, 1);
    }
    rows
}

fn mlp(table: &mut Rows<'_>, d: usize, output: usize) {
    table.linear("dense0", "dense0", [d, d], Kind::Head, true);
    table.linear("dense1", "dense1", [d, d], Kind::Head, true);
    table.linear("dense2", "dense2", [d, output], Kind::Head, true);
}
