//! What a model says where an answer is supervised, in two halves: the states before the head, which
//! are small, and the head by itself. Two models can so be compared logit by logit without being in
//! memory at the same time.

use burn::tensor::{DType, Tensor};
use vlft_kernels::cross_entropy::cross_entropy;

use super::{Inputs, Qwen3Vl, Targets};
use crate::linear::{Weight, as_type};
use crate::lora::Adapters;

/// The head of a model without the rest of it.
pub struct Head(Weight);

impl Qwen3Vl {
    /// Final hidden states of the rows that predict a target, `[targets, d]` in f32.
    pub fn target_states(
        &self,
        inputs: &Inputs,
        targets: &Targets,
        adapters: &Adapters,
    ) -> Tensor<2> {
        let hidden = self.hidden_states(inputs, adapters, &mut |_, _| {});
        let rows = hidden.select(0, self.rows(&targets.rows));
        as_type(self.language_model.norm.forward(rows), DType::F32)
    }

    /// Negative log-likelihood of each target, in nats.
    pub fn nll(&self, inputs: &Inputs, targets: &Targets, adapters: &Adapters) -> Vec<f32> {
        let states = self.target_states(inputs, targets, adapters);
        cross_entropy(states, &self.head().matrix(), &targets.ids, false).nll
    }

    /// The head, which stays when the model goes.
    pub fn head_alone(&self) -> Head {
        Head(self.head().clone())
    }
}

impl Head {
    /// Logits of some of the states, `[n, V]`. Memory grows with V: ask for a few rows at a time.
    pub fn logits(&self, states: Tensor<2>) -> Tensor<2> {
        self.0.product(states)
    }

    /// Negative log-likelihood of each target, in nats, as [`Qwen3Vl::nll`] has it.
    pub fn nll(&self, states: Tensor<2>, ids: &[i32]) -> Vec<f32> {
        cross_entropy(states, &self.0.matrix(), ids, false).nll
    }
}
