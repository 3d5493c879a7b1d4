//! One typeface at any size: Noto Sans Mono Bold, rasterised at 32 pixels, scaled.
//!
//! The `noto-sans-mono-bitmap` crate (MIT) holds the raster; the typeface is under the SIL Open Font License 1.1, which allows embedding.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Bold;
const RASTER: RasterHeight = RasterHeight::Size32;

/// Distance from one character to the next, in pixels, of text `height` pixels high.
pub fn advance(height: u32) -> u32 {
    let (width, raster) = (get_raster_width(WEIGHT, RASTER) as u32, RASTER.val() as u32);
    (width * height).div_ceil(raster)
}

/// How much of each pixel a character covers, 0 to 255: `height` rows of [`advance`] pixels into `cover`.
///
/// Characters that the typeface lacks are shown as `?`.
pub fn rasterise(character: char, height: u32, cover: &mut Vec<u8>) {
    let glyph = get_raster(character, WEIGHT, RASTER).or_else(|| get_raster('?', WEIGHT, RASTER));
    let rows = glyph.map_or([].as_slice(), |glyph| glyph.raster());
    // Raster pixels per pixel.
    let step = RASTER.val() as f32 / height.max(1) as f32;
    cover.clear();
    for y in 0..height {
        for x in 0..advance(height) {
            let mut sum = 0.0;
            for (row, share_y) in window(y, step) {
                for (column, share_x) in window(x, step) {
                    let ink = rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default();
                    sum += f32::from(ink) * share_x * share_y;
                }
            }
            cover.push((sum + 0.5) as u8);
        }
    }
}

/// The raster pixels under pixel `at` and their shares: the mean over the pixel when shrinking, linear interpolation when enlarging.
fn window(at: u32, step: f32) -> impl Iterator<Item = (usize, f32)> {
    let (centre, half) = ((at as f32 + 0.5) * step, step.max(1.0) / 2.0);
    let (from, to) = ((centre - half).max(0.0), centre + half);
    (from as usize..to.ceil() as usize).map(move |pixel| {
        let share = (to.min(pixel as f32 + 1.0) - from.max(pixel as f32)) / (2.0 * half);
        (pixel, share)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ink_scales_with_the_area() {
        let ink = |height| {
            let mut cover = Vec::new();
            rasterise('B', height, &mut cover);
            assert_eq!(cover.len() as u32, height * advance(height));
            cover.iter().map(|&c| f64::from(c)).sum::<f64>() / 255.0 / f64::from(height * height)
        };
        let at_raster_size = ink(32);
        assert!(at_raster_size > 0.1, "{at_raster_size}");
        for height in [10, 20, 33, 64, 100] {
            assert!((ink(height) - at_raster_size).abs() < 0.1 * at_raster_size, "{height}: {} {at_raster_size}", ink(height));
        }
    }

    #[test]
    fn an_unknown_character_is_shown() {
        let (mut unknown, mut question) = (Vec::new(), Vec::new());
        rasterise('\u{1F41D}', 20, &mut unknown);
        rasterise('?', 20, &mut question);
        assert_eq!(unknown, question);
    }
}
