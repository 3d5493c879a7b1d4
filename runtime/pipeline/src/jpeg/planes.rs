//! Chroma at the picture's size, and colours, as libjpeg's `jdsample.c` and `jdcolor.c` round them.

use super::frame::{Component, Frame};
use super::wide::wide;

/// Rows of a component at the picture's width.
struct Wide<'a> {
    component: &'a Component,
    /// Pixels of the component that one of its samples stands for, across and down.
    across: usize,
    down: usize,
}

/// Fills `rgb`, `[height][width][3]`.
pub fn to_rgb(frame: &Frame, rgb: &mut [u8]) {
    let width = frame.width;
    let luma = &frame.components[0];
    let [blue, red] = match frame.components.as_slice() {
        [_, blue, red] => [blue, red],
        _ => {
            for (y, row) in rgb.chunks_exact_mut(width * 3).enumerate() {
                for (pixel, &level) in row.as_chunks_mut::<3>().0.iter_mut().zip(luma.row(y)) {
                    *pixel = [level; 3];
                }
            }
            return;
        }
    }
    .map(|component| Wide { component, across: luma.across / component.across, down: luma.down / component.down });
    let mut chroma = [vec![0; width + 2], vec![0; width + 2]];
    let mut sums = Vec::new();
    let mut levels = [vec![0; width], vec![0; width], vec![0; width]];
    for (y, row) in rgb.chunks_exact_mut(width * 3).enumerate() {
        wide(|| {
            let [cb, cr] = &mut chroma;
            blue.row(y, cb, &mut sums);
            red.row(y, cr, &mut sums);
            colours(row, luma.row(y), cb, cr, &mut levels);
        });
    }
}

/// ITU-R BT.601, full range, with 16 fractional bits; `levels` is room for a row of each colour.
#[inline(always)]
fn colours(rgb: &mut [u8], luma: &[u8], cb: &[u8], cr: &[u8], levels: &mut [Vec<u8>; 3]) {
    const HALF: i32 = 1 << 15;
    let [red, green, blue] = levels;
    let planes = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
    for ((((red, green), blue), &y), (&cb, &cr)) in planes.zip(luma).zip(cb.iter().zip(cr)) {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        *red = (y + ((91_881 * cr + HALF) >> 16)).clamp(0, 255) as u8;
        *green = (y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16)).clamp(0, 255) as u8;
        *blue = (y + ((116_130 * cb + HALF) >> 16)).clamp(0, 255) as u8;
    }
    for (((pixel, &red), &green), &blue) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(&*red).zip(&*green).zip(&*blue) {
        *pixel = [red, green, blue];
    }
}

impl Wide<'_> {
    /// Row `y` of the picture; `out` has two values more than it has pixels, which may be filled, too.
    #[inline(always)]
    fn row(&self, y: usize, out: &mut [u8], sums: &mut Vec<u16>) {
        let component = self.component;
        let width = component.width;
        match (self.across, self.down) {
            (1, 1) => copy(component.row(y), out),
            // So narrow that libjpeg repeats samples.
            (2, down) if width <= 2 => {
                for (x, level) in out.iter_mut().enumerate() {
                    *level = component.row(y / down)[(x / 2).min(width - 1)];
                }
            }
            (2, 1) => stretch(component.row(y), out),
            (across, _) => {
                // The nearer of two rows counts three times: the upper half of a sample's rows is nearer to the row above it.
                let near = component.row(y / 2);
                let far =
                    component.row(if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(component.height - 1) });
                if across == 1 {
                    let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                    for ((level, &near), &far) in out.iter_mut().zip(near).zip(far) {
                        *level = ((i32::from(near) * 3 + i32::from(far) + bias) >> 2) as u8;
                    }
                    return;
                }
                sums.clear();
                sums.extend(near.iter().zip(far).map(|(&near, &far)| u16::from(near) * 3 + u16::from(far)));
                stretch_sums(sums, out);
            }
        }
    }
}

#[inline(always)]
fn copy(row: &[u8], out: &mut [u8]) {
    let length = row.len().min(out.len());
    out[..length].copy_from_slice(&row[..length]);
}

/// Twice as wide, of at least two samples: the nearer of two samples counts three times.
#[inline(always)]
fn stretch(row: &[u8], out: &mut [u8]) {
    let last = row.len() - 1;
    let pairs = out.as_chunks_mut::<2>().0;
    for (pair, around) in pairs[1..].iter_mut().zip(row.windows(3)) {
        let [before, sample, after] = [0, 1, 2].map(|i| u16::from(around[i]));
        *pair = [((3 * sample + before + 1) >> 2) as u8, ((3 * sample + after + 2) >> 2) as u8];
    }
    let near = |x: usize, other: usize, bias: u16| ((3 * u16::from(row[x]) + u16::from(row[other]) + bias) >> 2) as u8;
    pairs[0] = [row[0], near(0, 1, 2)];
    pairs[last] = [near(last, last - 1, 1), row[last]];
}

/// The same for sums of two rows, four times as large as a level.
#[inline(always)]
fn stretch_sums(sums: &[u16], out: &mut [u8]) {
    let last = sums.len() - 1;
    let pairs = out.as_chunks_mut::<2>().0;
    for (pair, around) in pairs[1..].iter_mut().zip(sums.windows(3)) {
        let [before, sum, after] = [0, 1, 2].map(|i| around[i]);
        *pair = [((3 * sum + before + 8) >> 4) as u8, ((3 * sum + after + 7) >> 4) as u8];
    }
    pairs[0] = [((4 * sums[0] + 8) >> 4) as u8, ((3 * sums[0] + sums[1] + 7) >> 4) as u8];
    pairs[last] = [((3 * sums[last] + sums[last - 1] + 8) >> 4) as u8, ((4 * sums[last] + 7) >> 4) as u8];
}
