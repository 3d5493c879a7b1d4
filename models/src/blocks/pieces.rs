//! Layers that look at every token by itself, over a piece of the tokens at a time.

use std::ops::Range;

use burn::tensor::Tensor;

/// Most floats of a piece's widest activation: 4 MB, which fit a CPU's outer cache.
const WIDEST: usize = 1 << 20;
/// Fewest tokens of a piece: with fewer, weights would be read so often that it is felt.
const FEWEST: usize = 128;

/// Pieces of `tokens` where a token's widest activation, of all pictures of a batch, has `width` floats; all but of one size.
pub fn pieces(tokens: usize, width: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (WIDEST / width.max(1)).max(FEWEST);
    let size = tokens.div_ceil(tokens.div_ceil(most).max(1)).max(1);
    (0..tokens).step_by(size).map(move |first| first..tokens.min(first + size))
}

/// Tokens `range` of `x [batch, tokens, d]`.
pub fn piece(x: &Tensor<3>, range: &Range<usize>) -> Tensor<3> {
    x.clone().narrow(1, range.start, range.len())
}

/// `x [batch, tokens, d]` with `new` in the place of its tokens `range`; in `x`'s own memory where nobody else holds it.
pub fn put(x: Tensor<3>, range: Range<usize>, new: Tensor<3>) -> Tensor<3> {
    let [batch, tokens, d] = x.dims();
    if range.len() == tokens { new } else { x.slice_assign([0..batch, range, 0..d], new) }
}

/// `layer` over `x [batch, tokens, d]`. It makes of each token a vector of the same width, by itself, with `width` elements on the way.
pub fn in_pieces(mut x: Tensor<3>, width: usize, layer: impl Fn(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
    let [batch, tokens, _] = x.dims();
    for range in pieces(tokens, batch * width) {
        let new = layer(piece(&x, &range));
        x = put(x, range, new);
    }
    x
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        let device = Device::flex();
        for (batch, tokens, width) in [(1, 300, WIDEST / 128), (2, 257, WIDEST), (1, 128, WIDEST), (1, 700, WIDEST / 300), (3, 5, 4)] {
            let x = Tensor::<3>::random([batch, tokens, 6], Distribution::Normal(0.0, 1.0), &device);
            let layer = |x: Tensor<3>| x.clone().mul_scalar(2.0) + x.powi_scalar(2);
            let (is, should) = (in_pieces(x.clone(), width, layer), layer(x));
            assert_eq!((is - should).abs().max().into_scalar::<f32>(), 0.0, "{batch} x {tokens} of {width}");
        }
    }

    #[test]
    fn pieces_are_of_one_size() {
        let sizes = |tokens, width| pieces(tokens, width).map(|range| range.len()).collect::<Vec<_>>();
        assert_eq!(sizes(257, WIDEST), [86, 86, 85]);
        assert_eq!(sizes(128, WIDEST), [128]);
        assert_eq!(sizes(577, 3072), [289, 288]);
        assert!(sizes(0, 1).is_empty());
    }
}
