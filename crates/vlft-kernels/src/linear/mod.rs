//! Products with a frozen matrix, and the low-rank update beside it.

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

/// `y + s (x A^T) B^T`. `y`: `[N, out]`, `x`: `[N, in]`, `a`: `[r, in]`, `b`: `[out, r]`.
///
/// `y` is added to in place if it is not used elsewhere.
pub fn add_low_rank(
    y: Tensor<2>,
    x: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    let _span = span(Family::LowRank);
    if !Path::has_kernel(&x) {
        return reference::add_low_rank(y, x, a, b, scale);
    }
    let (y, x) = (y.into_dispatch(), x.into_dispatch());
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_add_low_rank(y, x, a, b, scale as f32))
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait LinearOps: Backend {
    /// A bias without elements means none.
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn fused_add_low_rank(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
}

pub(crate) trait LinearGradients: LinearOps {
    /// `dy W`
    fn fused_linear_backward(dy: FloatTensor<Self>, weight: FloatTensor<Self>)
    -> FloatTensor<Self>;

    /// `h = s x A^T`, the small middle of the low-rank update.
    fn low_rank_middle(x: FloatTensor<Self>, a: FloatTensor<Self>, scale: f32)
    -> FloatTensor<Self>;

    /// `y + h B^T`
    fn fused_add_low_rank_middle(
        y: FloatTensor<Self>,
        h: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Of x (if wanted), A and B.
    fn fused_add_low_rank_backward(
        dy: FloatTensor<Self>,
        kept: LowRank<Self>,
        wants_dx: bool,
    ) -> [Option<FloatTensor<Self>>; 3];
}

/// What [`add_low_rank`] keeps for its backward.
pub(crate) struct LowRank<B: Backend> {
    x: FloatTensor<B>,
    /// `s x A^T`, `[N, r]`.
    middle: FloatTensor<B>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    scale: f32,
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

    fn fused_add_low_rank(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let nodes = [y.node(), x.node(), a.node(), b.node()];
        let (x, a, b) = (x.into_primitive(), a.into_primitive(), b.into_primitive());
        let middle = B::low_rank_middle(x.clone(), a.clone(), scale);
        let sum = B::fused_add_low_rank_middle(y.into_primitive(), middle.clone(), b.clone());
        let kept = LowRank {
            x,
            middle,
            a,
            b,
            scale,
        };
        record::<B, C, 4>(
            Family::LowRank,
            nodes,
            sum,
            move |dy, [_, wants_dx, _, _]| {
                let [dx, da, db] = B::fused_add_low_rank_backward(dy.clone(), kept, wants_dx);
                [Some(dy), dx, da, db]
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Distribution};

    use super::*;
    use crate::twins::{agree, tracked};

    const SIZES: [(usize, usize, usize, usize); 3] =
        [(1, 1, 1, 1), (7, 12, 10, 3), (130, 96, 200, 16)];

    #[test]
    fn linear_agrees_with_its_definition() {
        let device = Device::flex();
        for (n, inner, out, _) in SIZES {
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
    fn the_low_rank_update_agrees_with_its_definition() {
        for (n, inner, out, rank) in SIZES {
            let y = tracked([n, out]);
            let x = tracked([n, inner]);
            let (a, b) = (tracked([rank, inner]), tracked([out, rank]));
            agree(&[&y, &x, &a, &b], 2e-4, |x| {
                let [y, x, a, b] = [0, 1, 2, 3].map(|i| x[i].clone());
                let slow = reference::add_low_rank(y.clone(), x.clone(), a.clone(), b.clone(), 0.7);
                (add_low_rank(y, x, a, b, 0.7), slow)
            });
        }
    }

    #[test]
    fn an_input_in_use_elsewhere_is_not_overwritten() {
        let device = Device::flex();
        let ones = |shape: [usize; 2]| Tensor::<2>::ones(shape, &device);
        let y = ones([2, 3]);
        let sum = add_low_rank(y.clone(), ones([2, 4]), ones([1, 4]), ones([3, 1]), 1.0);
        assert_eq!(y.into_data().iter::<f32>().sum::<f32>(), 6.0);
        assert_eq!(sum.into_data().iter::<f32>().sum::<f32>(), 30.0);
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_products_agree_with_their_definitions() {
        use crate::twins::gpu::agrees;

        for (n, inner, out, rank) in [(3, 12, 10, 2), (40, 96, 72, 16)] {
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
            agrees(
                &[[n, out], [n, inner], [rank, inner], [out, rank]],
                &[],
                2e-4,
                |x, _| {
                    let [y, x, a, b] = [0, 1, 2, 3].map(|i| x[i].clone());
                    add_low_rank(y, x, a, b, 0.1)
                },
                |x, _| {
                    let [y, x, a, b] = [0, 1, 2, 3].map(|i| x[i].clone());
                    reference::add_low_rank(y, x, a, b, 0.1)
                },
            );
        }
    }
}
