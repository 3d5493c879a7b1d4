use proptest::prelude::*;

use super::*;

/// What a frame of this buffer gives those who ask for RGB.
fn rgb(layout: Layout, bytes: &[u8]) -> Result<([u32; 2], Vec<u8>), String> {
    let mut pixels = Vec::new();
    let size = layout.read(bytes, &mut pixels)?;
    let frame = layout.frame(size, Arc::new(pixels), FrameMeta::still("/dev/fake"))?;
    Ok(([frame.width(), frame.height()], frame.rgb().to_vec()))
}

fn layout(format: PixelFormat, width: u32, height: u32, stride: u32) -> Layout {
    Layout { format, width, height, stride, range: YuvRange::Limited }
}

const WHITE: [u8; 3] = [255; 3];
const RED: [u8; 3] = [255, 0, 0];
const RED_YUV: [u8; 3] = [81, 90, 240];

#[test]
fn yuyv_shares_chroma_between_two_pixels_and_skips_padding() {
    // Rows of 4 pixels, then 2 bytes of padding, missing after the last.
    let [y, u, v] = RED_YUV;
    let row = [y, u, y, v, 235, 128, 16, 128];
    let bytes = [row.as_slice(), &[9, 9], &row].concat();
    let (size, rgb) = rgb(layout(PixelFormat::Yuyv, 4, 2, 10), &bytes).unwrap();
    assert_eq!(size, [4, 2]);
    let near_red = rgb[0..3].iter().zip(RED).all(|(&a, b)| a.abs_diff(b) <= 2);
    assert!(near_red, "{rgb:?}");
    assert_eq!((&rgb[6..9], &rgb[9..12]), (&WHITE[..], &[0; 3][..]));
    assert_eq!(rgb[..12], rgb[12..]);
}

#[test]
fn nv12_shares_chroma_between_four_pixels() {
    let [y, u, v] = RED_YUV;
    #[rustfmt::skip]
    let bytes = [
        y, y, 235, 16,
        y, y, 16, 235,
        u, v, 128, 128,
    ];
    let (size, rgb) = rgb(layout(PixelFormat::Nv12, 4, 2, 4), &bytes).unwrap();
    assert_eq!(size, [4, 2]);
    let pixel = |x: usize, y: usize| &rgb[3 * (4 * y + x)..][..3];
    for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        assert!(pixel(x, y).iter().zip(RED).all(|(&a, b)| a.abs_diff(b) <= 2), "{rgb:?}");
    }
    assert_eq!((pixel(2, 0), pixel(3, 0), pixel(2, 1), pixel(3, 1)), (&[255; 3][..], &[0; 3][..], &[0; 3][..], &[255; 3][..]));
}

#[test]
fn rgb_bgr_and_grey() {
    let rgb = |format, [width, height, stride]: [u32; 3], bytes: &[u8]| rgb(layout(format, width, height, stride), bytes).unwrap().1;
    assert_eq!(rgb(PixelFormat::Rgb, [1, 2, 4], &[1, 2, 3, 0, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
    assert_eq!(rgb(PixelFormat::Bgr, [2, 1, 0], &[1, 2, 3, 4, 5, 6]), [3, 2, 1, 6, 5, 4]);
    assert_eq!(rgb(PixelFormat::Grey, [2, 1, 0], &[7, 8]), [7, 7, 7, 8, 8, 8]);
}

proptest! {
    /// Whatever a driver sends and claims: an error or a full picture, never a panic.
    #[test]
    fn any_buffer_is_safe(
        format in prop::sample::select(&[PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::Jpeg, PixelFormat::Rgb, PixelFormat::Grey][..]),
        width in 0u32..20,
        height in 0u32..20,
        stride in 0u32..70,
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        if let Ok(([w, h], rgb)) = rgb(layout(format, width, height, stride), &bytes) {
            prop_assert_eq!(rgb.len() as u32, 3 * w * h);
        }
    }
}
