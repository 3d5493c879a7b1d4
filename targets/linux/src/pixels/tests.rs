use proptest::prelude::*;

use super::*;

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
    let mut rgb = Vec::new();
    assert_eq!(layout(PixelFormat::Yuyv, 4, 2, 10).to_rgb(&bytes, &mut rgb), Ok((4, 2)));
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
    let mut rgb = Vec::new();
    assert_eq!(layout(PixelFormat::Nv12, 4, 2, 4).to_rgb(&bytes, &mut rgb), Ok((4, 2)));
    let pixel = |x: usize, y: usize| &rgb[3 * (4 * y + x)..][..3];
    for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        assert!(pixel(x, y).iter().zip(RED).all(|(&a, b)| a.abs_diff(b) <= 2), "{rgb:?}");
    }
    assert_eq!((pixel(2, 0), pixel(3, 0), pixel(2, 1), pixel(3, 1)), (&[255; 3][..], &[0; 3][..], &[0; 3][..], &[255; 3][..]));
}

#[test]
fn rgb_bgr_and_grey() {
    let mut rgb = Vec::new();
    layout(PixelFormat::Rgb, 1, 2, 4).to_rgb(&[1, 2, 3, 0, 4, 5, 6], &mut rgb).unwrap();
    assert_eq!(rgb, [1, 2, 3, 4, 5, 6]);
    layout(PixelFormat::Bgr, 2, 1, 0).to_rgb(&[1, 2, 3, 4, 5, 6], &mut rgb).unwrap();
    assert_eq!(rgb, [3, 2, 1, 6, 5, 4]);
    layout(PixelFormat::Grey, 2, 1, 0).to_rgb(&[7, 8], &mut rgb).unwrap();
    assert_eq!(rgb, [7, 7, 7, 8, 8, 8]);
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
        let mut rgb = Vec::new();
        if let Ok((w, h)) = layout(format, width, height, stride).to_rgb(&bytes, &mut rgb) {
            prop_assert_eq!(rgb.len() as u32, 3 * w * h);
        }
    }
}
