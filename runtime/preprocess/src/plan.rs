//! Which size a picture is resized to, and which part of that is wanted.

use crate::geometry::Geometry;
use crate::processor::PrepareError;
use crate::recipe::{Centre, MOST_VALUES, Recipe, Resize, Size};

/// One axis of the way from a picture to a model's input, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Side of the picture.
    pub source: u32,
    /// Side of the picture as resized, were all of it resized.
    pub resized: u32,
    /// The part of that which is wanted.
    pub start: u32,
    pub count: u32,
    /// Where that part lies in the input.
    pub place: u32,
    /// Side of the input.
    pub output: u32,
}

impl Span {
    fn whole(source: u32, resized: u32) -> Self {
        Self { source, resized, start: 0, count: resized, place: 0, output: resized }
    }

    /// The middle `output` pixels; where there are fewer, all of them in the middle of the input.
    fn centred(source: u32, resized: u32, output: u32, centre: Centre) -> Self {
        if output >= resized {
            let place = (output - resized) / 2;
            return Self { output, place, ..Self::whole(source, resized) };
        }
        let over = resized - output;
        let start = match centre {
            Centre::Even if over % 4 == 3 => over / 2 + 1,
            Centre::Down | Centre::Even => over / 2,
        };
        Self { source, resized, start, count: output, place: 0, output }
    }

    /// Left or top edge of the input in pixels of the source, and the input's width or height in them.
    fn in_source(&self) -> (f64, f64) {
        let scale = f64::from(self.source) / f64::from(self.resized);
        ((f64::from(self.start) - f64::from(self.place)) * scale, f64::from(self.output) * scale)
    }
}

/// Both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub rows: Span,
    pub columns: Span,
}

impl Plan {
    /// What `recipe`, which is valid, makes of a picture of this size.
    ///
    /// # Errors
    /// Where the input would be too large.
    pub fn new(recipe: &Recipe, height: u32, width: u32) -> Result<Self, PrepareError> {
        Self::sized(recipe, height, width).map_err(|(height, width)| PrepareError::TooLarge { height, width })
    }

    /// The same; or height and width of the input that would be too large.
    fn sized(recipe: &Recipe, height: u32, width: u32) -> Result<Self, (u64, u64)> {
        let [resized_height, resized_width] = match recipe.resize {
            None => [height, width].map(u64::from),
            Some(Resize::ShortestEdge { edge, longest: None }) => shortest_edge(height, width, edge),
            Some(Resize::ShortestEdge { edge, longest: Some(longest) }) => between_edges(height, width, edge, longest),
            Some(Resize::Squash(size) | Resize::PadSquare(size)) => [size.height, size.width].map(u64::from),
            // What is found in the whole picture lies in its whole.
            Some(Resize::Tiles { side, .. }) => [side, side].map(u64::from),
            Some(Resize::Patches { patch, max_patches }) => {
                let size @ [rows, columns] = patches(height, width, patch, max_patches).map(u64::from);
                // A picture a million times as long as its patches are many.
                if (rows / u64::from(patch)) * (columns / u64::from(patch)) > u64::from(max_patches) {
                    return Err((rows, columns));
                }
                size
            }
        };
        let Size { height: rows, width: columns } = match recipe.crop {
            Some(size) => size,
            None => {
                let values = resized_height.saturating_mul(resized_width).saturating_mul(3);
                if values > MOST_VALUES as u64 {
                    return Err((resized_height, resized_width));
                }
                Size { height: resized_height as u32, width: resized_width as u32 }
            }
        };
        // A side beyond u32 takes an edge of 4096 pixels of a picture that is a million times as long as it is wide.
        let fits = |side: u64| u32::try_from(side).map_err(|_| (resized_height, resized_width));
        let (resized_height, resized_width) = (fits(resized_height)?, fits(resized_width)?);
        let rows = Span::centred(height, resized_height, rows, recipe.centre);
        let columns = Span::centred(width, resized_width, columns, recipe.centre);
        Ok(Self { rows, columns })
    }

    /// The map back. A picture padded to a square shows its longer side across the whole input.
    pub fn geometry(&self, padded: bool) -> Geometry {
        let (source, input) = ([self.columns.source, self.rows.source], [self.columns.output, self.rows.output]);
        if padded {
            let longer = f64::from(source[0].max(source[1]));
            return Geometry::new(source, [0.0; 2], [longer; 2], input);
        }
        let ((left, width), (top, height)) = (self.columns.in_source(), self.rows.in_source());
        Geometry::new(source, [left, top], [width, height], input)
    }
}

/// `get_resize_output_image_size`: height and width.
fn shortest_edge(height: u32, width: u32, edge: u32) -> [u64; 2] {
    let (short, long) = (height.min(width), height.max(width));
    let longer = u64::from(edge) * u64::from(long) / u64::from(short);
    if width <= height { [longer, edge.into()] } else { [edge.into(), longer] }
}

/// `get_size_with_aspect_ratio`: as above, but the longer edge is not to exceed `longest`. A side that would be 0 is 1.
fn between_edges(height: u32, width: u32, edge: u32, longest: u32) -> [u64; 2] {
    let (short, long) = (f64::from(height.min(width)), f64::from(height.max(width)));
    let (mut edge, mut exact) = (f64::from(edge), f64::from(edge));
    if long / short * edge > f64::from(longest) {
        exact = f64::from(longest) * short / long;
        edge = exact.round_ties_even();
    }
    if short == edge {
        return [height, width].map(u64::from);
    }
    let (edge, longer) = ((edge as u64).max(1), ((exact * long / short) as u64).max(1));
    if width < height { [longer, edge] } else { [edge, longer] }
}

/// `get_image_size_for_max_num_patches`: the largest scale, within 1e-5 and up to 100, at which whole patches are few enough.
fn patches(height: u32, width: u32, patch: u32, max_patches: u32) -> [u32; 2] {
    const PRECISION: f64 = 1e-5;
    let count = |side: u32, scale: f64| ((f64::from(side) * scale / f64::from(patch)).ceil() as u32).max(1);
    let (mut fits, mut exceeds) = (PRECISION / 10.0, 100.0);
    while exceeds - fits >= PRECISION {
        let scale = (fits + exceeds) / 2.0;
        if u64::from(count(height, scale)) * u64::from(count(width, scale)) <= u64::from(max_patches) {
            fits = scale;
        } else {
            exceeds = scale;
        }
    }
    [height, width].map(|side| count(side, fits) * patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_are_rounded_as_python_does() {
        // round(0.5) == 0, round(1.5) == 2, round(2.5) == 2, round(3.5) == 4.
        let starts = |centre| [225, 227, 229, 231].map(|side| Span::centred(1, side, 224, centre).start);
        assert_eq!(starts(Centre::Even), [0, 2, 2, 4]);
        assert_eq!(starts(Centre::Down), [0, 1, 2, 3]);
    }

    #[test]
    fn long_pictures_stay_within_bounds() {
        assert_eq!(shortest_edge(5000, 1, 224), [1_120_000, 224]);
        assert_eq!(between_edges(5000, 1, 224, 448), [448, 1]);
        assert_eq!(patches(5000, 1, 16, 256), [4096, 16]);
        let resize = Some(Resize::Patches { patch: 1, max_patches: 4 });
        let recipe = Recipe { resize, filter: Default::default(), crop: None, centre: Centre::Down, rescale: None, normalise: None };
        assert_eq!(Plan::new(&recipe, 5_000_000, 1), Err(PrepareError::TooLarge { height: 6, width: 1 }));
        assert!(Plan::new(&recipe, 3_000_000, 1).is_ok());
    }
}
