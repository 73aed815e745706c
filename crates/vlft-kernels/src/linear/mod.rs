//! Products with a frozen matrix.

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

/// `x W^T + b`. `x`: `[N, in]`, `weight`: `[out, in]`, `bias`: `[out]`.
///
/// Weight and bias are constants to autodiff and may be held in 16 bits; they become the type of
/// `x` for the product, and only the weight as it is held is kept for the backward.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let _span = span(Family::Product);
    if !Path::has_kernel(&x) {
        return reference::linear(x, weight, bias);
    }
    let none = || Tensor::<1>::empty([0], &weight.device());
    let bias = bias.unwrap_or_else(none).into_dispatch();
    let y = Dispatch::fused_linear(x.into_dispatch(), weight.into_dispatch(), bias);
    Tensor::from_dispatch(y)
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait LinearOps: Backend {
    /// A bias without elements means none.
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

pub(crate) trait LinearGradients: LinearOps {
    /// `dy W`
    fn fused_linear_backward(dy: FloatTensor<Self>, weight: FloatTensor<Self>)
    -> FloatTensor<Self>;
}

impl<B: LinearGradients, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (node, weight) = (x.node(), weight.into_primitive());
        let y = B::fused_linear(x.into_primitive(), weight.clone(), bias.into_primitive());
        record::<B, C, 1>(Family::Product, [node], y, move |dy, _| {
            [Some(B::fused_linear_backward(dy, weight))]
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Distribution};

    use super::*;
    use crate::twins::{agree, tracked};

    const SIZES: [(usize, usize, usize); 3] = [(1, 1, 1), (7, 12, 10), (130, 96, 200)];

    #[test]
    fn linear_agrees_with_its_definition() {
        let device = Device::flex();
        for (n, inner, out) in SIZES {
            let weight = Tensor::<2>::random([out, inner], Distribution::Default, &device);
            let bias = Tensor::<1>::random([out], Distribution::Default, &device);
            for dtype in [DType::F32, DType::BF16] {
                let (weight, bias) = (weight.clone().cast(dtype), bias.clone().cast(dtype));
                for bias in [None, Some(bias)] {
                    agree(&[&tracked([n, inner])], 1e-4, |x| {
                        let slow = reference::linear(x[0].clone(), weight.clone(), bias.clone());
                        (linear(x[0].clone(), weight.clone(), bias.clone()), slow)
                    });
                }
            }
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_products_agree_with_their_definitions() {
        use crate::twins::gpu::agrees;

        for (n, inner, out) in [(1, 4, 3), (3, 12, 10), (40, 96, 72)] {
            let small = |shape: [usize; 2]| {
                let few = Distribution::Normal(0.0, 0.2);
                Tensor::<2>::random(shape, few, &Device::flex())
            };
            let bias = |x: &Tensor<2>| Some(x.clone().squeeze_dim::<1>(0));
            agrees(
                &[[n, inner]],
                &[small([out, inner]), small([1, out])],
                1e-4,
                |x, c| linear(x[0].clone(), c[0].clone(), bias(&c[1])),
                |x, c| reference::linear(x[0].clone(), c[0].clone(), bias(&c[1])),
            );
        }
    }
}
