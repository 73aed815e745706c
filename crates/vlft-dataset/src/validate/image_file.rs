//! Whether an image file can be trained on: its kind, its size, and that it decodes to its last row.
//! The limits are those of the processor that will read it: [`crate::image_limits`].

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use sha2::{Digest, Sha256};
use vlft_base::format::{bytes, grouped};

use super::Decode;
use crate::image_limits::{
    MAX_FILE_BYTES, MAX_PIXELS, decoder_limits, is_accepted, jpeg_has_an_end,
};
use crate::jpeg;
use crate::perceptual::PageHash;

/// Why a file is no usable image. Fits after "image `x`: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub message: String,
    pub hint: Option<String>,
}

impl Unreadable {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What was seen of a file that is a usable image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// (width, height) in pixels on disk.
    pub size: (u32, u32),
    /// EXIF says that it is to be turned or mirrored.
    pub is_rotated: bool,
    /// What only a look at all of it shows ([`Decode::Full`]).
    pub content: Option<Content>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The first half of the SHA-256 of the file.
    pub sha256: u128,
    pub has_transparent_parts: bool,
    pub looks: Option<PageHash>,
}

/// (width, height) in pixels on disk.
pub fn check(path: &Path, decode: Decode) -> Result<(u32, u32), Unreadable> {
    look(path, decode).map(|looked| looked.size)
}

/// [`check`], and what else was seen. [`Decode::None`] looks at the header too: whoever does not want
/// that does not ask.
pub fn look(path: &Path, decode: Decode) -> Result<Looked, Unreadable> {
    let file = File::open(path).map_err(|e| Unreadable::new(format!("cannot be opened: {e}")))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    if length > MAX_FILE_BYTES {
        let (length, limit) = (bytes(length), bytes(MAX_FILE_BYTES));
        return Err(Unreadable::new(format!(
            "has {length}, more than the {limit} that are accepted"
        ))
        .hint("no page needs so much: check what the file is"));
    }
    let mut reader = BufReader::new(file);
    let format = kind(&mut reader)?;
    if decode != Decode::Full {
        let (decoder, size, orientation) = open(reader, format)?;
        drop(decoder);
        return Ok(Looked {
            size,
            is_rotated: orientation != Orientation::NoTransforms,
            content: None,
        });
    }
    let mut whole = Vec::with_capacity(length as usize);
    reader
        .read_to_end(&mut whole)
        .map_err(|e| Unreadable::new(format!("cannot be read: {e}")))?;
    let (decoder, size, orientation) = open(Cursor::new(&whole), format)?;
    if format == ImageFormat::Jpeg && !jpeg_has_an_end(&whole) {
        return Err(cut_short("there is no end marker"));
    }
    let mut image = jpeg::pixels(decoder, &whole).map_err(|e| damaged(&e))?;
    image.apply_orientation(orientation);
    Ok(Looked {
        size,
        is_rotated: orientation != Orientation::NoTransforms,
        content: Some(Content {
            sha256: half_sha256(&whole),
            has_transparent_parts: is_transparent(&image),
            looks: PageHash::of(&image),
        }),
    })
}

/// Reads the header and refuses what nobody means.
fn open<'a, R: BufRead + Seek + 'a>(
    source: R,
    format: ImageFormat,
) -> Result<(impl ImageDecoder + 'a, (u32, u32), Orientation), Unreadable> {
    let mut reader = ImageReader::with_format(source, format);
    reader.limits(decoder_limits());
    let mut decoder = reader.into_decoder().map_err(|e| damaged(&e))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Unreadable::new(format!("is {width} x {height} pixels")));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(Unreadable::new(format!(
            "has {} pixels, more than the {} that are accepted",
            grouped(pixels),
            grouped(MAX_PIXELS)
        ))
        .hint("scale it down; the model sees a fraction of this anyway"));
    }
    let orientation = decoder.orientation().map_err(|e| damaged(&e))?;
    Ok((decoder, (width, height), orientation))
}

/// The first half of the SHA-256: enough to tell images apart.
pub(crate) fn half_sha256(bytes: &[u8]) -> u128 {
    let digest = Sha256::digest(bytes);
    let half = digest.iter().take(16);
    half.fold(0, |hash, byte| hash << 8 | u128::from(*byte))
}

/// The image that the bytes are, upright; `None` when they are none that is accepted.
pub(crate) fn decoded(bytes: &[u8]) -> Option<DynamicImage> {
    let format = image::guess_format(bytes)
        .ok()
        .filter(|format| is_accepted(*format))?;
    let (decoder, _, orientation) = open(Cursor::new(bytes), format).ok()?;
    let mut image = jpeg::pixels(decoder, bytes).ok()?;
    image.apply_orientation(orientation);
    Some(image)
}

