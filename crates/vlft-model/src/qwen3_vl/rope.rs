//! Rotary tables, computed on the host in f32 as transformers does, and sent once per batch.

use burn::tensor::{Device, Tensor, TensorData};
use vlft_checkpoint::{TextConfig, VisionConfig};

/// Cosines and sines, `[N, D]`, each half of D the same.
#[derive(Clone)]
pub(super) struct RotaryTables {
    pub(super) cos: Tensor<2>,
    pub(super) sin: Tensor<2>,
}

impl RotaryTables {
    /// `angles`: N runs of D/2 angles.
    fn new(angles: &[f32], half: usize, device: &Device) -> Self {
        let rows = angles.len() / half;
        let table = |f: fn(f32) -> f32| {
            let mut values = Vec::with_capacity(angles.len() * 2);
            for token in angles.chunks_exact(half) {
                values.extend(token.iter().map(|a| f(*a)));
                values.extend_from_within(values.len() - half..);
            }
            // By way of one dimension: a GPU would leave room between rows of this width, and every use
            // of the table would begin with a copy without it.
            let length = values.len();
            let values = Tensor::<1>::from_data(TensorData::new(values, [length]), device);
            values.reshape([rows, 2 * half])
        };
        Self {
            cos: table(f32::cos),
            sin: table(f32::sin),
        }
    }

    /// Interleaved M-RoPE. `position_ids`: `[3, B, T]` for time, height and width.
    ///
    /// Frequency j follows height if `j % 3 == 1` and `j < 3 * section[1]`, width if `j % 3 == 2`
    /// and `j < 3 * section[2]`, else time. `section[0]` is never read.
    pub(super) fn text(
        config: &TextConfig,
        position_ids: &[i32],
        rows: usize,
        tokens: usize,
        device: &Device,
    ) -> Self {
        let half = config.head_dim / 2;
        let inv_freq = inverse_frequencies(config.rope_theta, half);
        let [_, height, width] = config.mrope_section;
        let axis = |j: usize| match j % 3 {
            1 if j < 3 * height => 1,
            2 if j < 3 * width => 2,
            _ => 0,
        };
        let mut angles = Vec::with_capacity(rows * tokens * half);
        for token in 0..rows * tokens {
            angles.extend(inv_freq.iter().enumerate().map(|(j, frequency)| {
                position_ids[axis(j) * rows * tokens + token] as f32 * frequency
            }));
        }
        Self::new(&angles, half, device)
    }

    /// Two-dimensional rotary of the vision tower: half of the angles from the row, half from the
    /// column, over all patches as one row. theta is 10 000.
    pub(super) fn vision(
        config: &VisionConfig,
        patches: &[PatchPosition],
        device: &Device,
    ) -> Self {
        let half = config.hidden_size / config.num_heads / 2;
        let inv_freq = inverse_frequencies(10_000.0, half / 2);
        let mut angles = Vec::with_capacity(patches.len() * half);
        for patch in patches {
            for position in [patch.row, patch.column] {
                angles.extend(inv_freq.iter().map(|frequency| position as f32 * frequency));
            }
        }
        Self::new(&angles, half, device)
    }
}

/// `theta^(-j / n)` for j in 0..n, in f32.
fn inverse_frequencies(theta: f64, n: usize) -> Vec<f32> {
    (0..n)
        .map(|j| {
            let exponent = (2 * j) as f32 / (2 * n) as f32;
            1.0 / theta.powf(f64::from(exponent)) as f32
        })
        .collect()
}

/// Where a patch lies in its image, in patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PatchPosition {
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Positions of all patches of a `[t, h, w]` grid, in the order of the pixel rows: blocks of
/// `merge x merge` patches that become one token stay together.
pub(super) fn patch_positions(grid_thw: [usize; 3], merge: usize) -> Vec<PatchPosition> {
    let [frames, height, width] = grid_thw;
    let mut positions = Vec::with_capacity(frames * height * width);
    for _ in 0..frames {
        for block_row in 0..height / merge {
            for block_column in 0..width / merge {
                for row in 0..merge {
                    positions.extend((0..merge).map(|column| PatchPosition {
                        row: block_row * merge + row,
                        column: block_column * merge + column,
                    }));
                }
            }
        }
    }
    positions
}
