//! The mixture of experts that stands in place of a dense MLP: a router that sends every token to a few
//! experts, and their SwiGLUs side by side. All of it is frozen; the gradient goes to the tokens, through
//! the experts and through the router's weights, as in transformers.
//!
//! transformers adds a loss that balances the router only where `output_router_logits` asks for it, which
//! no published config does; here there is none.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};
use vlft_base::Result;
use vlft_checkpoint::ExpertConfig;
use vlft_kernels::activation;
use vlft_kernels::grouped::{Groups, collect, spread};

use super::loader::Loader;
use crate::linear::{Linear, Stack, as_type};
use crate::lora::Adapters;

pub(super) struct SparseMlp {
    gate: Linear,
    /// `[experts, 2 I, d]`, gate above up.
    gate_up_proj: Stack,
    /// `[experts, d, I]`
    down_proj: Stack,
    experts: usize,
    experts_per_token: usize,
    one_by_one: bool,
}

/// Where the tokens go.
struct Routes {
    groups: Arc<Groups>,
    /// Of each token's experts, `[N, experts per token]`, f32; they add up to 1.
    weights: Tensor<2>,
}

impl SparseMlp {
    /// `path`: `model.language_model.layers.N.mlp`.
    pub(super) fn load(path: &str, config: &ExpertConfig, loader: &Loader) -> Result<Self> {
        Ok(Self {
            gate: loader.linear(&format!("{path}.gate"))?,
            gate_up_proj: loader.stack(&format!("{path}.experts.gate_up_proj"))?,
            down_proj: loader.stack(&format!("{path}.experts.down_proj"))?,
            experts: config.num_experts,
            experts_per_token: config.num_experts_per_tok,
            one_by_one: false,
        })
    }

    /// See [`super::Qwen3Vl::with_experts_one_by_one`].
    pub(super) fn one_by_one(&mut self) {
        self.one_by_one = true;
    }

    /// `[N, d]` -> `[N, d]`. Experts compute in f32 whatever the type of `x`: their products are short,
    /// and a token's share of each is rounded once, in the sum.
    pub(super) fn forward(&self, x: Tensor<2>, adapters: &Adapters) -> Tensor<2> {
        let dtype = x.dtype();
        let logits = as_type(self.gate.forward(x.clone(), adapters), DType::F32);
        let routes = self.route(logits);
        let x = as_type(x, DType::F32);
        let y = match self.one_by_one {
            false => self.grouped(x, &routes),
            true => self.looped(x, &routes),
        };
        as_type(y, dtype)
    }

    /// Softmax over all experts, the best few of it, these scaled to add up to 1: which is the softmax
    /// over the best few alone. Among equals the first expert goes first.
    fn route(&self, logits: Tensor<2>) -> Routes {
        let [tokens, experts] = logits.dims();
        let values: Vec<f32> = logits.to_data().iter::<f32>().collect();
        let mut chosen = Vec::with_capacity(tokens * self.experts_per_token);
        for row in values.chunks_exact(experts) {
            chosen.extend(best(row, self.experts_per_token));
        }
        let indices = chosen.iter().map(|expert| *expert as i32).collect();
        let indices = TensorData::new::<i32, _>(indices, [tokens, self.experts_per_token]);
        let indices = Tensor::<2, Int>::from_data(indices, &logits.device());
        let groups = Groups::new(&chosen, self.experts_per_token, self.experts);
        Routes {
            groups: Arc::new(groups),
            weights: softmax(logits.gather(1, indices), 1),
        }
    }

    /// Tokens sorted by expert, one grouped product for each projection.
    fn grouped(&self, x: Tensor<2>, routes: &Routes) -> Tensor<2> {
        let Routes { groups, weights } = routes;
        let gate_up = self.gate_up_proj.product(spread(x, groups), groups);
        let hidden = swiglu_halves(gate_up);
        let y = self.down_proj.product(hidden, groups);
        collect(y, weights.clone(), groups)
    }

    /// The definition: one expert after the other, on the tokens that come to it.
    fn looped(&self, x: Tensor<2>, routes: &Routes) -> Tensor<2> {
        let Routes { groups, weights } = routes;
        let device = x.device();
        let (rows, places) = (groups.row_indices(&device), groups.place_indices(&device));
        let places = places.to_data().iter::<i32>().collect::<Vec<_>>();
        let mut choice_of = vec![0i32; places.len()];
        for (choice, place) in places.iter().enumerate() {
            choice_of[*place as usize] = choice as i32;
        }
        let choices = TensorData::new(choice_of, [places.len()]);
        let choices = Tensor::<1, Int>::from_data(choices, &device);
        let weights = weights.clone().reshape([places.len(), 1]);
        let mut y = Tensor::zeros(x.dims(), &device);
        for expert in 0..self.experts {
            let range = groups.range(expert);
            if range.is_empty() {
                continue;
            }
            let tokens = rows.clone().slice([range.clone()]);
            let weight = weights.clone().select(0, choices.clone().slice([range]));
            let here = x.clone().select(0, tokens.clone());
            let gate_up = here.matmul(self.gate_up_proj.matrix(expert, self.experts));
            let hidden = swiglu_halves(gate_up);
            let out = hidden.matmul(self.down_proj.matrix(expert, self.experts));
            y = y.select_assign(0, tokens, out * weight, IndexingUpdateOp::Add);
        }
        y
    }
}

/// Places of the `count` largest values, the largest first; among equals the first goes first. A few
/// of many are kept in order while the values go by, which is faster than to sort.
fn best(values: &[f32], count: usize) -> Vec<u32> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
    for (place, value) in (0..).zip(values) {
        let is_smaller = |other: &f32| other.total_cmp(value).is_lt();
        if best.len() == count && !best.last().is_some_and(|(last, _)| is_smaller(last)) {
            continue;
        }
        let at = best.partition_point(|(other, _)| !is_smaller(other));
        best.insert(at, (*value, place));
        best.truncate(count);
    }
    best.into_iter().map(|(_, place)| place).collect()
}

/// SwiGLU of `[S, 2 I]` whose left half is the gate.
fn swiglu_halves(gate_up: Tensor<2>) -> Tensor<2> {
    let [rows, both] = gate_up.dims();
    let width = both / 2;
    let gate = gate_up.clone().slice([0..rows, 0..width]);
    let up = gate_up.slice([0..rows, width..both]);
    activation::swiglu(gate, up)
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_best_few_are_those_of_a_whole_sort() {
        let mut state = 1u32;
        for count in [1, 2, 8, 16] {
            for _ in 0..200 {
                // Few different values, so that many are equal.
                let values: Vec<f32> = (0..16)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        ((state >> 28) as f32 - 7.0) * 0.5
                    })
                    .collect();
                let mut sorted: Vec<u32> = (0..16).collect();
                sorted.sort_by(|a, b| {
                    let (left, right) = (values[*a as usize], values[*b as usize]);
                    right.total_cmp(&left).then(a.cmp(b))
                });
                assert_eq!(best(&values, count), sorted[..count], "{values:?}");
            }
        }
    }
}
