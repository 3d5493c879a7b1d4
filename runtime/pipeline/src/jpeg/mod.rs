//! JPEG to the bit as libjpeg decodes it, which the reference image processors read pictures with.
//!
//! The decoder of the `image` crate is fast and well kept, but its subsampled chroma is rounded twice: up to four grey levels away, one in
//! twenty by more than one, before a model has seen anything. So the common kinds are decoded here: 8-bit Huffman, sequential or
//! progressive, grey or YCbCr, chroma at full size or half of it either way. All others, and every file that is not as the standard says,
//! are left to that decoder: [`decode_into`] gives `None`, and never a picture that it is not sure of.
//!
//! ITU-T T.81 for the format; `jidctint.c`, `jdsample.c` and `jdcolor.c` of libjpeg-turbo for what a decoder is free to choose
//! (the accurate integer transform of Loeffler et al. 1989, and triangular chroma filters).

mod bits;
mod entropy;
mod frame;
mod planes;
mod scan;
mod transform;
mod wide;

use frame::Frame;

/// Puts a picture's RGB into `rgb`, which becomes `[height][width][3]`, and returns width and height. `None`, and `rgb` as it was, where the
/// picture is of a kind that is not decoded here, is damaged, or has more pixels than `most_pixels`.
pub fn decode_into(bytes: &[u8], most_pixels: u64, rgb: &mut Vec<u8>) -> Option<(u32, u32)> {
    let frame = Frame::read(bytes, most_pixels)?;
    let size = (u32::try_from(frame.width).ok()?, u32::try_from(frame.height).ok()?);
    rgb.resize(frame.width * frame.height * 3, 0);
    planes::to_rgb(&frame, rgb);
    Some(size)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const MOST: u64 = 1 << 20;

    fn decode(bytes: &[u8], most: u64) -> Option<(u32, u32, Vec<u8>)> {
        let mut rgb = Vec::new();
        decode_into(bytes, most, &mut rgb).map(|(width, height)| (width, height, rgb))
    }

    fn golden(name: &str) -> Vec<u8> {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/pictures").join(name)).unwrap()
    }

    /// What they decode to is compared with libjpeg's in `picture`'s tests; here, that they are decoded by this.
    #[test]
    fn common_kinds_are_decoded_here() {
        for name in ["plain", "subsampled", "half-across", "progressive", "progressive-subsampled", "restarts", "narrow", "grey"] {
            assert!(decode(&golden(&format!("{name}.jpg")), MOST).is_some(), "{name}");
        }
        assert!(decode(&golden("cmyk.jpg"), MOST).is_none());
    }

    #[test]
    fn larger_pictures_than_are_allowed_are_not_begun() {
        assert!(decode(&golden("plain.jpg"), 24 * 16).is_some());
        assert!(decode(&golden("plain.jpg"), 24 * 16 - 1).is_none());
    }

    #[test]
    fn a_picture_cut_anywhere_is_none() {
        for name in ["subsampled.jpg", "progressive-subsampled.jpg", "restarts.jpg"] {
            let whole = golden(name);
            for length in 0..whole.len() {
                assert!(decode(&whole[..length], MOST).is_none(), "{name} cut to {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn damage_is_no_panic(seed in 0usize..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = golden(["subsampled.jpg", "progressive-subsampled.jpg", "restarts.jpg", "narrow.jpg"][seed]);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some((width, height, rgb)) = decode(&bytes, MOST) {
                prop_assert_eq!(rgb.len(), width as usize * height as usize * 3);
            }
        }
    }
}
