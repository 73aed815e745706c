//! Samples as the model takes them: one forward and backward pass worth of data.

use std::ops::Range;

use vlft_model::{Inputs, Targets};
use vlft_processor::collate::{Batch, collate, pack};
use vlft_processor::sample::{IGNORED, Sample};

/// One forward and backward pass worth of data.
pub struct MicroBatch {
    pub inputs: Inputs,
    pub targets: Targets,
    /// Real tokens, padding not counted.
    pub tokens: usize,
}

/// What fills the ends of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Padding {
    pub(crate) token_id: u32,
    /// Rows are as long as a multiple of it.
    pub(crate) multiple: usize,
}

impl Padding {
    /// For rows that are all equally long, such as one.
    pub(crate) const NONE: Self = Self {
        token_id: 0,
        multiple: 1,
    };
}

impl MicroBatch {
    /// One right-padded row per sample. `weights`: how much each sample's tokens count.
    pub(crate) fn padded(samples: &[Sample], weights: &[f32], padding: Padding) -> Self {
        let tokens = samples.iter().map(Sample::len).sum();
        let batch = collate(samples, padding.token_id, padding.multiple);
        Self {
            targets: targets(&batch, weights),
            inputs: inputs(batch),
            tokens,
        }
    }

    /// All samples end to end in one row, each attending to itself only, as the padding after them does.
    pub(crate) fn packed(samples: &[Sample], weights: &[f32], padding: Padding) -> Self {
        let batch = pack(samples, padding.token_id, padding.multiple);
        let mut segments: Vec<usize> = batch.samples.iter().map(Range::len).collect();
        let tokens = segments.iter().sum();
        if tokens < batch.length {
            segments.push(batch.length - tokens);
        }
        Self {
            tokens,
            targets: targets(&batch, weights),
            inputs: Inputs {
                segments,
                ..inputs(batch)
            },
        }
    }

    /// Tokens that are computed and mean nothing.
    pub fn padding(&self) -> usize {
        self.inputs.rows * self.inputs.tokens - self.tokens
    }
}

/// The hidden state at t - 1 predicts the label at t; the first token of a sample is never predicted.
fn targets(batch: &Batch, weights: &[f32]) -> Targets {
    let mut targets = Targets::default();
    for (range, weight) in batch.samples.iter().zip(weights) {
        for at in range.clone().skip(1) {
            if batch.labels[at] != IGNORED {
                targets.rows.push(at as i32 - 1);
                targets.ids.push(batch.labels[at]);
                targets.weights.push(*weight);
            }
        }
    }
    // Weights that change nothing are not even multiplied with.
    if targets.weights.iter().all(|weight| *weight == 1.0) {
        targets.weights.clear();
    }
    targets
}

fn inputs(batch: Batch) -> Inputs {
    Inputs {
        rows: batch.rows,
        tokens: batch.length,
        input_ids: batch.input_ids.into_iter().map(|id| id as i32).collect(),
        position_ids: batch.position_ids,
        pixel_values: batch.pixel_values,
        grid_thw: batch.grid_thw,
        segments: Vec::new(),
        neftune: None,
    }
}
