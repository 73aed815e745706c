//! Several samples as one batch, right-padded or packed. B rows, T tokens (the longest row), P patches.

use std::ops::Range;

use crate::sample::{IGNORED, Sample};

#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// B
    pub rows: usize,
    /// T
    pub length: usize,
    /// Where each sample lies in `0..B * T`, in order.
    pub samples: Vec<Range<usize>>,
    /// [B, T], row-major like all the others.
    pub input_ids: Vec<u32>,
    /// [B, T], padding is [`IGNORED`].
    pub labels: Vec<i32>,
    /// [B, T], 1 for a real token.
    pub attention_mask: Vec<u8>,
    /// [3, B, T], padding is 0 as in transformers.
    pub position_ids: Vec<i32>,
    /// [P, C * T * P * P]: all images of all rows, in order.
    pub pixel_values: Vec<f32>,
    /// One per image, in the same order.
    pub grid_thw: Vec<[usize; 3]>,
}

/// Rows keep their order; `pad_token_id` fills the ends, up to a length that is a multiple of `multiple`.
pub fn collate(samples: &[Sample], pad_token_id: u32, multiple: usize) -> Batch {
    let rows = samples.len();
    let longest = samples.iter().map(Sample::len).max().unwrap_or(0);
    let length = longest.next_multiple_of(multiple);
    let mut batch = Batch {
        rows,
        length,
        samples: Vec::with_capacity(rows),
        input_ids: vec![pad_token_id; rows * length],
        labels: vec![IGNORED; rows * length],
        attention_mask: vec![0; rows * length],
        position_ids: vec![0; 3 * rows * length],
        pixel_values: Vec::with_capacity(patch_values(samples)),
        grid_thw: Vec::new(),
    };
    for (row, sample) in samples.iter().enumerate() {
        let at = row * length;
        let real = at..at + sample.len();
        batch.input_ids[real.clone()].copy_from_slice(&sample.input_ids);
        batch.labels[real.clone()].copy_from_slice(&sample.labels);
        batch.attention_mask[real.clone()].fill(1);
        batch.samples.push(real);
        for (axis, positions) in sample.position_ids.iter().enumerate() {
            let at = (axis * rows + row) * length;
            batch.position_ids[at..at + positions.len()].copy_from_slice(positions);
        }
        for image in &sample.images {
            batch.pixel_values.extend_from_slice(&image.pixel_values);
            batch.grid_thw.push(image.grid_thw);
        }
    }
    batch
}

/// The samples end to end in one row, with padding only after the last, up to a multiple of `multiple`.
/// Their positions start anew; that no token sees another sample is up to the attention, see
/// [`Batch::samples`].
pub fn pack(samples: &[Sample], pad_token_id: u32, multiple: usize) -> Batch {
    let real: usize = samples.iter().map(Sample::len).sum();
    let length = real.next_multiple_of(multiple);
    let padding = length - real;
    let mut batch = Batch {
        rows: 1,
        length,
        samples: Vec::with_capacity(samples.len()),
        input_ids: Vec::with_capacity(length),
        labels: Vec::with_capacity(length),
        attention_mask: vec![1; real],
        position_ids: Vec::with_capacity(3 * length),
        pixel_values: Vec::with_capacity(patch_values(samples)),
        grid_thw: Vec::new(),
    };
    for sample in samples {
        let start = batch.input_ids.len();
        batch.samples.push(start..start + sample.len());
        batch.input_ids.extend_from_slice(&sample.input_ids);
        batch.labels.extend_from_slice(&sample.labels);
        for image in &sample.images {
            batch.pixel_values.extend_from_slice(&image.pixel_values);
            batch.grid_thw.push(image.grid_thw);
        }
    }
    batch.input_ids.resize(length, pad_token_id);
    batch.labels.resize(length, IGNORED);
    batch.attention_mask.resize(length, 0);
    for axis in 0..3 {
        let positions = samples.iter().flat_map(|sample| &sample.position_ids[axis]);
        batch.position_ids.extend(positions);
        batch.position_ids.extend(vec![0; padding]);
    }
    batch
}

fn patch_values(samples: &[Sample]) -> usize {
    samples
        .iter()
        .flat_map(|sample| &sample.images)
        .map(|image| image.pixel_values.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::PatchedImage;

    #[test]
    fn short_rows_are_padded_on_the_right_and_images_are_laid_end_to_end() {
        let sample = |ids: &[u32], first: f32| Sample {
            id: String::new(),
            input_ids: ids.to_vec(),
            labels: ids.iter().map(|id| *id as i32).collect(),
            position_ids: std::array::from_fn(|axis| vec![axis as i32 + 1; ids.len()]),
            mm_token_type_ids: vec![0; ids.len()],
            images: vec![PatchedImage {
                pixel_values: vec![first, first + 1.0].into(),
                grid_thw: [1, 1, first as usize],
            }],
        };
        let batch = collate(&[sample(&[5], 1.0), sample(&[6, 7], 3.0)], 9, 1);
        assert_eq!((batch.rows, batch.length), (2, 2));
        assert_eq!(batch.samples, [0..1, 2..4]);
        assert_eq!(batch.input_ids, [5, 9, 6, 7]);
        assert_eq!(batch.labels, [5, IGNORED, 6, 7]);
        assert_eq!(batch.attention_mask, [1, 0, 1, 1]);
        assert_eq!(batch.position_ids, [1, 0, 1, 1, 2, 0, 2, 2, 3, 0, 3, 3]);
        assert_eq!(batch.pixel_values, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(batch.grid_thw, [[1, 1, 1], [1, 1, 3]]);

        let wide = collate(&[sample(&[5], 1.0), sample(&[6, 7], 3.0)], 9, 4);
        assert_eq!((wide.rows, wide.length), (2, 4));
        assert_eq!(wide.samples, [0..1, 4..6]);
        assert_eq!(wide.input_ids, [5, 9, 9, 9, 6, 7, 9, 9]);

        let wide = pack(&[sample(&[5], 1.0), sample(&[6, 7], 3.0)], 9, 4);
        assert_eq!((wide.rows, wide.length), (1, 4));
        assert_eq!(wide.samples, [0..1, 1..3]);
        assert_eq!(wide.input_ids, [5, 6, 7, 9]);
        assert_eq!(wide.labels, [5, 6, 7, IGNORED]);
        assert_eq!(wide.attention_mask, [1, 1, 1, 0]);
        assert_eq!(wide.position_ids, [1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 0]);

        let packed = pack(&[sample(&[5], 1.0), sample(&[6, 7], 3.0)], 9, 1);
        assert_eq!((packed.rows, packed.length), (1, 3));
        assert_eq!(packed.samples, [0..1, 1..3]);
        assert_eq!(packed.input_ids, [5, 6, 7]);
        assert_eq!(packed.labels, [5, 6, 7]);
        assert_eq!(packed.attention_mask, [1, 1, 1]);
        assert_eq!(packed.position_ids, [1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(packed.pixel_values, batch.pixel_values);
        assert_eq!(packed.grid_thw, batch.grid_thw);
    }
}
