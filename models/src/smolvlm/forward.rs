//! The equations of the picture's half.
//!
//! ```text
//! vectors = W · shuffle(vision(tile))          x = tokens' vectors, with the pictures' in the places of image tokens
//! ```

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::config::{Config, Vision};
use crate::blocks::{Linear, VisionTower};
use crate::linears;
use crate::llama::Decoder;

/// All of it.
#[derive(Module, Debug)]
pub struct Network {
    /// Tiles to tokens.
    pub vision: Option<VisionTower>,
    /// `[shuffle² · d, text]`
    pub connector: Option<Linear>,
    /// Tokens to logits.
    pub text: Decoder,
}

linears!(Network { vision, connector, text });

impl Network {
    /// With random weights.
    pub fn init(config: &Config, device: &Device) -> Self {
        let connector = |vision: &Vision| Linear::init_as(vision.shuffle.pow(2) * vision.tower.width, config.text.width, false, device);
        Self {
            vision: config.vision.as_ref().map(|vision| VisionTower::init(&vision.tower, device)),
            connector: config.vision.as_ref().map(connector),
            text: Decoder::init(&config.text, device),
        }
    }

    /// The same with the tower's positions as tiles need them: in a checkpoint they are those of a square of another size.
    pub fn for_tiles(self, config: &Config) -> Self {
        let Some((vision, tower)) = config.vision.as_ref().zip(self.vision) else { return Self { vision: None, ..self } };
        let places = places(vision.tower.grid(), vision.grid());
        Self { vision: Some(tower.with_places(&places, vision.tile)), ..self }
    }

    /// Tiles `[tiles, 3, side, side]` → vectors `[tiles · tokens, text]`.
    pub fn see(&self, tiles: Tensor<4>, shuffle: usize) -> Option<Tensor<2>> {
        let (tower, connector) = self.vision.as_ref().zip(self.connector.as_ref())?;
        let seen = tower.forward(tiles).tokens;
        let vectors = connector.forward(pixel_shuffle(seen, shuffle));
        let [tiles, tokens, width] = vectors.dims();
        Some(vectors.reshape([tiles * tokens, width]))
    }
}

/// Squares of `by` x `by` neighbouring tokens become one: `[tiles, side², d]` → `[tiles, (side / by)², by² · d]`; in a square row by row.
pub fn pixel_shuffle(x: Tensor<3>, by: usize) -> Tensor<3> {
    let [tiles, tokens, d] = x.dims();
    let side = tokens.isqrt();
    let x = x.reshape([tiles, side / by, by, side / by, by * d]).permute([0, 1, 3, 2, 4]);
    x.reshape([tiles, tokens / (by * by), by * by * d])
}

/// Which position of a square of `known` a side each patch of one of `grid` a side has: that at the same part of the way.
///
/// As `Idefics3VisionEmbeddings` computes it, in single precision: the fractions are looked up among the boundaries of the known square.
fn places(known: usize, grid: usize) -> Vec<usize> {
    let step = 1.0 / known as f64;
    let boundaries: Vec<f32> = (1..known).map(|i| (step + (i - 1) as f64 * step) as f32).collect();
    let stride = 1.0 / grid as f32;
    let bucket = |i: usize| {
        let fraction = (i as f32 * stride).min(1.0 - 1e-6);
        boundaries.partition_point(|boundary| *boundary <= fraction)
    };
    let buckets: Vec<usize> = (0..grid).map(bucket).collect();
    buckets.iter().flat_map(|row| buckets.iter().map(move |column| row * known + column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_of_a_square_of_the_same_size_have_its_positions() {
        for side in [1, 2, 4, 8, 16, 26, 32] {
            let places = places(side, side);
            let off = places.iter().enumerate().filter(|(i, place)| i != *place).count();
            // Rounding puts some patches into the place before theirs, in the reference, too.
            assert!(off * 4 <= side * side, "{side}: {off}");
        }
    }

    #[test]
    fn squares_become_one_token() {
        let device = Device::flex();
        let x = Tensor::<1>::from_floats((0..32).map(|i| i as f32).collect::<Vec<_>>().as_slice(), &device).reshape([1, 16, 2]);
        let y: Vec<f32> = pixel_shuffle(x, 2).into_data().try_into_vec().unwrap();
        assert_eq!(y[..8], [0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(y[8..16], [4.0, 5.0, 6.0, 7.0, 12.0, 13.0, 14.0, 15.0]);
    }
}
