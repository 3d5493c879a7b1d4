//! From the model's square back to the source picture.

use ocelli_flow::BoundingBox;

/// Maps coordinates of a squashed input of `side` x `side` pixels to the picture it was made from.
///
/// Squashing scales each axis on its own, so the map is one factor an axis. Coordinates are continuous: 0 is the left edge of the
/// first pixel, `side` the right edge of the last one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxMap {
    width: f32,
    height: f32,
    side: f32,
}

impl BoxMap {
    /// For a picture of `width` x `height` pixels squashed to `side` x `side`.
    pub fn new(width: u32, height: u32, side: u32) -> Self {
        Self { width: width as f32, height: height as f32, side: side as f32 }
    }

    /// `[x0, y0, x1, y1]` in pixels of the model's input as a box in pixels of the source picture, corners in order and clipped to it.
    pub fn to_source(&self, [x0, y0, x1, y1]: [f32; 4]) -> BoundingBox {
        let x = |value: f32| (value * (self.width / self.side)).clamp(0.0, self.width);
        let y = |value: f32| (value * (self.height / self.side)).clamp(0.0, self.height);
        BoundingBox { x0: x(x0.min(x1)), y0: y(y0.min(y1)), x1: x(x0.max(x1)), y1: y(y0.max(y1)) }
    }

    /// A box in pixels of the source picture as `[x0, y0, x1, y1]` in pixels of the model's input.
    pub fn to_model(&self, bbox: &BoundingBox) -> [f32; 4] {
        let (x, y) = (self.side / self.width, self.side / self.height);
        [bbox.x0 * x, bbox.y0 * y, bbox.x1 * x, bbox.y1 * y]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_whole_input_is_the_whole_picture() {
        let bbox = BoxMap::new(640, 480, 224).to_source([0.0, 0.0, 224.0, 224.0]);
        assert_eq!(bbox, BoundingBox { x0: 0.0, y0: 0.0, x1: 640.0, y1: 480.0 });
    }

    #[test]
    fn what_lies_outside_is_clipped_and_corners_are_put_in_order() {
        let bbox = BoxMap::new(448, 112, 224).to_source([230.0, 100.0, -3.0, 50.0]);
        assert_eq!(bbox, BoundingBox { x0: 0.0, y0: 25.0, x1: 448.0, y1: 50.0 });
    }

    proptest! {
        #[test]
        fn there_and_back(w in 1u32..5000, h in 1u32..5000, a in 0f32..1.0, b in 0f32..1.0, c in 0f32..1.0, d in 0f32..1.0) {
            let map = BoxMap::new(w, h, 224);
            let (w, h) = (w as f32, h as f32);
            let bbox = BoundingBox { x0: a.min(b) * w, y0: c.min(d) * h, x1: a.max(b) * w, y1: c.max(d) * h };
            let back = map.to_source(map.to_model(&bbox));
            for (x, y) in [(bbox.x0, back.x0), (bbox.y0, back.y0), (bbox.x1, back.x1), (bbox.y1, back.y1)] {
                // Three roundings of f32 each way.
                prop_assert!((x - y).abs() <= 6.0 * f32::EPSILON * w.max(h), "{x} {y}");
            }
        }
    }
}
