//! The picture that `tools/reference/pictures.py` makes by a formula.

use ocelli_flow::{Frame, FrameMeta};

/// Fields of noise and of ramps in turn.
pub fn made(width: u32, height: u32) -> Frame {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let noise = x.wrapping_mul(2_654_435_761).wrapping_add(y * 40_503 + c * 97);
                let noise = (noise ^ (noise >> 15)).wrapping_mul(2_246_822_519) >> 24;
                let ramp = (x * 3 + y * 5 + c * 80) % 256;
                rgb.push(if (x / 32 + y / 32) % 2 == 0 { noise as u8 } else { ramp as u8 });
            }
        }
    }
    Frame::new(width, height, rgb, FrameMeta::still("made")).unwrap()
}
