//! A picture as tiles of one size and its whole beside them (Idefics3 and SmolVLM; Laurençon et al. 2024, <https://arxiv.org/abs/2408.12637>).
//!
//! The reference is `Idefics3ImageProcessor` of `transformers`: the picture is resized so that its longer edge is of a given length, then so
//! that both edges are multiples of a tile's side, and cut; its whole is that resized once more to one tile. Each step rounds to bytes.

/// Longest edge that the processor allows.
const LONGEST: u32 = 4096;

/// Rows and columns of tiles that a picture is cut into, before its whole; none where it is one tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tiles {
    /// Rows of tiles.
    pub rows: u32,
    /// Tiles of a row.
    pub columns: u32,
}

impl Tiles {
    /// Tiles and the whole.
    pub fn count(&self) -> usize {
        self.rows as usize * self.columns as usize + 1
    }
}

/// Height and width of every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    /// With the longer edge as asked for.
    pub first: [u32; 2],
    /// Of whole tiles; `None`: the picture is not cut.
    pub second: Option<[u32; 2]>,
    /// How many of them.
    pub tiles: Tiles,
}

/// The steps for a picture of `height` x `width` pixels: tiles of `side`, a longer edge of `longest`, at most `most` tiles beside the whole;
/// 1: none.
pub(crate) fn steps(height: u32, width: u32, side: u32, longest: u32, most: u32) -> Steps {
    let whole = rescaled(height, width, longest);
    if most <= 1 {
        return Steps { first: whole, second: None, tiles: Tiles::default() };
    }
    // A shorter edge means fewer tiles.
    let shorter = (1..longest.div_ceil(side)).rev().map(|tiles| tiles * side);
    for longest in std::iter::once(longest).chain(shorter) {
        let first = rescaled(height, width, longest);
        let second = of_tiles(first, side);
        let tiles = Tiles { rows: second[0] / side, columns: second[1] / side };
        if second == [side, side] {
            // One tile is the picture itself.
            return Steps { first, second: Some(second), tiles: Tiles::default() };
        }
        if tiles.rows.saturating_mul(tiles.columns) <= most {
            return Steps { first, second: Some(second), tiles };
        }
    }
    Steps { first: whole, second: None, tiles: Tiles::default() }
}

/// The longer edge becomes `longest`, the other follows, and is made even.
fn rescaled(height: u32, width: u32, longest: u32) -> [u32; 2] {
    let aspect = f64::from(width) / f64::from(height);
    let even = |side: f64| {
        let side = side as u32;
        side + side % 2
    };
    let [height, width] =
        if width >= height { [even(f64::from(longest) / aspect), longest] } else { [longest, even(f64::from(longest) * aspect)] };
    let [height, width] = [height.max(1), width.max(1)];
    let aspect = f64::from(width) / f64::from(height);
    let [height, width] = if width >= height && width > LONGEST {
        [(f64::from(LONGEST) / aspect) as u32, LONGEST]
    } else if height > width && height > LONGEST {
        [LONGEST, (f64::from(LONGEST) * aspect) as u32]
    } else {
        [height, width]
    };
    [height.max(1), width.max(1)]
}

/// Both edges become multiples of `side`.
fn of_tiles([height, width]: [u32; 2], side: u32) -> [u32; 2] {
    let aspect = f64::from(width) / f64::from(height);
    let multiple = |edge: u32| edge.div_ceil(side).max(1) * side;
    if width >= height {
        let width = multiple(width);
        [multiple((f64::from(width) / aspect) as u32), width]
    } else {
        let height = multiple(height);
        [height, multiple((f64::from(height) * aspect) as u32)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_cut_as_the_reference_cuts_them() {
        // 640 x 480 of SmolVLM-256M: 2048 x 1536, 3 x 4 tiles of 512.
        let all = steps(480, 640, 512, 2048, u32::MAX);
        assert_eq!((all.first, all.second, all.tiles), ([1536, 2048], Some([1536, 2048]), Tiles { rows: 3, columns: 4 }));
        // A long one.
        assert_eq!(steps(100, 1000, 512, 2048, u32::MAX).tiles, Tiles { rows: 1, columns: 4 });
        // Not cut at all.
        let one = steps(480, 640, 512, 2048, 1);
        assert_eq!((one.second, one.tiles.count()), (None, 1));
        // No more than four.
        assert_eq!(steps(480, 640, 512, 2048, 4).tiles, Tiles { rows: 2, columns: 2 });
        // Nothing to cut.
        assert_eq!(steps(300, 300, 512, 512, u32::MAX).tiles.count(), 1);
    }

    #[test]
    fn odd_edges_are_made_even() {
        assert_eq!(rescaled(3, 1000, 2048), [6, 2048]);
        assert_eq!(rescaled(1, 100_000, 2048), [1, 2048]);
        assert_eq!(rescaled(333, 1000, 2048), [682, 2048]);
    }
}
