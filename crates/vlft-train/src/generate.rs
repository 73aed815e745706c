//! Greedy decoding: the most likely token, again and again, until a token that ends the answer. For
//! looking at what a model answers while it trains, not for serving it.

use std::sync::atomic::{AtomicBool, Ordering};

use vlft_model::{Adapters, Inputs, Qwen3Vl};
use vlft_processor::sample::Sample;

/// What a model answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Without the token that ended it.
    pub ids: Vec<u32>,
    /// Whether the model ended it. If not, it was cut off at the limit.
    pub stopped: bool,
}

/// What ends an answer.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Tokens by which the model ends it.
    pub tokens: &'a [u32],
    pub max_new_tokens: usize,
    /// Raised from elsewhere: nobody waits for this answer any more.
    pub stop: &'a AtomicBool,
}

/// Continues `prompt` until one of the tokens that end an answer. Equal to transformers'
/// `generate(do_sample=False)`. Costs a forward of the text for each token. None: stopped.
pub fn greedy(model: &Qwen3Vl, adapters: &Adapters, prompt: &Sample, end: &End) -> Option<Answer> {
    let mut row = Row::new(prompt);
    let images = model.prompt_images(&row.with_images(prompt), adapters);
    let mut answer = Answer {
        ids: Vec::new(),
        stopped: false,
    };
    while answer.ids.len() < end.max_new_tokens {
        if end.stop.load(Ordering::SeqCst) {
            return None;
        }
        let logits = model.next_token_logits(&row.inputs(), &images, adapters);
        let next = largest(&logits);
        if end.tokens.contains(&next) {
            answer.stopped = true;
            break;
        }
        answer.ids.push(next);
        row.push(next);
    }
    Some(answer)
}

/// One row of the model's input, as long as it is now.
struct Row {
    ids: Vec<i32>,
    /// Time, height, width.
    positions: [Vec<i32>; 3],
    /// Of the next token, the same on all three axes.
    next: i32,
}

impl Row {
    fn new(prompt: &Sample) -> Self {
        let positions = prompt.position_ids.clone();
        // As transformers' `rope_deltas`: text goes on after the largest position on any axis.
        let largest = positions.iter().flatten().max();
        Self {
            ids: prompt.input_ids.iter().map(|id| *id as i32).collect(),
            next: largest.map_or(0, |position| position + 1),
            positions,
        }
    }

    fn push(&mut self, id: u32) {
        self.ids.push(id as i32);
        for axis in &mut self.positions {
            axis.push(self.next);
        }
        self.next += 1;
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            rows: 1,
            tokens: self.ids.len(),
            input_ids: self.ids.clone(),
            position_ids: self.positions.concat(),
            ..Inputs::default()
        }
    }

    fn with_images(&self, prompt: &Sample) -> Inputs {
        let images = &prompt.images;
        Inputs {
            pixel_values: images
                .iter()
                .flat_map(|image| image.pixel_values.iter().copied())
                .collect(),
            grid_thw: images.iter().map(|image| image.grid_thw).collect(),
            ..self.inputs()
        }
    }
}

/// The index of the largest value, the first of equals as in torch. NaN is never the largest.
fn largest(values: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] || (values[best].is_nan() && !value.is_nan()) {
            best = index;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_values_is_taken() {
        for (values, expected) in [
            (&[1.0, 3.0, 2.0, 3.0][..], 1),
            (&[f32::NAN, -1.0, f32::NAN, -0.5], 3),
            (&[f32::NAN], 0),
            (&[f32::NEG_INFINITY, f32::NEG_INFINITY], 0),
        ] {
            assert_eq!(largest(values), expected, "{values:?}");
        }
    }
}
