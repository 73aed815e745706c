//! How an operation with a backward of its own gets onto burn's autodiff tape.

use std::fmt;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

use crate::profile::{Family, span};

/// The tracked output `y` of an operation whose differentiable inputs are `inputs`.
///
/// `backward` gets the gradient of `y` and which inputs want theirs, and returns those; what it
/// captures is what is kept between the passes. It is dropped at once if no input is tracked. Its time
/// is `family`'s, if it takes any.
pub(crate) fn record<B: Backend, C: CheckpointStrategy, const N: usize>(
    family: impl Into<Option<Family>>,
    inputs: [NodeGuard; N],
    y: FloatTensor<B>,
    backward: impl FnOnce(FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + 'static,
) -> FloatTensor<Autodiff<B, C>> {
    // Everything is kept: burn's own checkpointing of single operations is not used.
    match Step(family.into(), backward)
        .prepare::<C>(inputs)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prepared) => prepared.finish((), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

struct Step<F>(Option<Family>, F);

impl<F> fmt::Debug for Step<F> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(std::any::type_name::<F>())
    }
}

impl<B, F, const N: usize> Backward<B, N> for Step<F>
where
    B: Backend,
    F: FnOnce(FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + 'static,
{
    type State = ();

    fn backward(self, ops: Ops<(), N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let _span = self.0.map(span);
        let dy = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = (self.1)(dy, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}
