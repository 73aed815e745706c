//! Reading an image file the way the reference does: EXIF orientation honoured, transparency put on
//! white, palettes, gray and 16-bit samples turned into 8-bit RGB.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use vlft_base::format::{bytes, grouped};
use vlft_base::{Diagnostic, Result};
use vlft_dataset::image_limits::{
    MAX_FILE_BYTES, MAX_PIXELS, decoder_limits, is_accepted, jpeg_has_an_end,
};
use vlft_dataset::jpeg;

/// (width, height) as it will be seen, that is after the EXIF rotation. Reads the header only.
pub(crate) fn size(path: &Path) -> Result<(u32, u32)> {
    let (_, file) = open(path)?;
    let (decoder, orientation) = decoder(BufReader::new(file), path)?;
    Ok(oriented_size(decoder.dimensions(), orientation))
}

/// The pixels, upright and opaque.
pub(crate) fn load(path: &Path) -> Result<RgbImage> {
    decode(&read(path)?, path)
}

/// The bytes of the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (length, mut file) = open(path)?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.read_to_end(&mut bytes)
        .map_err(|e| unreadable(path, e))?;
    Ok(bytes)
}

/// The pixels that the bytes of the file at `path` stand for.
pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<RgbImage> {
    let (decoder, orientation) = decoder(Cursor::new(bytes), path)?;
    if image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Jpeg)
        && !jpeg_has_an_end(bytes)
    {
        return Err(undecodable(
            path,
            "the data ends before the end-of-image marker",
        ));
    }
    let mut image = jpeg::pixels(decoder, bytes).map_err(|e| undecodable(path, e))?;
    image.apply_orientation(orientation);
    Ok(into_rgb(image))
}

/// The length of the file, and the file.
fn open(path: &Path) -> Result<(u64, File)> {
    let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
    if !metadata.is_file() {
        return Err(Diagnostic::error("image is not a file")
            .with_rule("image-unreadable")
            .at(path));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(Diagnostic::error("image file is too large")
            .with_rule("image-unreadable")
            .at(path)
            .expected(format!("at most {}", bytes(MAX_FILE_BYTES)))
            .found(bytes(metadata.len())));
    }
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    Ok((metadata.len(), file))
}

/// Reads the header; refuses other formats, and more pixels than anyone means.
fn decoder<'a, R: BufRead + Seek + 'a>(
    source: R,
    path: &Path,
) -> Result<(impl ImageDecoder + 'a, Orientation)> {
    let mut reader = ImageReader::new(source)
        .with_guessed_format()
        .map_err(|e| unreadable(path, e))?;
    let format = reader.format();
    if !format.is_some_and(is_accepted) {
        let diagnostic = Diagnostic::error("not an image in a known format")
            .with_rule("image-unreadable")
            .at(path)
            .expected("PNG, JPEG or WebP");
        return Err(match format {
            Some(format) => diagnostic.found(format.to_mime_type()),
            None => diagnostic,
        });
    }
    reader.limits(decoder_limits());
    let mut decoder = reader.into_decoder().map_err(|e| undecodable(path, e))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Diagnostic::error("image has too many pixels")
            .with_rule("image-unreadable")
            .at(path)
            .expected(format!("at most {} pixels", grouped(MAX_PIXELS)))
            .found(format!("{width} x {height}"))
            .hint("rasterize at a lower `--dpi`"));
    }
    let orientation = decoder.orientation().map_err(|e| undecodable(path, e))?;
    Ok((decoder, orientation))
}

fn unreadable(path: &Path, error: io::Error) -> Diagnostic {
    if error.kind() == io::ErrorKind::NotFound {
        return Diagnostic::error("image not found")
            .with_rule("image-missing")
            .at(path);
    }
    Diagnostic::error("cannot read image")
        .with_rule("image-unreadable")
        .at(path)
        .caused_by(error)
}

fn undecodable(path: &Path, error: impl Display) -> Diagnostic {
    Diagnostic::error("cannot decode image")
        .with_rule("image-unreadable")
        .at(path)
        .caused_by(error)
        .hint("the file is cut short or damaged: write it again")
}

fn oriented_size((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => (width, height),
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
    }
}

fn into_rgb(image: DynamicImage) -> RgbImage {
    // The high byte of a 16-bit sample, as Pillow takes it from RGB files. (From gray ones Pillow
    // clips to 255, which turns a 16-bit scan into a white page: not imitated.)
    let high = |sample: u16| (sample >> 8) as u8;
    let image = match image {
        DynamicImage::ImageLuma16(gray) => DynamicImage::ImageLuma8(map(gray, high)),
        DynamicImage::ImageLumaA16(gray) => DynamicImage::ImageLumaA8(map(gray, high)),
        DynamicImage::ImageRgb16(rgb) => DynamicImage::ImageRgb8(map(rgb, high)),
        DynamicImage::ImageRgba16(rgba) => DynamicImage::ImageRgba8(map(rgba, high)),
        other => other,
    };
    if image.color().has_alpha() {
        on_white(&image.into_rgba8())
    } else {
        image.into_rgb8()
    }
}

fn map<From, To>(
    image: image::ImageBuffer<From, Vec<u16>>,
    convert: impl Fn(u16) -> u8,
) -> image::ImageBuffer<To, Vec<u8>>
where
    From: image::Pixel<Subpixel = u16>,
    To: image::Pixel<Subpixel = u8>,
{
    let (width, height) = image.dimensions();
    let samples = image.into_raw().into_iter().map(convert).collect();
    image::ImageBuffer::from_raw(width, height, samples).expect("as many samples as before")
}

