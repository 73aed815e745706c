//! From 8-bit planes to the rows of `pixel_values`: normalised f32, one row per patch, ordered so
//! that four consecutive rows are the 2 x 2 patches that form one language model token.

use crate::preprocessor::Preprocessor;
use crate::resample::Planes;
use crate::sample::PatchedImage;

/// Patches are visited (block row, block column, row in block, column in block); each is written
/// (channel, time, y, x), where a still image stands for all T moments of a patch.
pub(crate) fn patchify(image: &Planes, settings: &Preprocessor) -> PatchedImage {
    let (side, merge) = (settings.patch_size, settings.merge_size);
    let (grid_h, grid_w) = (image.height / side, image.width / side);
    let levels = levels(settings);
    let mut pixel_values = Vec::with_capacity(grid_h * grid_w * settings.patch_len());
    let mut plane = vec![0.0; side * side];
    for (block_y, block_x) in raster(grid_h / merge, grid_w / merge) {
        for (y, x) in raster(merge, merge) {
            let top = (block_y * merge + y) * side;
            let left = (block_x * merge + x) * side;
            for (channel, levels) in levels.iter().enumerate() {
                let at = channel * image.width + left;
                for (i, out) in plane.chunks_exact_mut(side).enumerate() {
                    let bytes = &image.row(top + i)[at..at + side];
                    for (out, byte) in out.iter_mut().zip(bytes) {
                        *out = levels[usize::from(*byte)];
                    }
                }
                for _ in 0..settings.temporal_patch_size {
                    pixel_values.extend_from_slice(&plane);
                }
            }
        }
    }
    PatchedImage {
        pixel_values,
        grid_thw: [1, grid_h, grid_w],
    }
}

fn raster(height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}

/// The normalised value of every byte, per channel. Mean and deviation are brought to the scale of
/// bytes first and everything is f32, because that is what transformers' fused path does.
fn levels(settings: &Preprocessor) -> [[f32; 256]; 3] {
    let bytes_per_unit = (1.0 / settings.rescale_factor) as f32;
    std::array::from_fn(|channel| {
        let mean = settings.image_mean[channel] as f32 * bytes_per_unit;
        let std = settings.image_std[channel] as f32 * bytes_per_unit;
        std::array::from_fn(|byte| (byte as f32 - mean) / std)
    })
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
