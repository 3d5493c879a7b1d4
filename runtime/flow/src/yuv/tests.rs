//! Rows of a camera's pixels against the equations.

use super::*;
use proptest::prelude::*;

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn layout(format: YuvFormat, [width, height, stride]: [u32; 3], range: YuvRange) -> YuvLayout {
    YuvLayout { format, width, height, stride, range }
}

/// The same picture, converted without vectors.
fn portable(yuv: Yuv<'_>) -> Yuv<'_> {
    Yuv {
        convert: Converter {
            #[cfg(target_arch = "x86_64")]
            token: None,
            ..yuv.convert
        },
        ..yuv
    }
}

/// BT.601 in f64.
fn equations(range: YuvRange, luma: u8, u: u8, v: u8) -> [f64; 3] {
    let (black, y, c) = if range == YuvRange::Full { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
    let (y, u, v) = (y * (f64::from(luma) - black), c * (f64::from(u) - 128.0), c * (f64::from(v) - 128.0));
    [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u].map(|level| level.clamp(0.0, 255.0))
}

proptest! {
    #[test]
    fn rows_follow_the_equations(width in 1u32..100, height in 1u32..5, full in any::<bool>(), a in 0f64..1.0, b in 0f64..1.0) {
        let range = if full { YuvRange::Full } else { YuvRange::Limited };
        let (start, y) = ((a * f64::from(width)) as usize, height as usize - 1);
        let columns = start..start + 1 + (b * (f64::from(width) - start as f64 - 1.0)) as usize;
        let even = width.next_multiple_of(2) as usize;
        let quads = noise(2 * even * height as usize);
        let planes = noise(even * (height + height.div_ceil(2)) as usize);
        let yuyv = layout(YuvFormat::Yuyv, [width, height, 0], range).view(&quads).unwrap();
        let nv12 = layout(YuvFormat::Nv12, [width, height, even as u32], range).view(&planes).unwrap();
        for (yuv, planar) in [(yuyv, false), (nv12, true)] {
            for yuv in [yuv, portable(yuv)] {
                let mut row = vec![[0; 3]; columns.len()];
                yuv.row(y, columns.clone(), &mut row);
                for (x, pixel) in columns.clone().zip(&row) {
                    let [luma, u, v] = if planar {
                        let chroma = &planes[(height as usize + y / 2) * even..];
                        [planes[y * even + x], chroma[x & !1], chroma[x | 1]]
                    } else {
                        let row = &quads[2 * y * even..];
                        [row[2 * x], row[x / 2 * 4 + 1], row[x / 2 * 4 + 3]]
                    };
                    // Half a level of rounding, and coefficients rounded to 16 bits.
                    let near = equations(range, luma, u, v).iter().zip(pixel).all(|(wanted, &got)| (wanted - f64::from(got)).abs() < 0.51);
                    prop_assert!(near, "{x}: {pixel:?} from {luma} {u} {v}");
                }
            }
        }
    }
}

#[test]
fn short_buffers_are_refused() {
    let bytes = noise(100);
    let [yuyv, nv12] = [YuvFormat::Yuyv, YuvFormat::Nv12].map(|format| move |size| layout(format, size, YuvRange::Limited));
    let error = yuyv([8, 8, 0]).view(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "8 x 8 pixels of YUYV take 128 bytes, but there are 100");
    assert_eq!(yuyv([5, 8, 12]).view(&bytes).unwrap().bytes(), &bytes[..96]);
    assert!(nv12([8, 8, 0]).view(&bytes[..95]).is_err());
    assert!(nv12([8, 8, 0]).view(&bytes[..96]).is_ok());
    assert!(nv12([0, 8, 0]).view(&bytes).is_err());
    assert!(yuyv([u32::MAX; 3]).view(&bytes).is_err());
}

#[test]
fn a_v_that_is_missing_is_grey_in_every_row() {
    // Three columns without padding: V of the last one has no place.
    let bytes = [[100; 12].as_slice(), &[128, 128, 200, 90, 90, 200]].concat();
    let mut rgb = Vec::new();
    layout(YuvFormat::Nv12, [3, 4, 0], YuvRange::Full).view(&bytes).unwrap().to_rgb(&mut rgb);
    for row in rgb.chunks(9) {
        assert_eq!((row[6], row[8]), (100, 100 + 128), "no red without V; blue is U's");
    }
}

/// BT.601 as the recommendation states it, in f64.
fn reference(range: YuvRange, y: u8, u: u8, v: u8) -> [f64; 3] {
    let (black, luma_span, chroma_span) = match range {
        YuvRange::Limited => (16.0, 219.0, 224.0),
        YuvRange::Full => (0.0, 255.0, 255.0),
    };
    let y = (f64::from(y) - black) / luma_span;
    let (pb, pr) = ((f64::from(u) - 128.0) / chroma_span, (f64::from(v) - 128.0) / chroma_span);
    let (kr, kb) = (0.299, 0.114);
    let (r, b) = (y + 2.0 * (1.0 - kr) * pr, y + 2.0 * (1.0 - kb) * pb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|value| (255.0 * value).clamp(0.0, 255.0))
}

#[test]
fn colours_are_those_of_bt601() {
    for range in [YuvRange::Limited, YuvRange::Full] {
        let convert = Converter::new(range);
        for y in (0..=255).step_by(3) {
            for u in (0..=255).step_by(5) {
                for v in (0..=255).step_by(5) {
                    let (got, want) = (convert.rgb(y, u, v), reference(range, y, u, v));
                    for (got, want) in got.iter().zip(want) {
                        // Half a level of rounding, and coefficients rounded to 2^-17 times at most 3 x 255.
                        assert!((f64::from(*got) - want).abs() <= 0.506, "{range:?} {y} {u} {v}: {got} {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_columns_are_no_pixels_wherever_they_are() {
    for format in [YuvFormat::Yuyv, YuvFormat::Nv12] {
        let layout = YuvLayout { format, width: 2, height: 1, stride: 0, range: YuvRange::Full };
        let bytes = [7; 4];
        for at in 0..=2 {
            layout.view(&bytes).unwrap().row(0, at..at, &mut []);
        }
    }
}
