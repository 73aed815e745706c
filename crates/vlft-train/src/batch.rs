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

impl MicroBatch {
    /// One right-padded row per sample. `weights`: how much each sample's tokens count.
    pub(crate) fn padded(samples: &[Sample], weights: &[f32], pad_token_id: u32) -> Self {
        let tokens = samples.iter().map(Sample::len).sum();
        let batch = collate(samples, pad_token_id);
        Self {
            targets: targets(&batch, weights),
            inputs: inputs(batch),
            tokens,
        }
    }

    /// All samples end to end in one row, each attending to itself only.
    pub(crate) fn packed(samples: &[Sample], weights: &[f32]) -> Self {
        let batch = pack(samples);
        let segments = batch.samples.iter().map(Range::len).collect();
        Self {
            tokens: batch.length,
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