/// Whether any pixel is not opaque. An alpha channel that says nothing is no fault.
fn is_transparent(image: &DynamicImage) -> bool {
    image.color().has_alpha()
        && match image {
            DynamicImage::ImageRgba8(pixels) => pixels.pixels().any(|pixel| pixel.0[3] < 255),
            DynamicImage::ImageLumaA8(pixels) => pixels.pixels().any(|pixel| pixel.0[1] < 255),
            other => other
                .to_luma_alpha16()
                .pixels()
                .any(|pixel| pixel.0[1] < u16::MAX),
        }
}

/// By its first bytes: extensions lie.
fn kind(reader: &mut (impl Read + Seek)) -> Result<ImageFormat, Unreadable> {
    let mut head = [0; 32];
    let mut filled = 0;
    while filled < head.len() {
        match reader.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) => return Err(Unreadable::new(format!("cannot be read: {e}"))),
        }
    }
    reader
        .rewind()
        .map_err(|e| Unreadable::new(format!("cannot be read: {e}")))?;
    let head = &head[..filled];
    match image::guess_format(head) {
        Ok(format) if is_accepted(format) => Ok(format),
        _ if head.is_empty() => {
            Err(Unreadable::new("is an empty file").hint("copy or unpack it again"))
        }
        _ if head.starts_with(b"%PDF") => {
            Err(Unreadable::new("is a PDF").hint("`vlft rasterize` makes page images of PDFs"))
        }
        Ok(other) => {
            Err(Unreadable::new(format!("is {}", other.to_mime_type()))
                .hint("use PNG, JPEG or WebP"))
        }
        Err(_) => Err(Unreadable::new("is no PNG, JPEG or WebP")),
    }
}

fn damaged(error: &image::ImageError) -> Unreadable {
    match error {
        image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            cut_short("the file ends too early")
        }
        other => {
            Unreadable::new(format!("cannot be decoded: {other}")).hint("copy or make it again")
        }
    }
}

fn cut_short(why: &str) -> Unreadable {
    Unreadable::new(format!("is cut short: {why}")).hint("copy or unpack it again")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{DynamicImage, RgbImage};

    use super::*;

    fn noise(width: u32, height: u32) -> DynamicImage {
        let mut state = 1u32;
        DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        }))
    }

    #[test]
    fn whole_images_pass_and_cut_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        for (name, format) in [
            ("a.png", ImageFormat::Png),
            ("a.jpg", ImageFormat::Jpeg),
            ("a.webp", ImageFormat::WebP),
        ] {
            let path = dir.path().join(name);
            noise(64, 48).save_with_format(&path, format).unwrap();
            assert_eq!(check(&path, Decode::Full), Ok((64, 48)), "{name}");
            let bytes = fs::read(&path).unwrap();
            for share in [3, 6, 9] {
                fs::write(&path, &bytes[..bytes.len() * share / 10]).unwrap();
                let error = check(&path, Decode::Full).unwrap_err();
                assert!(error.hint.is_some(), "{name} {share}: {error:?}");
            }
        }
    }

    #[test]
    fn rotation_transparency_and_looks_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let mut image = noise(64, 48).to_rgba8();
        image.save(&path).unwrap();
        let opaque = look(&path, Decode::Full).unwrap();
        assert!(!opaque.is_rotated && !opaque.content.unwrap().has_transparent_parts);
        assert!(opaque.content.unwrap().looks.is_some());
        assert_eq!(look(&path, Decode::Header).unwrap().content, None);
        image.get_pixel_mut(5, 5).0[3] = 254;
        image.save(&path).unwrap();
        let holed = look(&path, Decode::Full).unwrap().content.unwrap();
        assert!(holed.has_transparent_parts && holed.sha256 != opaque.content.unwrap().sha256);

        // EXIF, little endian, one entry: orientation 6, to be turned by 90 degrees.
        let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut jpeg = Vec::new();
        noise(64, 48)
            .write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)
            .unwrap();
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1, 0, exif.len() as u8 + 2]);
        turned.extend(exif);
        turned.extend(&jpeg[2..]);
        fs::write(&path, turned).unwrap();
        for decode in [Decode::Full, Decode::Header] {
            let looked = look(&path, decode).unwrap();
            assert!(looked.is_rotated && looked.size == (64, 48));
        }
    }

    #[test]
    fn what_is_no_image_is_called_by_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, expected) in [
            (&b""[..], "is an empty file"),
            (b"%PDF-1.7", "is a PDF"),
            (b"GIF89a......", "is image/gif"),
            (b"hello", "is no PNG, JPEG or WebP"),
        ] {
            let path = dir.path().join("x.png");
            fs::write(&path, bytes).unwrap();
            assert_eq!(check(&path, Decode::Header).unwrap_err().message, expected);
        }
        assert!(
            check(&dir.path().join("none"), Decode::Header)
                .unwrap_err()
                .message
                .starts_with("cannot be opened")
        );
    }
}
