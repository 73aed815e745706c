//! What the first bytes of an image file say: its size as it will be seen, its format. Pixels are
//! never read.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat, ImageReader};

use crate::image_limits::{MAX_PIXELS, decoder_limits, is_accepted};

/// `None` is what `validate` calls unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageHead {
    /// (width, height) in pixels, after the EXIF rotation.
    pub(crate) size: (u32, u32),
    /// Of the file.
    pub(crate) bytes: u64,
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    Png,
    Jpeg,
    Webp,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
        }
    }
}

pub(crate) fn read(path: &Path) -> Option<ImageHead> {
    let mut file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let mut head = [0; 32];
    let filled = fill(&mut file, &mut head)?;
    let format = image::guess_format(&head[..filled]).ok()?;
    if !is_accepted(format) {
        return None;
    }
    file.rewind().ok()?;
    let mut reader = ImageReader::with_format(BufReader::new(file), format);
    reader.limits(decoder_limits());
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return None;
    }
    let size = match decoder.orientation().ok()? {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    };
    let format = match format {
        ImageFormat::Jpeg => Format::Jpeg,
        ImageFormat::WebP => Format::Webp,
        _ => Format::Png,
    };
    Some(ImageHead {
        size,
        bytes,
        format,
    })
}

fn fill(file: &mut File, head: &mut [u8]) -> Option<usize> {
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]).ok()? {
            0 => break,
            read => filled += read,
        }
    }
    Some(filled)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_head_tells_size_and_format_and_junk_tells_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind, format) in [
            ("a.png", ImageFormat::Png, Format::Png),
            ("a.jpg", ImageFormat::Jpeg, Format::Jpeg),
            ("a.webp", ImageFormat::WebP, Format::Webp),
        ] {
            // Extensions lie: the bytes are what counts.
            let path = dir.path().join(format!("{name}.dat"));
            image::RgbImage::new(30, 20)
                .save_with_format(&path, kind)
                .unwrap();
            let head = read(&path).unwrap();
            assert_eq!((head.size, head.format), ((30, 20), format));
            assert_eq!(head.bytes, fs::metadata(&path).unwrap().len());
        }
        let junk = dir.path().join("junk.png");
        for bytes in [&b""[..], b"%PDF-1.7", b"\x89PNG\r\n\x1a\n"] {
            fs::write(&junk, bytes).unwrap();
            assert_eq!(read(&junk), None);
        }
        assert_eq!(read(&dir.path().join("none.png")), None);
    }
}
