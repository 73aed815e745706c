//! JPEG files that the decoder of `image` reads wrongly without a word.
//!
//! zune-jpeg (0.5.16 and before) turns sequential files whose components come one scan after the
//! other into green stripes (zune-image issues 419, 422 and 448). Scanners and optimising encoders
//! write such files, and a model would be trained on the stripes. `jpeg-decoder` reads them rightly
//! and is slower, so it gets these files only.

use std::io::Cursor;

use image::error::{DecodingError, ImageFormatHint};
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageResult, RgbImage,
};
use jpeg_decoder::PixelFormat;

use crate::image_limits::{MAX_DECODER_BYTES, jpeg_markers};

/// The pixels of `bytes`, whose header `decoder` has read and found acceptable; not yet turned upright.
///
/// # Errors
/// What the decoder says; also four-channel files in several scans, which nobody here reads.
pub fn pixels(decoder: impl ImageDecoder, bytes: &[u8]) -> ImageResult<DynamicImage> {
    let is_jpeg = image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Jpeg);
    if is_jpeg && has_several_sequential_scans(bytes) {
        return scan_by_scan(bytes).map_err(|e| {
            let format = ImageFormatHint::Exact(ImageFormat::Jpeg);
            ImageError::Decoding(DecodingError::new(format, e))
        });
    }
    DynamicImage::from_decoder(decoder)
}

fn has_several_sequential_scans(bytes: &[u8]) -> bool {
    let (mut sequential, mut scans) = (false, 0);
    for marker in jpeg_markers(bytes) {
        match marker {
            0xc0 | 0xc1 => sequential = true,
            0xda => scans += 1,
            _ => {}
        }
    }
    sequential && scans > 1
}

fn scan_by_scan(bytes: &[u8]) -> Result<DynamicImage, String> {
    let mut decoder = jpeg_decoder::Decoder::new(Cursor::new(bytes));
    decoder.set_max_decoding_buffer_size(MAX_DECODER_BYTES as usize);
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    let info = decoder.info().ok_or("it has no header")?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let image = match info.pixel_format {
        PixelFormat::L8 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        PixelFormat::RGB24 => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
        PixelFormat::L16 | PixelFormat::CMYK32 => {
            return Err(
                "a JPEG with four channels or 16 bits in several scans: save it again as RGB"
                    .to_owned(),
            );
        }
    };
    image.ok_or_else(|| "there are fewer pixels than the header says".to_owned())
}

#[cfg(test)]
mod tests {
    use image::ImageReader;
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

    use super::*;

    /// A page-like picture: white, dark lines, a red stamp.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| match (x / 7 + y / 5) % 9 {
            0 => image::Rgb([30, 30, 40]),
            1 if x > width / 2 => image::Rgb([200, 40, 40]),
            _ => image::Rgb([250, 249, 245]),
        })
    }

    fn jpeg(picture: &RgbImage, sampling: SamplingFactor, several_scans: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 95);
        encoder.set_sampling_factor(sampling);
        // It needs the statistics of a whole component, so it writes one scan for each.
        encoder.set_optimized_huffman_tables(several_scans);
        let (width, height) = (picture.width() as u16, picture.height() as u16);
        encoder
            .encode(picture, width, height, ColorType::Rgb)
            .unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> RgbImage {
        let reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Jpeg);
        pixels(reader.into_decoder().unwrap(), bytes)
            .unwrap()
            .into_rgb8()
    }

    /// Mean absolute difference of the samples.
    fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
        assert_eq!(a.dimensions(), b.dimensions());
        let sum: u64 = a
            .iter()
            .zip(b.iter())
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        sum as f64 / a.len() as f64
    }

    #[test]
    fn several_scans_show_the_same_picture_as_one() {
        for (width, height) in [(64, 64), (88, 88), (65, 65), (1, 1), (200, 137)] {
            let picture = picture(width, height);
            for sampling in [
                SamplingFactor::F_1_1,
                SamplingFactor::F_2_1,
                SamplingFactor::F_2_2,
            ] {
                let one = jpeg(&picture, sampling, false);
                let several = jpeg(&picture, sampling, true);
                assert!(!has_several_sequential_scans(&one));
                assert!(has_several_sequential_scans(&several));
                let off = difference(&read(&one), &read(&several));
                assert!(off < 2.0, "{width} x {height} {sampling:?}: {off}");
            }
        }
    }

    #[test]
    fn a_file_cut_short_is_an_error_or_a_picture_and_never_a_panic() {
        let several = jpeg(&picture(64, 48), SamplingFactor::F_2_2, true);
        for length in 0..several.len() {
            let _ = scan_by_scan(&several[..length]);
        }
    }
}
