use std::path::PathBuf;

use image::{ImageBuffer, Luma, RgbImage};

use super::*;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/pictures")
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let picture = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, (x * y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn refused(bytes: &[u8]) -> String {
    decode_bytes(bytes, Path::new("it.png"), FrameMeta::still("it.png")).map(|frame| frame.width()).unwrap_err().to_string()
}

/// Every kind of file, as Pillow reads it (`tools/reference/pictures.py`).
#[test]
fn reads_what_pillow_reads() {
    let mut kinds = 0;
    for entry in fs::read_dir(goldens()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".rgb.png") {
            continue;
        }
        let frame = decode(&path).unwrap();
        let golden = image::open(path.with_file_name(format!("{name}.rgb.png"))).unwrap().into_rgb8();
        assert_eq!((frame.width(), frame.height()), golden.dimensions(), "{name}");
        // Of JPEG, four channels are left to a decoder with another cosine transform.
        let tolerance = if name == "cmyk.jpg" { 3 } else { 0 };
        let worst = frame.rgb().iter().zip(golden.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(tolerance), "{name}: {worst:?}");
        kinds += 1;
    }
    assert_eq!(kinds, 27);
}

#[test]
fn a_picture_cut_anywhere_is_an_error() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp] {
        let whole = encoded(format);
        let path = Path::new("it");
        assert!(decode_bytes(&whole, path, FrameMeta::still("it")).is_ok(), "{format:?}");
        for percent in [3, 10, 30, 50, 80, 95] {
            let cut = &whole[..whole.len() * percent / 100];
            assert!(decode_bytes(cut, path, FrameMeta::still("it")).is_err(), "{format:?} cut to {percent} %");
        }
    }
    let jpeg = encoded(ImageFormat::Jpeg);
    assert!(refused(&jpeg[..jpeg.len() - 2]).contains("cut short"), "only the end marker is missing");
}

#[test]
fn bytes_after_the_jpeg_do_not_matter() {
    let mut bytes = encoded(ImageFormat::Jpeg);
    let mut pixels = Vec::new();
    bytes.extend([0; 999]);
    assert_eq!(decode_camera_jpeg(&bytes, &mut pixels), Ok((40, 30)));
    assert_eq!(pixels.len(), 40 * 30 * 3);
}

#[test]
fn a_grey_camera_jpeg_becomes_rgb() {
    let mut pixels = Vec::new();
    assert_eq!(decode_camera_jpeg(&fs::read(goldens().join("grey.jpg")).unwrap(), &mut pixels), Ok((24, 16)));
    assert_eq!(pixels.len(), 24 * 16 * 3);
}

#[test]
fn no_picture_is_said_to_be_none() {
    assert!(refused(b"hello, I am not a picture\n").contains("its content is text"));
    assert!(refused(&[0, 1, 2, 3, 4, 5, 6, 7]).contains("none of these formats"));
    assert!(refused(b"").contains("empty"));
    assert!(refused(b"II*\0\x08\0\0\0").contains("TIFF"), "a known format that is not read is named");
}

/// A PNG that claims 40,000 x 40,000 pixels: signature, IHDR with a right checksum, a little IDAT.
#[test]
fn a_huge_picture_is_refused_on_its_header() {
    let mut header = b"IHDR".to_vec();
    header.extend(40_000u32.to_be_bytes());
    header.extend(40_000u32.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend(&header);
    bytes.extend(crc32(&header).to_be_bytes());
    bytes.extend([0, 0, 0, 0]);
    bytes.extend(b"IDAT");
    bytes.extend(crc32(b"IDAT").to_be_bytes());
    let said = refused(&bytes);
    assert!(said.contains("40000x40000 is 1600 megapixels, the limit is 100"), "{said}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[test]
fn of_16_bits_the_high_byte_is_kept() {
    let picture = ImageBuffer::<Luma<u16>, _>::from_fn(2, 1, |x, _| Luma([[0x12FF, 0xFF00][x as usize]]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageLuma16(picture).write_to(&mut bytes, ImageFormat::Png).unwrap();
    let frame = decode_bytes(&bytes.into_inner(), Path::new("it"), FrameMeta::still("it")).unwrap();
    assert_eq!(frame.rgb(), [0x12, 0x12, 0x12, 0xFF, 0xFF, 0xFF]);
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty.jpg"), b"").unwrap();
    assert!(decode(&path("empty.jpg")).unwrap_err().to_string().ends_with("empty.jpg: the file is empty"));
    assert!(decode(folder.path()).unwrap_err().to_string().contains("this is a folder"));
    assert!(matches!(decode(&path("missing.jpg")), Err(SourceError::Io { .. })));
    // Content counts, not the name.
    fs::write(path("jpeg.png"), encoded(ImageFormat::Jpeg)).unwrap();
    assert_eq!(decode(&path("jpeg.png")).unwrap().width(), 40);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A damaged file is an error or a picture, never a panic.
        #[test]
        fn damaged_bytes_are_safe(which in 0usize..5, at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let formats = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp];
            let mut bytes = encoded(formats[which]);
            for (index, value) in at {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let _ = decode_bytes(&bytes, Path::new("it"), FrameMeta::still("it"));
        }
    }
}
