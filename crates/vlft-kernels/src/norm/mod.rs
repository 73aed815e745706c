//! Normalisation of rows. Weights and biases are frozen: constants to autodiff.

mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod reference;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::path::Path;
use crate::profile::{Family, span};
use crate::tape::record;

/// `x * rsqrt(mean(x^2) + eps) * weight` for each row. `x`: `[N, C]`, `weight`: `[C]`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let _span = span(Family::Norm);
    if !Path::has_kernel(&x) {
        return reference::rms_norm(x, weight, eps);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_rms_norm(x, weight, eps))
}

/// `(x - mean) * rsqrt(var + eps) * weight + bias` for each row, variance without Bessel's
/// correction. `x`: `[N, C]`, `weight`, `bias`: `[C]`.
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<2> {
    let _span = span(Family::Norm);
    if !Path::has_kernel(&x) {
        return reference::layer_norm(x, weight, bias, eps);
    }
    let (weight, bias) = (weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_layer_norm(
        x.into_dispatch(),
        weight,
        bias,
        eps,
    ))
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait NormOps: Backend {
    fn fused_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

pub(crate) trait NormGradients: NormOps {
    fn fused_rms_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;

    fn fused_layer_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

/// The input is all that is kept for the backward.
impl<B: NormGradients, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn fused_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (node, x, weight) = (x.node(), x.into_primitive(), weight.into_primitive());
        let y = B::fused_rms_norm(x.clone(), weight.clone(), eps);
        record::<B, C, 1>(Family::Norm, [node], y, move |dy, _| {
            [Some(B::fused_rms_norm_backward(dy, x, weight, eps))]
        })
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (node, x, weight) = (x.node(), x.into_primitive(), weight.into_primitive());
        let y = B::fused_layer_norm(x.clone(), weight.clone(), bias.into_primitive(), eps);
        record::<B, C, 1>(Family::Norm, [node], y, move |dy, _| {
            [Some(B::fused_layer_norm_backward(dy, x, weight, eps))]
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::twins::{agree, tracked};

    #[test]
    fn norms_agree_with_their_definitions() {
        let device = Device::flex();
        for (rows, columns) in [(1, 1), (7, 24), (300, 130)] {
            let vector = || Tensor::<1>::random([columns], Distribution::Default, &device);
            let (weight, bias) = (vector(), vector());
            let x = tracked([rows, columns]);
            agree(&[&x], 2e-6, |x| {
                let fast = rms_norm(x[0].clone(), weight.clone(), 1e-6);
                (
                    fast,
                    reference::rms_norm(x[0].clone(), weight.clone(), 1e-6),
                )
            });
            agree(&[&x], 2e-6, |x| {
                let fast = layer_norm(x[0].clone(), weight.clone(), bias.clone(), 1e-6);
                let slow = reference::layer_norm(x[0].clone(), weight.clone(), bias.clone(), 1e-6);
                (fast, slow)
            });
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_norms_agree_with_their_definitions() {
        use crate::twins::gpu::agrees;

        // One row, more columns than units, and a width that is no multiple of a vector.
        for [rows, columns] in [[1, 4], [7, 24], [3, 130], [5, 1100], [3, 4096]] {
            let random = || {
                let default = Distribution::Default;
                Tensor::<2>::random([1, columns], default, &Device::flex())
            };
            let constants = [random(), random()];
            let vector = |x: &Tensor<2>| x.clone().squeeze_dim::<1>(0);
            agrees(
                &[[rows, columns]],
                &constants,
                1e-5,
                |x, c| rms_norm(x[0].clone(), vector(&c[0]), 1e-6),
                |x, c| reference::rms_norm(x[0].clone(), vector(&c[0]), 1e-6),
            );
            agrees(
                &[[rows, columns]],
                &constants,
                1e-5,
                |x, c| layer_norm(x[0].clone(), vector(&c[0]), vector(&c[1]), 1e-6),
                |x, c| reference::layer_norm(x[0].clone(), vector(&c[0]), vector(&c[1]), 1e-6),
            );
        }
    }
}
