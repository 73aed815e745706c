//! Reading an image file the way the reference does: EXIF orientation honoured, transparency put on
//! white, palettes, gray and 16-bit samples turned into 8-bit RGB.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use vlft_base::format::{bytes, grouped};
use vlft_base::{Diagnostic, Result};

/// Pillow refuses more pixels than this as a decompression bomb, hence so does transformers.
const MAX_PIXELS: u64 = 178_956_970;
/// No page is larger; what is larger is not an image, whatever its name.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// What a decoder may allocate beside its output.
const MAX_DECODER_BYTES: u64 = 1 << 30;

/// (width, height) as it will be seen, that is after the EXIF rotation. Reads the header only.
pub(crate) fn size(path: &Path) -> Result<(u32, u32)> {
    let (decoder, orientation) = open(path)?;
    Ok(oriented_size(decoder.dimensions(), orientation))
}

/// The pixels, upright and opaque.
pub(crate) fn load(path: &Path) -> Result<RgbImage> {
    let (decoder, orientation) = open(path)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| undecodable(path, &e))?;
    image.apply_orientation(orientation);
    Ok(into_rgb(image))
}

fn open(path: &Path) -> Result<(impl ImageDecoder, Orientation)> {
    let unreadable = |e: std::io::Error| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let what = if missing {
            "image not found"
        } else {
            "cannot read image"
        };
        let rule = if missing {
            "image-missing"
        } else {
            "image-unreadable"
        };
        let diagnostic = Diagnostic::error(what).with_rule(rule).at(path);
        if missing {
            diagnostic
        } else {
            diagnostic.caused_by(e)
        }
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Diagnostic::error("image is not a file")
            .with_rule("image-unreadable")
            .at(path));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(Diagnostic::error("image file is too large")
            .with_rule("image-too-large")
            .at(path)
            .expected(format!("at most {}", bytes(MAX_FILE_BYTES)))
            .found(bytes(metadata.len())));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(unreadable)?;
    let format = reader.format();
    if !matches!(
        format,
        Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)
    ) {
        let found = match format {
            Some(format) => format.to_mime_type().to_owned(),
            None if metadata.len() == 0 => "an empty file".to_owned(),
            None => "something else".to_owned(),
        };
        return Err(Diagnostic::error("not an image in a known format")
            .with_rule("image-format")
            .at(path)
            .expected("PNG, JPEG or WebP")
            .found(found));
    }
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| undecodable(path, &e))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Diagnostic::error("image has too many pixels")
            .with_rule("image-too-large")
            .at(path)
            .expected(format!("at most {} pixels", grouped(MAX_PIXELS)))
            .found(format!("{width} x {height}"))
            .hint("rasterize at a lower `--dpi`"));
    }
    let orientation = decoder.orientation().map_err(|e| undecodable(path, &e))?;
    Ok((decoder, orientation))
}

fn undecodable(path: &Path, error: &image::ImageError) -> Diagnostic {
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