/// Pillow's `alpha_composite` over opaque white, with its rounding.
fn on_white(image: &image::RgbaImage) -> RgbImage {
    let blend = |sample: u8, alpha: u8| {
        let sum = u32::from(sample) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
        ((2 * sum + 255) / 510) as u8
    };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, alpha] = image.get_pixel(x, y).0;
        image::Rgb([r, g, b].map(|sample| blend(sample, alpha)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayAlphaImage, Luma, LumaA, Rgb, Rgba, RgbaImage};
    use std::path::PathBuf;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        }
        fn save(&self, name: &str, image: impl Into<DynamicImage>) -> PathBuf {
            let path = self.0.path().join(name);
            image.into().save(&path).unwrap();
            path
        }
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]))
    }

    #[test]
    fn every_kind_of_sample_becomes_rgb() {
        let folder = Folder::new();
        let pixel = |path: PathBuf| {
            assert_eq!(size(&path).unwrap(), (1, 1));
            load(&path).unwrap().get_pixel(0, 0).0
        };
        // Transparency over white, rounded as Pillow does: (100 * 51 + 255 * 204) / 255 = 224.
        let rgba = RgbaImage::from_pixel(1, 1, Rgba([100, 0, 255, 51]));
        assert_eq!(
            pixel(folder.save("rgba.png", rgba.clone())),
            [224, 204, 255]
        );
        assert_eq!(pixel(folder.save("rgba.webp", rgba)), [224, 204, 255]);
        let gray = GrayAlphaImage::from_pixel(1, 1, LumaA([10, 0]));
        assert_eq!(pixel(folder.save("la.png", gray)), [255; 3]);
        // The high byte of 16 bits: 0x80ff rounds down.
        let gray = image::ImageBuffer::<Luma<u16>, _>::from_pixel(1, 1, Luma([0x80ff]));
        assert_eq!(pixel(folder.save("gray16.png", gray)), [0x80; 3]);
        let rgb = image::ImageBuffer::<Rgb<u16>, _>::from_pixel(1, 1, Rgb([0x01ff, 0xffff, 0]));
        assert_eq!(pixel(folder.save("rgb16.png", rgb)), [1, 255, 0]);
    }

    #[test]
    fn exif_turns_the_picture_before_its_size_is_taken() {
        // A JPEG with a minimal EXIF segment: big-endian TIFF, one entry, orientation 6.
        let folder = Folder::new();
        let mut jpeg = Vec::new();
        let image = RgbImage::from_fn(32, 16, |x, _| {
            Rgb(if x < 16 { [250, 0, 0] } else { [0, 0, 250] })
        });
        image
            .write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg)
            .unwrap();
        let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        jpeg.splice(2..2, exif.iter().copied());
        let path = folder.write("turned.jpg", &jpeg);
        assert_eq!(size(&path).unwrap(), (16, 32));
        let turned = load(&path).unwrap();
        assert_eq!(turned.dimensions(), (16, 32));
        // Turned clockwise, left becomes top.
        assert!(turned.get_pixel(8, 2).0[0] > 200 && turned.get_pixel(8, 30).0[2] > 200);
    }

    #[test]
    fn files_cut_short_anywhere_are_refused_with_their_path() {
        let folder = Folder::new();
        for name in ["a.png", "a.jpg", "a.webp"] {
            let whole = fs::read(folder.save(name, gradient(64, 48))).unwrap();
            assert_eq!(
                load(&folder.write(name, &whole)).unwrap().dimensions(),
                (64, 48)
            );
            // The last 16 bytes of a PNG are its end, which holds no pixels.
            for keep in [
                0,
                1,
                7,
                20,
                whole.len() / 4,
                whole.len() / 2,
                whole.len() * 9 / 10,
                whole.len() - 17,
            ] {
                let path = folder.write(name, &whole[..keep]);
                let error =
                    load(&path).expect_err(&format!("{name} cut to {keep} of {}", whole.len()));
                assert_eq!(error.places()[0].file, path);
            }
        }
        let jpeg = fs::read(folder.save("b.jpg", gradient(64, 48))).unwrap();
        let error = load(&folder.write("b.jpg", &jpeg[..jpeg.len() - 2])).unwrap_err();
        assert_eq!(
            error.causes(),
            ["the data ends before the end-of-image marker"]
        );
        // Some writers append to a whole file; that does no harm.
        assert!(load(&folder.write("b.jpg", &[jpeg.as_slice(), b"trailer\xff"].concat())).is_ok());
    }

    #[test]
    fn what_is_no_image_is_refused_by_kind() {
        let folder = Folder::new();
        let said = |path: &Path| {
            let (size, load) = (size(path).unwrap_err(), load(path).unwrap_err());
            assert_eq!(size.message(), load.message());
            load.message().to_owned()
        };
        let other = "not an image in a known format";
        for (path, message) in [
            (folder.0.path().join("no.png"), "image not found"),
            (folder.0.path().to_owned(), "image is not a file"),
            (folder.write("empty.png", b""), other),
            (folder.write("text.png", b"not an image at all"), other),
            (folder.write("a.gif", b"GIF89a\x01\0\x01\0\0\0\0"), other),
        ] {
            assert_eq!(said(&path), message);
        }
        // A header that promises 65 535 x 65 535 pixels is refused before anything is allocated.
        let mut png = fs::read(folder.save("bomb.png", gradient(1, 1))).unwrap();
        png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let crc = crc32(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&crc);
        assert_eq!(
            said(&folder.write("bomb.png", &png)),
            "image has too many pixels"
        );
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
            })
        })
    }
}
