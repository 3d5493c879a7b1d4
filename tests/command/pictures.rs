//! Pictures made on the spot.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::gif::GifEncoder;
use image::{Delay, DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

/// A picture with something in it: diagonal stripes.
fn stripes(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| if (x + y) / 16 % 2 == 0 { Rgb([220, 40, 30]) } else { Rgb([20, 90, 200]) })
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A JPEG of 160x120 pixels.
pub fn jpeg() -> Vec<u8> {
    encode(&stripes(160, 120).into(), ImageFormat::Jpeg)
}

/// The first half of a JPEG.
pub fn truncated_jpeg() -> Vec<u8> {
    let whole = jpeg();
    whole[..whole.len() / 2].to_vec()
}

/// 16 bits a channel.
pub fn png_16_bit() -> Vec<u8> {
    encode(&DynamicImage::from(stripes(160, 120)).into_rgb16().into(), ImageFormat::Png)
}

/// With transparency.
pub fn png_alpha() -> Vec<u8> {
    encode(&DynamicImage::from(stripes(160, 120)).into_rgba8().into(), ImageFormat::Png)
}

/// Three frames.
pub fn animated_gif() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for shade in [0, 100, 200] {
        let frame = RgbaImage::from_pixel(160, 120, Rgba([shade, 128, 255 - shade, 255]));
        encoder.encode_frame(Frame::from_parts(frame, 0, 0, Delay::from_numer_denom_ms(100, 1))).unwrap();
    }
    drop(encoder);
    bytes
}

/// A JPEG of four channels, 8x8 pixels of one colour, by hand: the `image` crate writes none. ITU-T T.81, annex B.
pub fn cmyk_jpeg() -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    let mut segment = |marker: u8, content: &[u8]| {
        bytes.extend([0xff, marker]);
        bytes.extend((content.len() as u16 + 2).to_be_bytes());
        bytes.extend(content);
    };
    // Adobe's marker, transform 0: the four channels are CMYK as they are.
    segment(0xee, b"Adobe\0\x64\0\0\0\0\0");
    // One quantization table, all ones.
    segment(0xdb, &[&[0][..], &[1; 64]].concat());
    // Eight bits, 8x8, four components without subsampling.
    segment(0xc0, &[8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0]);
    // Huffman tables of one code of one bit: "no difference" for DC, "end of block" for AC.
    let one_code = |class: u8| [&[class, 1][..], &[0; 15], &[0]].concat();
    segment(0xc4, &one_code(0x00));
    segment(0xc4, &one_code(0x10));
    segment(0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    // Four blocks of two codes of one zero bit; then the end.
    bytes.extend([0x00, 0xff, 0xd9]);
    bytes
}

/// A PNG whose header promises 40,000x40,000 pixels: 4.8 GB decoded, in 60 bytes.
pub fn huge_png() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let side = 40_000u32.to_be_bytes();
    // Eight bits, RGB, no interlace.
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    // An empty zlib stream, and the end.
    for (kind, content) in [(b"IHDR", &header[..]), (b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]), (b"IEND", &[])] {
        let chunk = [&kind[..], content].concat();
        bytes.extend((content.len() as u32).to_be_bytes());
        bytes.extend(&chunk);
        bytes.extend(crc32(&chunk).to_be_bytes());
    }
    bytes
}

/// CRC-32 as in PNG, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Bad pictures: a file name, its content, and words that the sentence about it must have.
pub fn bad() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("empty.jpg", Vec::new(), "empty"),
        ("cut.jpg", truncated_jpeg(), "cut short"),
        ("text.png", b"This is not a picture at all.\n".to_vec(), "text"),
        ("huge.png", huge_png(), "40000x40000"),
    ]
}

/// Odd pictures that must be read: a file name and its content.
#[cfg(feature = "nano")]
pub fn odd() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("alpha.png", png_alpha()),
        ("animated.gif", animated_gif()),
        ("cmyk.jpg", cmyk_jpeg()),
        ("sixteen.png", png_16_bit()),
        ("wrong name.png", jpeg()),
    ]
}

/// Writes a picture into a folder.
pub fn put(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// The pictures of this module are what they say: else the tests that use them show nothing.
#[test]
fn they_are_what_they_say() {
    let decode = |bytes: &[u8]| image::load_from_memory(bytes);
    assert!(decode(&jpeg()).is_ok());
    assert_eq!(decode(&png_16_bit()).unwrap().color(), image::ColorType::Rgb16);
    assert_eq!(decode(&png_alpha()).unwrap().color(), image::ColorType::Rgba8);
    let cmyk = decode(&cmyk_jpeg()).expect("a JPEG of four channels");
    assert_eq!((cmyk.width(), cmyk.height()), (8, 8));
    let gif = image::codecs::gif::GifDecoder::new(Cursor::new(animated_gif())).unwrap();
    assert_eq!(image::AnimationDecoder::into_frames(gif).count(), 3);
    let huge = huge_png();
    let size = image::ImageReader::new(Cursor::new(huge)).with_guessed_format().unwrap().into_dimensions().unwrap();
    assert_eq!(size, (40_000, 40_000));
}
