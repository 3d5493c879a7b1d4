//! SigLIP's table of tensors, as transformers names them.

use crate::joint::JointConfig;
use crate::table::{Kind, Row, Rows, transformers};

/// Every tensor of a checkpoint.
pub fn rows(config: &JointConfig) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut table = Rows::new(&mut rows);
    if let Some(vision) = &config.vision {
        transformers::vision(&mut table.below("vision", "vision_model"), vision, "");
    }
    if let Some(text) = &config.text {
        let mut tower = table.below("text", "text_model");
        transformers::text(&mut tower, text);
        tower.linear("projection", "head", [text.width, text.joint], Kind::Head, true);
    }
    table.float("logit_scale", "logit_scale", &[1]);
    table.float("logit_bias", "logit_bias", &[1]);
    rows
}
