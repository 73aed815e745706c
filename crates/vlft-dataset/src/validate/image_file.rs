//! Whether an image file can be trained on: its kind, its size, and that it decodes to its last row.
//! The limits are those of the processor that will read it: [`crate::image_limits`].

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use image::{ImageFormat, ImageReader};
use vlft_base::format::{bytes, grouped};

use super::Decode;
use crate::image_limits::{
    MAX_FILE_BYTES, MAX_PIXELS, decoder_limits, is_accepted, jpeg_has_an_end,
};

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

/// (width, height) in pixels on disk.
pub fn check(path: &Path, decode: Decode) -> Result<(u32, u32), Unreadable> {
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
    let image = || {
        let file =
            File::open(path).map_err(|e| Unreadable::new(format!("cannot be opened: {e}")))?;
        let mut reader = ImageReader::with_format(BufReader::new(file), format);
        reader.limits(decoder_limits());
        Ok(reader)
    };
    let (width, height) = image()?.into_dimensions().map_err(|e| damaged(&e))?;
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
    if decode == Decode::Full {
        if format == ImageFormat::Jpeg && !has_an_end(&mut reader) {
            return Err(cut_short("there is no end marker"));
        }
        image()?.decode().map_err(|e| damaged(&e))?;
    }
    Ok((width, height))
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

fn has_an_end(reader: &mut impl Read) -> bool {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).is_ok() && jpeg_has_an_end(&bytes)
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
