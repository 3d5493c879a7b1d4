//! Rows of a camera's pixels against the equations.

use super::*;
use proptest::prelude::*;

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// BT.601 in f64.
fn equations(range: Range8, luma: u8, u: u8, v: u8) -> [f64; 3] {
    let (black, y, c) = if range == Range8::Full { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
    let (y, u, v) = (y * (f64::from(luma) - black), c * (f64::from(u) - 128.0), c * (f64::from(v) - 128.0));
    [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u].map(|level| level.clamp(0.0, 255.0))
}

proptest! {
    #[test]
    fn rows_follow_the_equations(width in 1u32..100, height in 1u32..5, full in any::<bool>(), a in 0f64..1.0, b in 0f64..1.0) {
        let range = if full { Range8::Full } else { Range8::Limited };
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
    let error = Source::yuyv(8, 8, 0, Range8::Limited, &bytes).unwrap_err();
    assert_eq!(error.to_string(), "8 x 8 pixels of YUYV take 128 bytes, but there are 100");
    assert!(Source::yuyv(5, 8, 12, Range8::Limited, &bytes[..96]).is_ok());
    assert!(Source::nv12(8, 8, 0, Range8::Full, &bytes[..95]).is_err());
    assert!(Source::nv12(8, 8, 0, Range8::Full, &bytes[..96]).is_ok());
    assert!(Source::nv12(0, 8, 0, Range8::Full, &bytes).is_err());
    assert!(Source::yuyv(u32::MAX, u32::MAX, u32::MAX, Range8::Full, &bytes).is_err());
}
