//! Rows of a camera's pixels against the equations.

use super::*;
use proptest::prelude::*;

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
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
        let yuyv = Source::yuyv(width, height, 0, range, &quads).unwrap();
        let nv12 = Source::nv12(width, height, even as u32, range, &planes).unwrap();
        for isa in [Isa::Portable, Isa::detect()] {
            for (source, planar) in [(&yuyv, false), (&nv12, true)] {
                let mut buffer = Vec::new();
                let row = source.row(isa, y, columns.clone(), 0, &mut buffer);
                prop_assert_eq!(row.len(), 3 * columns.len());
                for (x, pixel) in columns.clone().zip(row.as_chunks::<3>().0) {
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
    let error = Source::yuyv(8, 8, 0, YuvRange::Limited, &bytes).unwrap_err();
    assert_eq!(error.to_string(), "8 x 8 pixels of YUYV take 128 bytes, but there are 100");
    assert!(Source::yuyv(5, 8, 12, YuvRange::Limited, &bytes[..96]).is_ok());
    assert!(Source::nv12(8, 8, 0, YuvRange::Full, &bytes[..95]).is_err());
    assert!(Source::nv12(8, 8, 0, YuvRange::Full, &bytes[..96]).is_ok());
    assert!(Source::nv12(0, 8, 0, YuvRange::Full, &bytes).is_err());
    assert!(Source::yuyv(u32::MAX, u32::MAX, u32::MAX, YuvRange::Full, &bytes).is_err());
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
