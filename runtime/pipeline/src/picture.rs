//! One encoded picture to an RGB frame.
//!
//! JPEG (grey, YCbCr, RGB, CMYK), PNG (any depth), GIF, WebP and BMP, told apart by content, not by name. Of an animation the first
//! frame counts. The EXIF orientation is applied.
//!
//! Where formats carry more than 8-bit RGB, this does what the image processors of transformers 5 do, on Pillow: what is transparent is
//! blended with white; of 16-bit samples the high byte is kept; embedded colour profiles are ignored.
//!
//! Limits, checked on the header before pixels are allocated: [`MAX_FILE_BYTES`], [`MAX_PIXELS`], [`MAX_DECODED_BYTES`].

use std::fs;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use ocelli_flow::{Frame, FrameMeta, SourceError};

use crate::jpeg;

/// Larger files are refused: 256 MiB.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Pictures with more pixels are refused: 100 megapixels, which the largest cameras stay below.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Pictures that would be larger when decoded are refused: 512 MiB (100 megapixels of RGBA, 64 of 16-bit RGBA).
pub const MAX_DECODED_BYTES: u64 = 512 << 20;

const FORMATS: &str = "JPEG, PNG, GIF, WebP, BMP";

/// Reads and decodes one file.
pub fn decode(path: &Path) -> Result<Frame, SourceError> {
    let bytes = read(path)?;
    decode_bytes(&bytes, path, FrameMeta::still(path.to_string_lossy()))
}

/// Decodes `bytes`; `path` is where they come from, for errors.
pub fn decode_bytes(bytes: &[u8], path: &Path, meta: FrameMeta) -> Result<Frame, SourceError> {
    rgb(bytes)
        .and_then(|(width, height, pixels)| Frame::new(width, height, pixels, meta).ok_or_else(|| "the picture has no pixels".to_owned()))
        .map_err(|reason| SourceError::Picture { path: path.to_owned(), reason })
}

