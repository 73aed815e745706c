//! Gated and Gaussian activations.

mod cpu;
mod reference;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::host::is_host_f32;
use crate::profile::{Family, span};
use crate::tape::record;

/// `silu(gate) * up`, the feed-forward gate of the language model. `[N, C]` each.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let _span = span(Family::Activation);
    if !is_host_f32(&gate) {
        return reference::swiglu(gate, up);
    }
    Tensor::from_dispatch(Dispatch::fused_swiglu(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// GELU in its tanh form, `gelu_pytorch_tanh`:
/// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
pub fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    let _span = span(Family::Activation);
    if !is_host_f32(&x) {
        return reference::gelu_tanh(x);
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch(), Gelu::Tanh))
}

/// GELU with the exact error function, as the mergers use it.
pub fn gelu_erf(x: Tensor<2>) -> Tensor<2> {
    let _span = span(Family::Activation);
    if !is_host_f32(&x) {
        return reference::gelu_erf(x);
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch(), Gelu::Erf))
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Gelu {
    Tanh,
    Erf,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait ActivationOps: Backend {
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    fn fused_gelu(x: FloatTensor<Self>, form: Gelu) -> FloatTensor<Self>;
}

pub(crate) trait ActivationGradients: ActivationOps {
    /// Of gate and up.
    fn fused_swiglu_backward(
        dy: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];

    fn fused_gelu_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        form: Gelu,
    ) -> FloatTensor<Self>;
}

impl<B: ActivationGradients, C: CheckpointStrategy> ActivationOps for Autodiff<B, C> {
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [gate.node(), up.node()];
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        let y = B::fused_swiglu(gate.clone(), up.clone());
        record::<B, C, 2>(Family::Activation, nodes, y, move |dy, _| {
            B::fused_swiglu_backward(dy, gate, up).map(Some)
        })
    }

    fn fused_gelu(x: FloatTensor<Self>, form: Gelu) -> FloatTensor<Self> {
        let (node, x) = (x.node(), x.into_primitive());
        let y = B::fused_gelu(x.clone(), form);
        record::<B, C, 1>(Family::Activation, [node], y, move |dy, _| {
            [Some(B::fused_gelu_backward(dy, x, form))]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twins::{agree, tracked};

    #[test]
    fn activations_agree_with_their_definitions() {
        for shape in [[1, 1], [7, 33], [200, 150]] {
            let (x, up) = (tracked(shape), tracked(shape));
            agree(&[&x, &up], 1e-6, |x| {
                let slow = reference::swiglu(x[0].clone(), x[1].clone());
                (swiglu(x[0].clone(), x[1].clone()), slow)
            });
            agree(&[&x], 2e-6, |x| {
                (gelu_tanh(x[0].clone()), reference::gelu_tanh(x[0].clone()))
            });
            agree(&[&x], 2e-6, |x| {
                (gelu_erf(x[0].clone()), reference::gelu_erf(x[0].clone()))
            });
        }
    }
}
