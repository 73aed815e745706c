//! The mixture of experts that stands in place of a dense MLP: a router that sends every token to a few
//! experts, and their SwiGLUs side by side. All of it is frozen; the gradient goes to the tokens, through
//! the experts and through the router's weights, as in transformers.
//!
//! transformers adds a loss that balances the router only where `output_router_logits` asks for it, which
//! no published config does; here there is none.

use std::sync::Arc;

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};
use vlft_base::Result;
use vlft_checkpoint::ExpertConfig;
use vlft_kernels::experts::{self, Stack, Wanted, swiglu_halves};
use vlft_kernels::grouped::Groups;

use super::loader::Loader;
use crate::linear::{Linear, as_type};
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
    pub(super) fn forward(&self, x: Tensor<2>, adapters: &Adapters, wanted: Wanted) -> Tensor<2> {
        let dtype = x.dtype();
        let logits = as_type(self.gate.forward(x.clone(), adapters), DType::F32);
        let routes = self.route(logits);
        let x = as_type(x, DType::F32);
        let y = match self.one_by_one {
            false => {
                let Routes { groups, weights } = &routes;
                let (gate_up, down) = (&self.gate_up_proj, &self.down_proj);
                experts::experts(x, weights.clone(), gate_up, down, groups, wanted)
            }
            true => self.looped(x, &routes),
        };
        as_type(y, dtype)
    }

    fn route(&self, logits: Tensor<2>) -> Routes {
        let per_token = self.experts_per_token;
        let chosen = experts::best(&logits, per_token);
        let groups = Arc::new(Groups::new(&chosen, per_token, self.experts));
        let weights = match self.one_by_one {
            false => experts::weights(logits, &chosen, per_token),
            true => experts::weights_by_definition(logits, &chosen, per_token),
        };
        Routes { groups, weights }
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