/// Decodes one JPEG frame of a camera into `pixels` (RGB, resized to fit) and returns width and height.
///
/// What follows the end marker is ignored: drivers pad their buffers.
pub fn decode_camera_jpeg(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(u32, u32), String> {
    if let Some(size) = jpeg::decode_into(bytes, MAX_PIXELS, pixels) {
        return Ok(size);
    }
    check_jpeg_is_whole(bytes)?;
    let decoder = image::codecs::jpeg::JpegDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = check_size(&decoder)?;
    if decoder.color_type() == image::ColorType::Rgb8 {
        pixels.resize(decoder.total_bytes() as usize, 0);
        decoder.read_image(pixels).map_err(damaged)?;
    } else {
        *pixels = to_rgb8(DynamicImage::from_decoder(decoder).map_err(damaged)?);
    }
    Ok((width, height))
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Io { path: path.to_owned(), source };
    let refused = |reason: String| SourceError::Picture { path: path.to_owned(), reason };
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        // A folder that a recursive listing could not enter comes here to be reported.
        fs::read_dir(path).map_err(failed)?;
        return Err(refused("this is a folder, not a picture; name a picture in it".to_owned()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(refused(format!("the file has {} MiB, the limit is {} MiB", metadata.len() >> 20, MAX_FILE_BYTES >> 20)));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // A pipe or a file that grows has no length to trust.
    fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    match bytes.len() as u64 {
        0 => Err(refused("the file is empty".to_owned())),
        n if n > MAX_FILE_BYTES => Err(refused(format!("the file has more than {} MiB, which is the limit", MAX_FILE_BYTES >> 20))),
        _ => Ok(bytes),
    }
}

fn rgb(bytes: &[u8]) -> Result<(u32, u32, Vec<u8>), String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let format = image::guess_format(bytes).map_err(|_| not_a_picture(bytes))?;
    if !format.reading_enabled() {
        return Err(format!("{} pictures are not read; convert it to one of {FORMATS}", name(format)));
    }
    if format == ImageFormat::Jpeg {
        check_jpeg_is_whole(bytes)?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    // The width and height limits of the decoder know nothing of their product: `check_size` does.
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    check_size(&decoder)?;
    // A damaged EXIF block does not make the pixels unreadable.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut rgb = Vec::new();
    let exact = if format == ImageFormat::Jpeg { jpeg::decode_into(bytes, MAX_PIXELS, &mut rgb) } else { None };
    let mut picture = match exact.and_then(|(width, height)| RgbImage::from_raw(width, height, rgb)) {
        Some(exact) => exact.into(),
        None => DynamicImage::from_decoder(decoder).map_err(damaged)?,
    };
    picture.apply_orientation(orientation);
    Ok((picture.width(), picture.height(), to_rgb8(picture)))
}

fn check_size(decoder: &impl ImageDecoder) -> Result<(u32, u32), String> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(format!(
            "{width}x{height} is {} megapixels, the limit is {} (and {} MiB decoded); scale it down",
            pixels / 1_000_000,
            MAX_PIXELS / 1_000_000,
            MAX_DECODED_BYTES >> 20
        ));
    }
    Ok((width, height))
}

/// Eight bits a channel as Pillow makes them; the `image` crate would round 16-bit samples.
fn to_rgb8(picture: DynamicImage) -> Vec<u8> {
    let high = |sample: &u16| (sample >> 8) as u8;
    match picture {
        DynamicImage::ImageLuma16(p) => p.iter().flat_map(|s| [high(s); 3]).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().flat_map(|p| [on_white(high(&p.0[0]), high(&p.0[1])); 3]).collect(),
        DynamicImage::ImageRgb16(p) => p.iter().map(high).collect(),
        DynamicImage::ImageRgba16(p) => p.pixels().flat_map(|p| pixel_on_white(&p.0.each_ref().map(high))).collect(),
        DynamicImage::ImageLumaA8(p) => p.pixels().flat_map(|p| [on_white(p.0[0], p.0[1]); 3]).collect(),
        DynamicImage::ImageRgba8(p) => p.pixels().flat_map(|p| pixel_on_white(&p.0)).collect(),
        other => other.into_rgb8().into_raw(),
    }
}

fn pixel_on_white(&[red, green, blue, alpha]: &[u8; 4]) -> [u8; 3] {
    [red, green, blue].map(|level| on_white(level, alpha))
}

/// A grey level over white, to the bit as Pillow's `alpha_composite` rounds it.
fn on_white(level: u8, alpha: u8) -> u8 {
    /// Fractional bits of a weight.
    const BITS: u32 = 7;
    let (level, alpha) = (u32::from(level), u32::from(alpha));
    let sum = (level * alpha + 255 * (255 - alpha)) << BITS;
    let rounded = sum + (0x80 << BITS);
    // Division by 255.
    ((((rounded >> 8) + rounded) >> 8) >> BITS).min(255) as u8
}

/// The decoder fills what is missing of a JPEG with grey; a picture that is half grey must not pass for one.
///
/// Walks the segments to the end marker, as ITU-T T.81 B.1.1 lays them out, without decoding.
fn check_jpeg_is_whole(bytes: &[u8]) -> Result<(), String> {
    const CUT: &str = "the JPEG is cut short: it ends before its end marker; copy or save it again";
    /// End of image.
    const EOI: u8 = 0xD9;
    let mut at = 2;
    loop {
        // To the next marker: 0xFF and a byte that is neither a stuffed zero, nor padding, nor a restart within a scan.
        while !matches!(bytes.get(at..at + 2), None | Some([0xFF, 0x01..=0xCF | 0xD8..=0xFE])) {
            at += 1;
        }
        let marker = bytes.get(at + 1).ok_or(CUT)?;
        match *marker {
            EOI => return Ok(()),
            0x01 | 0xD8 => at += 2,
            _ => {
                let length = bytes.get(at + 2..at + 4).ok_or(CUT)?;
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

fn not_a_picture(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(512)];
    let text = start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E | 0x80..));
    let looks = if text { "its content is text" } else { "its content is none of these formats" };
    format!("not a picture, whatever its name says: {looks}; ocelli reads {FORMATS}")
}

fn name(format: ImageFormat) -> String {
    format!("{format:?}").to_uppercase()
}

fn damaged(error: image::ImageError) -> String {
    match error {
        image::ImageError::Limits(_) => format!("the picture needs more than {} MiB decoded; scale it down", MAX_DECODED_BYTES >> 20),
        image::ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the picture is cut short: the file ends before it; copy or save it again".to_owned()
        }
        error => format!("the picture is damaged ({error}); copy or save it again"),
    }
}

#[cfg(test)]
mod tests;
