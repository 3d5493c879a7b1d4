//! From the coordinates of a model's input to pixels of the source picture.

use ocelli_flow::BoundingBox;

/// Where a model's input lies in the picture it was made from.
///
/// Coordinates are continuous: 0 is the left edge of the first pixel, the width the right edge of the last one. What the input does not
/// show of the picture (a crop), or shows beyond it (padding), is taken into account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Width and height of the source picture in pixels.
    source: [f32; 2],
    /// Left and top edge of the input in pixels of the source.
    origin: [f32; 2],
    /// Width and height of the input in pixels of the source.
    span: [f32; 2],
    /// Width and height of the input in its own pixels.
    input: [f32; 2],
}

impl Geometry {
    /// A picture of `source` (width, height) pixels of which the input of `input` pixels shows what lies between `origin` and
    /// `origin + span`, in pixels of the source.
    pub(crate) fn new(source: [u32; 2], origin: [f64; 2], span: [f64; 2], input: [u32; 2]) -> Self {
        let [origin, span] = [origin, span].map(|pair| pair.map(|value| value as f32));
        let [source, input] = [source, input].map(|pair| pair.map(|value| value as f32));
        Self { source, origin, span, input }
    }

    /// `[x0, y0, x1, y1]` as parts of the model's input (0 to 1) as a box in pixels of the source picture, corners in order and clipped
    /// to it.
    ///
    /// As `post_process_object_detection` of OWL-ViT (times width and height of the picture) and of OWLv2 (times the longer of the two,
    /// since the picture was padded to a square), which do not clip.
    pub fn to_source(&self, [x0, y0, x1, y1]: [f32; 4]) -> BoundingBox {
        let place = |axis: usize, value: f32| (value * self.span[axis] + self.origin[axis]).clamp(0.0, self.source[axis]);
        let (x, y) = (|value| place(0, value), |value| place(1, value));
        BoundingBox { x0: x(x0.min(x1)), y0: y(y0.min(y1)), x1: x(x0.max(x1)), y1: y(y0.max(y1)) }
    }

    /// The same for `[x0, y0, x1, y1]` in pixels of the model's input.
    pub fn pixels_to_source(&self, [x0, y0, x1, y1]: [f32; 4]) -> BoundingBox {
        let [width, height] = self.input;
        self.to_source([x0 / width, y0 / height, x1 / width, y1 / height])
    }

    /// A box in pixels of the source picture as `[x0, y0, x1, y1]` in parts of the model's input: below 0 or above 1 where it leaves it.
    pub fn to_model(&self, bbox: &BoundingBox) -> [f32; 4] {
        let place = |axis: usize, value: f32| (value - self.origin[axis]) / self.span[axis];
        [place(0, bbox.x0), place(1, bbox.y0), place(0, bbox.x1), place(1, bbox.y1)]
    }

    /// Width and height of the source picture in pixels.
    pub fn source(&self) -> (u32, u32) {
        (self.source[0] as u32, self.source[1] as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture of `width` x `height` pixels squashed to 224 x 224.
    fn squashed(width: u32, height: u32) -> Geometry {
        Geometry::new([width, height], [0.0; 2], [width.into(), height.into()], [224; 2])
    }

    #[test]
    fn the_whole_input_is_the_whole_picture() {
        let bbox = squashed(640, 480).pixels_to_source([0.0, 0.0, 224.0, 224.0]);
        assert_eq!(bbox, BoundingBox { x0: 0.0, y0: 0.0, x1: 640.0, y1: 480.0 });
    }

    #[test]
    fn what_lies_outside_is_clipped_and_corners_are_put_in_order() {
        let bbox = squashed(448, 112).pixels_to_source([230.0, 112.0, -3.0, 56.0]);
        assert_eq!(bbox, BoundingBox { x0: 0.0, y0: 28.0, x1: 448.0, y1: 56.0 });
    }

    proptest! {
        #[test]
        fn there_and_back(w in 1u32..5000, h in 1u32..5000, a in 0f32..1.0, b in 0f32..1.0, c in 0f32..1.0, d in 0f32..1.0) {
            let map = squashed(w, h);
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
