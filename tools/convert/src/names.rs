//! Names of tensors: the table's, behind a prefix that some checkpoints have.

use ocelli_models::table::Row;

use crate::checkpoint::Checkpoint;

/// What stands before the table's names: nothing, the name of the model within a larger one, or what a training program leaves.
const PREFIXES: [&str; 8] = ["", "clip.", "model.", "module.", "state_dict.", "state_dict.module.", "state_dict.model.", "owlvit."];

/// A name without any of them.
pub fn bare(name: &str) -> &str {
    let shorter = PREFIXES.iter().filter(|prefix| !prefix.is_empty()).find_map(|prefix| name.strip_prefix(prefix));
    shorter.map_or(name, bare)
}

/// The prefix under which a checkpoint has most of the table's tensors.
pub fn prefix(checkpoint: &Checkpoint, rows: &[Row]) -> &'static str {
    let found = |prefix: &str| {
        let pieces = rows.iter().flat_map(|row| &row.pieces);
        pieces.filter(|piece| checkpoint.get(&format!("{prefix}{}", piece.name)).is_some()).count()
    };
    // Of equals the first.
    PREFIXES.into_iter().rev().max_by_key(|prefix| found(prefix)).unwrap_or_default()
}

/// The tensors that the table has no use for, without buffers that follow from the configuration.
pub fn unused<'a>(checkpoint: &'a Checkpoint, rows: &[Row], prefix: &str) -> Vec<&'a str> {
    let used: std::collections::BTreeSet<String> =
        rows.iter().flat_map(|row| &row.pieces).map(|piece| format!("{prefix}{}", piece.name)).collect();
    checkpoint.names().filter(|name| !used.contains(*name) && !is_buffer(name)).collect()
}

/// Positions `0..n` and causal masks, which older versions of transformers and open_clip saved; GPT-2's mask was called a bias. And Florence-2's
/// sines of time.
fn is_buffer(name: &str) -> bool {
    ["position_ids", "attn_mask", "masked_bias", "pos_idx_to_embed"].contains(&name.rsplit('.').next().unwrap_or_default())
        || [".attn.bias", ".crossattention.bias"].iter().any(|mask| name.ends_with(mask))
}
