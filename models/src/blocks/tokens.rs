//! Rows of a table of tokens.

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, module};
use ocelli_ops::Packed;

/// The vectors of tokens, `[ids, d]`: of the packed table where there is one, else of the parameter.
pub fn token_vectors(packed: Option<&Packed>, tokens: &Param<Tensor<2>>, ids: &[u32], device: &Device) -> Tensor<2> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let ids = Tensor::<1, Int>::from_data(ids.as_slice(), device);
    match packed {
        Some(table) => ocelli_ops::embedding(ids, table),
        None => module::embedding(tokens.val(), ids.unsqueeze::<2>()).squeeze_dim(0),
    }
}
