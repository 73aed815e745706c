//! Products of rows sorted into groups, each with a matrix of its own: the experts of a mixture.
//!
//! [`spread`] copies the rows to their groups, [`linear`] (or [`crate::nf4::Nf4Matrix::grouped_linear`])
//! multiplies each group by its matrix, [`collect`] adds the copies of a row up again. All of it is in
//! f32, and sums have one order whatever the threads are.

mod cpu;
#[cfg(feature = "cube")]
pub(crate) mod cube;
mod groups;
pub(crate) mod reference;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};

pub(crate) use cpu::products;
pub use groups::Groups;

use crate::path::Path;
use crate::profile::{Family, span};
use crate::tape::record;

/// How the matrix of each group lies in a stack of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `[groups, in, out]`, as published checkpoints have fused experts.
    InOut,
    /// `[groups, out, in]`, as transformers 5 holds and saves them, and as any other linear layer lies.
    OutIn,
}

impl Order {
    /// `in` of a stack of this shape.
    pub fn inputs(self, [_, rows, columns]: [usize; 3]) -> usize {
        match self {
            Order::InOut => rows,
            Order::OutIn => columns,
        }
    }

    /// `out` of a stack of this shape.
    pub fn outputs(self, [_, rows, columns]: [usize; 3]) -> usize {
        match self {
            Order::InOut => columns,
            Order::OutIn => rows,
        }
    }
}

/// Groups are in f32 everywhere.
pub(crate) fn has_kernel(x: &Tensor<2>) -> bool {
    x.dtype() == DType::F32 && Path::has_kernel(x)
}

/// The copies of the rows, sorted by group: `[N, d]` -> `[S, d]`.
pub fn spread(x: Tensor<2>, groups: &Arc<Groups>) -> Tensor<2> {
    let _span = span(Family::Experts);
    assert_eq!(x.dims()[0], groups.rows(), "every row is sent somewhere");
    if !has_kernel(&x) {
        return reference::spread(x, groups);
    }
    Tensor::from_dispatch(Dispatch::fused_spread(x.into_dispatch(), groups.clone()))
}

/// The weighted sum of each row's copies: `y`: `[S, d]`, `weights`: `[N, per row]` -> `[N, d]`.
pub fn collect(y: Tensor<2>, weights: Tensor<2>, groups: &Arc<Groups>) -> Tensor<2> {
    let _span = span(Family::Experts);
    assert_eq!(y.dims()[0], groups.copies(), "a row for every copy");
    assert_eq!(
        weights.dims(),
        [groups.rows(), groups.per_row()],
        "a weight for every copy"
    );
    if !has_kernel(&y) {
        return reference::collect(y, weights, groups);
    }
    let (y, weights) = (y.into_dispatch(), weights.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_collect(y, weights, groups.clone()))
}

