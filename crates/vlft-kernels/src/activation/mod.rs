//! Gated and Gaussian activations.

mod cpu;
#[cfg(feature = "cube")]
mod cube;
pub(crate) mod reference;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::path::Path;
use crate::profile::{Family, span};
use crate::tape::record;

/// `silu(gate) * up`, the feed-forward gate of the language model. `[N, C]` each.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let _span = span(Family::Activation);
    if !Path::has_kernel(&gate) {
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
    if !Path::has_kernel(&x) {
        return reference::gelu_tanh(x);
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch(), Gelu::Tanh))
}

/// GELU with the exact error function, as the mergers use it.
pub fn gelu_erf(x: Tensor<2>) -> Tensor<2> {
    let _span = span(Family::Activation);
    if !Path::has_kernel(&x) {
        return reference::gelu_erf(x);
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch(), Gelu::Erf))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gelu {
    Tanh,
    Erf,
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
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

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_activations_agree_with_their_definitions() {
        use crate::twins::gpu::agrees;

        for shape in [[1, 1], [7, 33], [40, 128]] {
            let swiglu_of = |x: &[Tensor<2>]| swiglu(x[0].clone(), x[1].clone());
            let definition = |x: &[Tensor<2>]| reference::swiglu(x[0].clone(), x[1].clone());
            agrees(
                &[shape, shape],
                &[],
                1e-5,
                |x, _| swiglu_of(x),
                |x, _| definition(x),
            );
            agrees(
                &[shape],
                &[],
                1e-5,
                |x, _| gelu_tanh(x[0].clone()),
                |x, _| reference::gelu_tanh(x[0].clone()),
            );
            agrees(
                &[shape],
                &[],
                1e-5,
                |x, _| gelu_erf(x[0].clone()),
                |x, _| reference::gelu_erf(x[0].clone()),
            );
        }
    }
}
