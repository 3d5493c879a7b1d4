//! The table of tensors, as transformers names them.

use super::config::Config;
use crate::llama;
use crate::table::{Kind, Row, Rows, transformers};

/// Every tensor of a checkpoint.
pub fn rows(config: &Config) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut table = Rows::new(&mut rows);
    let Some(vision) = &config.vision else {
        llama::tensors::rows(&mut table.below("text", ""), &config.text, "model", "lm_head");
        return rows;
    };
    transformers::vision(&mut table.below("vision", "model.vision_model"), &vision.tower, "");
    let patches = vision.shuffle.pow(2) * vision.tower.width;
    table.linear("connector", "model.connector.modality_projection.proj", [patches, config.text.width], Kind::Linear, false);
    llama::tensors::rows(&mut table.below("text", ""), &config.text, "model.text_model", "lm_head");
    rows
}
