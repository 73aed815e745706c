//! The experts of a mixture: every row goes through the SwiGLUs of a few experts, and what they make of
//! it is added up by the router's weights. The matrices are frozen; the gradient goes to the rows and to
//! the weights.
//!
//! On the CPU all of it is one operation (`cpu.rs`): a group's rows stay in the cache from the first
//! product to the last. Elsewhere it is made of the operations of [`crate::grouped`].

mod cpu;
mod dense;
mod few_rows;
mod held;
mod router;
mod stack;
mod turned;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

pub(crate) use dense::DenseStack;
use held::Held;
pub(crate) use held::{floats, integers};
pub use router::{best, weights, weights_by_definition};
pub use stack::Stack;

use crate::activation;
use crate::grouped::{Groups, collect, spread};
use crate::path::Path;
use crate::profile::{Family, span};
use crate::tape::record;

/// What a forward is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Values,
    /// The tape alone, as in the second run of a checkpointed block, whose output nobody looks at: the
    /// values may be zeros.
    Gradients,
}

/// `x`: `[N, d]`, `weights`: `[N, experts per row]`, `gate_up`: d to 2 I (gate first), `down`: I to d
/// -> `[N, d]`, f32. Sums have one order whatever the threads are.
pub fn experts(
    x: Tensor<2>,
    weights: Tensor<2>,
    gate_up: &Stack,
    down: &Stack,
    groups: &Arc<Groups>,
    wanted: Wanted,
) -> Tensor<2> {
    if !Path::is_host(&x) {
        return in_steps(x, weights, gate_up, down, groups);
    }
    let _span = span(Family::Experts);
    assert_eq!(x.dims()[0], groups.rows(), "every row is sent somewhere");
    assert_eq!(
        weights.dims(),
        [groups.rows(), groups.per_row()],
        "a weight for every copy"
    );
    let held = [gate_up, down].map(|stack| Held::new(stack, groups.count()));
    Tensor::from_dispatch(Dispatch::fused_experts(
        x.into_dispatch(),
        weights.into_dispatch(),
        Arc::new(held),
        groups.clone(),
        wanted,
    ))
}

/// Step by step, all copies of the rows at once.
fn in_steps(
    x: Tensor<2>,
    weights: Tensor<2>,
    gate_up: &Stack,
    down: &Stack,
    groups: &Arc<Groups>,
) -> Tensor<2> {
    let gate_up = gate_up.product(spread(x, groups), groups);
    let y = down.product(swiglu_halves(gate_up), groups);
    collect(y, weights, groups)
}

/// SwiGLU of `[S, 2 I]` whose left half is the gate.
pub fn swiglu_halves(gate_up: Tensor<2>) -> Tensor<2> {
    let [rows, both] = gate_up.dims();
    let width = both / 2;
    let gate = gate_up.clone().slice([0..rows, 0..width]);
    let up = gate_up.slice([0..rows, width..both]);
    activation::swiglu(gate, up)
}

/// Gate and up, and down.
type Projections = Arc<[Held; 2]>;

#[backend_extension(Autodiff, Flex)]
pub(crate) trait ExpertOps: Backend {
    fn fused_experts(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        projections: Projections,
        groups: Arc<Groups>,
        wanted: Wanted,
    ) -> FloatTensor<Self>;
}

pub(crate) trait ExpertGradients: ExpertOps {
    /// The output, and gates and ups of all copies, `[S, 2 I]`.
    fn fused_experts_keeping(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        projections: &[Held; 2],
        groups: &Groups,
    ) -> [FloatTensor<Self>; 2];

    /// Of the rows and of the weights.
    fn fused_experts_backward(
        dy: FloatTensor<Self>,
        kept: Kept<FloatTensor<Self>>,
        weights: FloatTensor<Self>,
        projections: &[Held; 2],
        groups: &Groups,
    ) -> [FloatTensor<Self>; 2];
}

/// What waits for the backward. What the experts made of their hidden states need not: the matrices are
/// constants, and the gradient of a weight is found on the way down.
pub(crate) enum Kept<T> {
    /// Gates and ups are made again, expert by expert, while its matrix is at hand for the way back.
    Rows(T),
    /// Of all copies.
    GatesAndUps(T),
}

impl<B: ExpertGradients, C: CheckpointStrategy> ExpertOps for Autodiff<B, C> {
    fn fused_experts(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        projections: Projections,
        groups: Arc<Groups>,
        wanted: Wanted,
    ) -> FloatTensor<Self> {
        use burn::backend::TensorMetadata;

        let nodes = [x.node(), weights.node()];
        let (x, weights) = (x.into_primitive(), weights.into_primitive());
        let (y, kept) = match wanted {
            Wanted::Gradients => {
                let (shape, device) = (x.shape(), x.device());
                let zeros = B::float_zeros(shape, &device, x.dtype().into());
                (zeros, Kept::Rows(x))
            }
            Wanted::Values => {
                let [y, gate_up] =
                    B::fused_experts_keeping(x, weights.clone(), &projections, &groups);
                (y, Kept::GatesAndUps(gate_up))
            }
        };
        record::<B, C, 2>(Family::Experts, nodes, y, move |dy, _| {
            B::fused_experts_backward(dy, kept, weights, &projections, &groups).map(Some)
        })
    }
}

#[cfg(test)]
mod tests;
