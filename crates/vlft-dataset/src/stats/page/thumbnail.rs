//! Small pictures of pages, as many as their bound allows.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::imageops::thumbnail;
use image::{DynamicImage, GenericImageView};
use rayon::prelude::*;

use super::THUMBNAIL_BYTES;
use crate::perceptual::PageHash;
use crate::validate::image_file::decoded;

/// Pictures in the order of the images, which is that of the records: when the bound is reached, the
/// rest has none.
pub(super) struct Thumbnails {
    /// JPEG files.
    pub(super) base64: Vec<String>,
    /// Per image, which of them is its own.
    pub(super) of_image: Vec<Option<u32>>,
    /// Per image, what it looks like; `None` for a blank one and for one that was not drawn.
    pub(super) hashes: Vec<Option<PageHash>>,
    /// Of the longer side.
    side: u32,
}

/// What thumbnails of dense pages need, by the square of the longer side, and a little more (measured on
/// 10,000 pages of `tests/browser`: 0.18 at 167 pixels; smaller ones need more for their size).
const BYTES_PER_SIDE_SQUARED: f64 = 0.26;
const QUALITY: u8 = 62;
const SIDES: std::ops::RangeInclusive<u32> = 96..=440;

impl Thumbnails {
    pub(super) fn new(images: usize) -> Self {
        let each = THUMBNAIL_BYTES as f64 / images.max(1) as f64;
        let side = (each / BYTES_PER_SIDE_SQUARED).sqrt() as u32;
        Self {
            base64: Vec::new(),
            of_image: vec![None; images],
            hashes: vec![None; images],
            side: side.clamp(*SIDES.start(), *SIDES.end()),
        }
    }

    #[cfg(test)]
    pub(super) fn side_for_test(&self) -> u32 {
        self.side
    }

    pub(super) fn draw(&mut self, paths: &[&Path], progress: &(dyn Fn(u64, u64) + Sync)) {
        const BATCH: usize = 256;
        let done = AtomicU64::new(0);
        let mut bytes = 0;
        for (batch, paths) in paths.chunks(BATCH).enumerate() {
            let drawn: Vec<Option<Drawn>> = paths
                .par_iter()
                .map(|path| {
                    let drawn = draw(path, self.side);
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    progress(done, self.of_image.len() as u64);
                    drawn
                })
                .collect();
            for (index, drawn) in drawn.into_iter().enumerate() {
                let Some(Drawn { jpeg, hash }) = drawn else {
                    continue;
                };
                self.hashes[batch * BATCH + index] = hash;
                bytes += jpeg.len();
                if bytes > THUMBNAIL_BYTES {
                    return;
                }
                self.of_image[batch * BATCH + index] = Some(self.base64.len() as u32);
                self.base64.push(STANDARD.encode(jpeg));
            }
        }
    }
}

struct Drawn {
    jpeg: Vec<u8>,
    hash: Option<PageHash>,
}

fn draw(path: &Path, side: u32) -> Option<Drawn> {
    let image = decoded(&fs::read(path).ok()?)?;
    let (width, height) = image.dimensions();
    let hash = PageHash::of(&image);
    let scale = f64::from(side) / f64::from(width.max(height));
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let (width, height) = match scale < 1.0 {
        true => (scaled(image.width()), scaled(image.height())),
        false => (image.width(), image.height()),
    };
    let mut jpeg = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, QUALITY);
    encoder.set_optimized_huffman_tables(true);
    let sides = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
    // Transparent pixels would come out black; pages are white.
    let gray = matches!(
        image,
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLuma16(_)
    );
    match gray {
        true => {
            let small = thumbnail(&image.into_luma8(), width, height);
            encoder.encode(&small, sides.0, sides.1, jpeg_encoder::ColorType::Luma)
        }
        false => {
            let small = thumbnail(&on_white(image), width, height);
            encoder.encode(&small, sides.0, sides.1, jpeg_encoder::ColorType::Rgb)
        }
    }
    .ok()?;
    Some(Drawn { jpeg, hash })
}

fn on_white(image: DynamicImage) -> image::RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    image::RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, a] = image.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|c| ((c * a + 255 * (255 - a)) / 255) as u8))
    })
}