/// Each group's rows times its matrix: `[S, in]` -> `[S, out]`, f32.
///
/// The matrices are constants to autodiff and may be held in 16 bits; one becomes f32 for its
/// product only, and nothing but the stack as it is held waits for the backward.
pub fn linear(x: Tensor<2>, weights: Tensor<3>, order: Order, groups: &Arc<Groups>) -> Tensor<2> {
    let _span = span(Family::Experts);
    assert_eq!(x.dims()[0], groups.copies(), "a row for every copy");
    assert_eq!(
        weights.dims()[0],
        groups.count(),
        "a matrix for every group"
    );
    if !has_kernel(&x) {
        return reference::linear(x, weights, order, groups);
    }
    let (x, weights) = (x.into_dispatch(), weights.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_grouped_linear(
        x,
        weights,
        order,
        groups.clone(),
    ))
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait GroupedOps: Backend {
    fn fused_spread(x: FloatTensor<Self>, groups: Arc<Groups>) -> FloatTensor<Self>;

    fn fused_collect(
        y: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        groups: Arc<Groups>,
    ) -> FloatTensor<Self>;

    fn fused_grouped_linear(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        order: Order,
        groups: Arc<Groups>,
    ) -> FloatTensor<Self>;
}

pub(crate) trait GroupedGradients: GroupedOps {
    /// The sum of each row's copies, in the order of its choices.
    fn fused_spread_backward(dy: FloatTensor<Self>, groups: &Groups) -> FloatTensor<Self>;

    /// Of the copies and of the weights.
    fn fused_collect_backward(
        dy: FloatTensor<Self>,
        y: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        groups: &Groups,
    ) -> [FloatTensor<Self>; 2];

    fn fused_grouped_linear_backward(
        dy: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        order: Order,
        groups: &Groups,
    ) -> FloatTensor<Self>;
}

impl<B: GroupedGradients, C: CheckpointStrategy> GroupedOps for Autodiff<B, C> {
    fn fused_spread(x: FloatTensor<Self>, groups: Arc<Groups>) -> FloatTensor<Self> {
        let node = x.node();
        let y = B::fused_spread(x.into_primitive(), groups.clone());
        record::<B, C, 1>(Family::Experts, [node], y, move |dy, _| {
            [Some(B::fused_spread_backward(dy, &groups))]
        })
    }

    fn fused_collect(
        y: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        groups: Arc<Groups>,
    ) -> FloatTensor<Self> {
        let nodes = [y.node(), weights.node()];
        let (y, weights) = (y.into_primitive(), weights.into_primitive());
        let sums = B::fused_collect(y.clone(), weights.clone(), groups.clone());
        record::<B, C, 2>(Family::Experts, nodes, sums, move |dy, _| {
            B::fused_collect_backward(dy, y, weights, &groups).map(Some)
        })
    }

    fn fused_grouped_linear(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        order: Order,
        groups: Arc<Groups>,
    ) -> FloatTensor<Self> {
        let (node, weights) = (x.node(), weights.into_primitive());
        let (x, copy) = (x.into_primitive(), groups.clone());
        let y = B::fused_grouped_linear(x, weights.clone(), order, copy);
        record::<B, C, 1>(Family::Experts, [node], y, move |dy, _| {
            [Some(B::fused_grouped_linear_backward(
                dy, weights, order, &groups,
            ))]
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::twins::{agree, groups, tracked};

    /// Rows, choices of each, groups, in, out.
    const SIZES: [[usize; 5]; 4] = [
        [1, 1, 1, 1, 1],
        [5, 2, 7, 12, 10],
        [40, 3, 4, 33, 18],
        [130, 8, 128, 20, 24],
    ];

    #[test]
    fn rows_go_out_and_come_back_as_defined() {
        for [rows, per_row, count, width, _] in SIZES {
            let groups = groups(rows, per_row, count);
            agree(&[&tracked([rows, width])], 1e-5, |x| {
                let slow = reference::spread(x[0].clone(), &groups);
                (spread(x[0].clone(), &groups), slow)
            });
            let (y, weights) = (tracked([rows * per_row, width]), tracked([rows, per_row]));
            agree(&[&y, &weights], 1e-5, |x| {
                let slow = reference::collect(x[0].clone(), x[1].clone(), &groups);
                (collect(x[0].clone(), x[1].clone(), &groups), slow)
            });
        }
    }

    #[test]
    fn grouped_products_agree_with_their_definition() {
        let device = Device::flex();
        for [rows, per_row, count, inputs, outputs] in SIZES {
            let groups = groups(rows, per_row, count);
            for order in [Order::InOut, Order::OutIn] {
                let shape = match order {
                    Order::InOut => [count, inputs, outputs],
                    Order::OutIn => [count, outputs, inputs],
                };
                let weights = Tensor::<3>::random(shape, Distribution::Default, &device);
                for dtype in [DType::F32, DType::BF16, DType::F16] {
                    let weights = weights.clone().cast(dtype);
                    agree(&[&tracked([rows * per_row, inputs])], 1e-4, |x| {
                        let slow = reference::linear(x[0].clone(), weights.clone(), order, &groups);
                        (linear(x[0].clone(), weights.clone(), order, &groups), slow)
                    });
                }
            }
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_groups_agree_with_their_definitions() {
        use burn::tensor::DType;

        use crate::twins::gpu::agrees_in;

        let f32s = [(DType::F32, 1e-4)];
        // The last has groups of more rows than a tile, and sums longer than a step.
        for [rows, per_row, count, inputs, outputs] in
            SIZES.into_iter().chain([[150, 2, 3, 70, 90]])
        {
            let groups = groups(rows, per_row, count);
            agrees_in(
                &f32s,
                &[[rows, inputs]],
                &[],
                |x, _| spread(x[0].clone(), &groups),
                |x, _| reference::spread(x[0].clone(), &groups),
            );
            agrees_in(
                &f32s,
                &[[rows * per_row, inputs], [rows, per_row]],
                &[],
                |x, _| collect(x[0].clone(), x[1].clone(), &groups),
                |x, _| reference::collect(x[0].clone(), x[1].clone(), &groups),
            );
            for order in [Order::InOut, Order::OutIn] {
                let shape = match order {
                    Order::InOut => [count, inputs, outputs],
                    Order::OutIn => [count, outputs, inputs],
                };
                let flat = [count * shape[1], shape[2]];
                let small = Distribution::Normal(0.0, 0.2);
                let weights = Tensor::<2>::random(flat, small, &Device::flex());
                for held in [DType::F32, DType::F16] {
                    // The same numbers for both.
                    let weights = weights.clone().cast(held).cast(DType::F32);
                    agrees_in(
                        &f32s,
                        &[[rows * per_row, inputs]],
                        &[weights],
                        |x, c| {
                            let weights = c[0].clone().cast(held).reshape(shape);
                            linear(x[0].clone(), weights, order, &groups)
                        },
                        |x, c| {
                            let weights = c[0].clone().reshape(shape);
                            reference::linear(x[0].clone(), weights, order, &groups)
                        },
                    );
                }
            }
        }
    }
}
