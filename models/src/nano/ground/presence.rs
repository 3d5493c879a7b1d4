//! Whether a phrase is in a picture at all.

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softmax};

use super::cells::CELLS;
use super::{Grid, GroundHead, Phrases, VECTOR_SCALE};
use crate::nano::embed::normalise;

/// Numbers that speak for a phrase's presence directly.
pub const EVIDENCE: usize = 6;

impl GroundHead {
    /// Whether each phrase is in each picture: logits `[batch, phrases]`. `dots` are [`Self::dots`]'s.
    pub fn presence(&self, grid: &Grid, phrases: &Phrases, dots: &Tensor<3>) -> Tensor<2> {
        let [batch, count, _] = dots.dims();
        let [_, width] = phrases.queries.dims();
        let looked = softmax(dots.clone(), 2).matmul(grid.values.clone()); // [batch, phrases, width]
        let local = looked * phrases.local.clone().unsqueeze::<3>();
        let global = grid.global.clone().unsqueeze_dim::<3>(1) * phrases.global.clone().unsqueeze::<3>();

        let hidden = self.presence_local.forward(local.clone()) + self.presence_global.forward(global.clone());
        let learned = self.presence_output.forward(relu(hidden + phrases.presence.clone().unsqueeze::<3>()));

        let cosines =
            |pictures: Tensor<2>, texts: Tensor<2>| pictures.matmul(texts.transpose()).mul_scalar(VECTOR_SCALE).reshape([batch, count, 1]);
        let centred = |x: &Tensor<2>, mean: &Param<Tensor<1>>| normalise(x.clone() - mean.val().unsqueeze::<2>());
        let (joint, vectors) = (&grid.joint, &phrases.vectors);
        let top = dots.clone().max_dim(2);
        let total = (dots.clone() - top.clone()).exp().sum_dim(2).log() + top.clone();
        let sum = |x: Tensor<3>| x.sum_dim(2).div_scalar((width as f64).sqrt());
        let evidence = vec![
            total.sub_scalar((CELLS as f64).ln()),
            top,
            cosines(joint.clone(), vectors.clone()),
            cosines(centred(joint, &self.joint_mean), centred(vectors, &self.text_mean)),
            sum(local),
            sum(global),
        ];
        let direct = self.presence_evidence.forward(Tensor::cat(evidence, 2));
        (learned + direct).reshape([batch, count])
    }
}
