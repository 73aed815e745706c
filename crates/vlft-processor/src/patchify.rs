//! From 8-bit planes to the rows of `pixel_values`: normalised f32, one row per patch, ordered so
//! that four consecutive rows are the 2 x 2 patches that form one language model token.

use rayon::prelude::*;

use crate::pixels::Pixels;
use crate::preprocessor::Preprocessor;
use crate::resample::Planes;
use crate::sample::PatchedImage;
use crate::vectorized::{Work, vectorized};

/// Patches are visited (block row, block column, row in block, column in block); each is written
/// (channel, time, y, x), where a still image stands for all T moments of a patch.
pub(crate) fn patchify(image: &Planes, settings: &Preprocessor) -> PatchedImage {
    let (side, merge) = (settings.patch_size, settings.merge_size);
    let (grid_h, grid_w) = (image.height / side, image.width / side);
    let scale = Scale::new(settings);
    let mut pixel_values = Pixels::to_fill(grid_h * grid_w * settings.patch_len());
    // A row of blocks stands in one piece; no value depends on which thread writes it.
    pixel_values
        .par_chunks_exact_mut((merge * grid_w * settings.patch_len()).max(1))
        .enumerate()
        .for_each(|(block_y, out)| {
            vectorized(BlockRow {
                image,
                settings,
                scale: &scale,
                block_y,
                out,
            });
        });
    PatchedImage {
        pixel_values,
        grid_thw: [1, grid_h, grid_w],
    }
}

/// The patches of one row of blocks.
struct BlockRow<'a> {
    image: &'a Planes,
    settings: &'a Preprocessor,
    scale: &'a Scale,
    block_y: usize,
    out: &'a mut [f32],
}

impl Work for BlockRow<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            image,
            settings,
            scale,
            block_y,
            out,
        } = self;
        let (side, merge) = (settings.patch_size, settings.merge_size);
        let moment = side * side;
        let patches = raster(image.width / side / merge, merge * merge);
        for ((block_x, corner), out) in patches.zip(out.chunks_exact_mut(settings.patch_len())) {
            let top = (block_y * merge + corner / merge) * side;
            let left = (block_x * merge + corner % merge) * side;
            let channels = out.chunks_exact_mut(settings.temporal_patch_size * moment);
            for (channel, out) in channels.enumerate() {
                let at = channel * image.width + left;
                let (first, others) = out.split_at_mut(moment);
                for (i, out) in first.chunks_exact_mut(side).enumerate() {
                    let bytes = &image.row(top + i)[at..at + side];
                    scale.normalise(channel, bytes, out);
                }
                for other in others.chunks_exact_mut(moment) {
                    other.copy_from_slice(first);
                }
            }
        }
    }
}

#[inline(always)]
fn raster(height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}

/// Mean and deviation per channel, brought to the scale of bytes. Everything is f32, because that is
/// what transformers' fused path does.
struct Scale {
    mean: [f32; 3],
    std: [f32; 3],
}

impl Scale {
    fn new(settings: &Preprocessor) -> Self {
        let bytes_per_unit = (1.0 / settings.rescale_factor) as f32;
        Self {
            mean: settings.image_mean.map(|mean| mean as f32 * bytes_per_unit),
            std: settings.image_std.map(|std| std as f32 * bytes_per_unit),
        }
    }

    #[inline(always)]
    fn normalise(&self, channel: usize, bytes: &[u8], out: &mut [f32]) {
        let (mean, std) = (self.mean[channel], self.std[channel]);
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = (f32::from(*byte) - mean) / std;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resample::resample;

    #[test]
    fn every_pixel_lands_in_its_patch() {
        // 64 x 96: 4 x 6 patches, 2 x 3 blocks. Each byte is recomputed from the layout's definition.
        let image = image::RgbImage::from_fn(96, 64, |x, y| {
            image::Rgb([x as u8, y as u8, (x * 7 + y * 3) as u8])
        });
        let patched = patchify(&resample(&image, 96, 64), &Preprocessor::published());
        assert_eq!(patched.grid_thw, [1, 4, 6]);
        assert_eq!(patched.pixel_values.len(), 24 * 1536);
        for (i, value) in patched.pixel_values.iter().enumerate() {
            let (patch, within) = (i / 1536, i % 1536);
            let (channel, y, x) = (within / 512, within % 256 / 16, within % 16);
            let (block, corner) = (patch / 4, patch % 4);
            let row = (block / 3 * 2 + corner / 2) * 16 + y;
            let column = (block % 3 * 2 + corner % 2) * 16 + x;
            let byte = image.get_pixel(column as u32, row as u32).0[channel];
            assert_eq!(*value, (f32::from(byte) - 127.5) / 127.5, "value {i}");
        }
    }
}
