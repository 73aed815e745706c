//! What the Embedding and Reranker checkpoints give in place of an answer: both read the last token of
//! one row, as the code published with them does.

use burn::tensor::{DType, Tensor};

use super::{Inputs, Qwen3Vl};
use crate::linear::as_type;
use crate::lora::Adapters;

impl Qwen3Vl {
    /// The final hidden state of the last token, scaled to length 1: `[d]`. `inputs` is one row without
    /// padding.
    pub fn embedding(&self, inputs: &Inputs, adapters: &Adapters) -> Vec<f32> {
        let state = self.last_state(inputs, adapters);
        let values: Vec<f32> = as_type(state, DType::F32).into_data().iter().collect();
        let squares = values.iter().map(|x| f64::from(*x) * f64::from(*x));
        // As torch's `normalize`, which divides by no less than this.
        let length = squares.sum::<f64>().sqrt().max(1e-12);
        let scaled = values.into_iter().map(|x| (f64::from(x) / length) as f32);
        scaled.collect()
    }

    /// How much likelier the token `yes` is than the token `no` after the last one, as a logit: the
    /// probability of `yes` among the two is its sigmoid. `inputs` is one row without padding.
    pub fn preference(&self, inputs: &Inputs, yes: u32, no: u32, adapters: &Adapters) -> f32 {
        let state = self.last_state(inputs, adapters);
        let logits: Vec<f32> = self.head().product(state).into_data().iter().collect();
        logits[yes as usize] - logits[no as usize]
    }

    /// `[1, d]`, after the final norm.
    fn last_state(&self, inputs: &Inputs, adapters: &Adapters) -> Tensor<2> {
        assert_eq!(inputs.rows, 1, "one row is looked at");
        let hidden = self.hidden_states(inputs, adapters, &mut |_, _| {});
        let last = hidden.select(0, self.rows(&[inputs.tokens as i32 - 1]));
        self.language_model.norm.forward(last)
    }
}
