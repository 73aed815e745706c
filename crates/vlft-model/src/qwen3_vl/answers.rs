//! What a model says where an answer is supervised, in two halves: the states before the head, which
//! are small, and the head by itself. Two models can so be compared logit by logit without being in
//! memory at the same time.

use burn::tensor::{DType, Tensor};
use vlft_kernels::cross_entropy::cross_entropy;
use vlft_kernels::widened;

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
        as_type(self.normal_states(inputs, targets, adapters), DType::F32)
    }

    /// The same in the type of the activations.
    fn normal_states(&self, inputs: &Inputs, targets: &Targets, adapters: &Adapters) -> Tensor<2> {
        let hidden = self.hidden_states(inputs, adapters, &mut |_, _| {});
        let rows = hidden.select(0, self.rows(&targets.rows));
        self.language_model.norm.forward(rows)
    }

    /// Negative log-likelihood of each target, in nats.
    pub fn nll(&self, inputs: &Inputs, targets: &Targets, adapters: &Adapters) -> Vec<f32> {
        let states = widened(self.normal_states(inputs, targets, adapters));
        nll(states, self.head(), &targets.ids)
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
        nll(states, &self.0, ids)
    }
}

fn nll(states: Tensor<2>, head: &Weight, ids: &[i32]) -> Vec<f32> {
    let head = head.matrix(states.dtype());
    let nll = cross_entropy(states, &head, ids, false).nll;
    nll.into_data().iter::<f32>().collect()
}
