//! Pixels to the bytes of an image file. A page without a colour is stored gray: a third of the
//! pixels to compress, and a scan's size drops accordingly.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, GrayImage, ImageEncoder, RgbImage};

use crate::manifest::ImageFormat;

/// 4:4:4 at this quality: coloured text stays sharp.
const JPEG_QUALITY: u8 = 90;

/// Rows of `width * 3` (RGB) or `width` (gray) bytes, without padding.
pub(super) struct Pixels<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) gray: bool,
}

impl Pixels<'_> {
    pub(super) fn to_image(&self) -> DynamicImage {
        let (width, height, bytes) = (self.width, self.height, self.bytes.to_vec());
        let image = match self.gray {
            true => GrayImage::from_raw(width, height, bytes).map(DynamicImage::ImageLuma8),
            false => RgbImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8),
        };
        image.expect("there is a byte for every channel of every pixel")
    }
}

/// Packs rendered rows in place: removes the padding at the end of each row (`stride` bytes a row),
/// and two of three channels when every pixel has r = g = b.
pub(super) fn pack(buffer: &mut [u8], width: u32, height: u32, stride: usize) -> Pixels<'_> {
    let (columns, rows) = (width as usize, height as usize);
    let row = columns * 3;
    let gray = buffer.chunks_exact(stride).take(rows).all(|line| {
        line[..row]
            .chunks_exact(3)
            .all(|p| p[0] == p[1] && p[1] == p[2])
    });
    if gray {
        for y in 0..rows {
            for x in 0..columns {
                buffer[y * columns + x] = buffer[y * stride + x * 3];
            }
        }
    } else if stride != row {
        for y in 1..rows {
            buffer.copy_within(y * stride..y * stride + row, y * row);
        }
    }
    let length = if gray { columns * rows } else { row * rows };
    Pixels {
        bytes: &buffer[..length],
        width,
        height,
        gray,
    }
}

/// Encodes into memory. The error is for a person.
pub(super) fn encode(pixels: &Pixels<'_>, format: ImageFormat) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let color = if pixels.gray {
        ExtendedColorType::L8
    } else {
        ExtendedColorType::Rgb8
    };
    let Pixels {
        bytes,
        width,
        height,
        ..
    } = *pixels;
    match format {
        // Level 2 takes 8.1 ms a page where level 3 takes 9.8 and level 6 16.5, for 3 and 6 % more bytes;
        // level 1 takes 5.4 for 39 % more (zlib-rs, the 57 pages of the example at 150 dpi).
        ImageFormat::Png => {
            PngEncoder::new_with_quality(&mut out, CompressionType::Level(2), FilterType::Adaptive)
                .write_image(bytes, width, height, color)
                .map_err(|e| e.to_string())?;
        }
        // Lossless.
        ImageFormat::Webp => WebPEncoder::new_lossless(&mut out)
            .write_image(bytes, width, height, color)
            .map_err(|e| e.to_string())?,
        ImageFormat::Jpeg => {
            let side = |pixels: u32| u16::try_from(pixels).map_err(|e| e.to_string());
            let color = match pixels.gray {
                true => jpeg_encoder::ColorType::Luma,
                false => jpeg_encoder::ColorType::Rgb,
            };
            jpeg_encoder::Encoder::new(&mut out, JPEG_QUALITY)
                .encode(bytes, side(width)?, side(height)?, color)
                .map_err(|e| e.to_string())?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp];

    /// 3 x 2 pixels in rows of 12 bytes, as pdfium pads them.
    fn rendered(colour: bool) -> Vec<u8> {
        let mut buffer = vec![0xAA; 24];
        for (i, offset) in [0, 3, 6, 12, 15, 18].into_iter().enumerate() {
            buffer[offset..offset + 3].fill(40 * i as u8);
        }
        if colour {
            buffer[18] = 255;
        }
        buffer
    }

    #[test]
    fn padding_goes_and_gray_is_found() {
        let mut buffer = rendered(false);
        let pixels = pack(&mut buffer, 3, 2, 12);
        assert!(pixels.gray);
        assert_eq!(pixels.bytes, [0, 40, 80, 120, 160, 200]);

        let mut buffer = rendered(true);
        let pixels = pack(&mut buffer, 3, 2, 12);
        assert!(!pixels.gray);
        assert_eq!(&pixels.bytes[..10], [0, 0, 0, 40, 40, 40, 80, 80, 80, 120]);
        assert_eq!(&pixels.bytes[15..], [255, 200, 200]);
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same_pixels() {
        for format in FORMATS {
            for colour in [false, true] {
                let mut buffer = rendered(colour);
                let pixels = pack(&mut buffer, 3, 2, 12);
                let file = encode(&pixels, format).unwrap();
                let image = image::load_from_memory(&file).unwrap();
                assert_eq!((image.width(), image.height()), (3, 2));
                let is_gray = matches!(image, DynamicImage::ImageLuma8(_));
                // WebP has no gray of its own.
                assert!(
                    is_gray != colour || format == ImageFormat::Webp,
                    "{format:?}"
                );
                if format != ImageFormat::Jpeg {
                    let expected: Vec<u8> = match colour {
                        true => pixels.bytes.to_vec(),
                        false => pixels.bytes.iter().flat_map(|&v| [v; 3]).collect(),
                    };
                    assert_eq!(image.into_rgb8().into_raw(), expected, "{format:?}");
                }
            }
        }
    }
}
