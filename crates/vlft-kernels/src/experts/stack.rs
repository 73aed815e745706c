//! The frozen matrices of all experts, in one piece.

use std::sync::Arc;

use burn::tensor::{DType, Int, Tensor};

use crate::grouped::{self, Groups, Order};
use crate::nf4::Nf4Matrix;

/// One projection of every expert, held as the base says.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each projection"
)]
#[derive(Clone)]
pub enum Stack {
    Dense(Tensor<3>, Order),
    /// One below the other.
    Nf4(Nf4Matrix, Order),
}

impl Stack {
    /// Each expert's rows times its matrix: `[S, in]` -> `[S, out]`, f32.
    pub fn product(&self, x: Tensor<2>, groups: &Arc<Groups>) -> Tensor<2> {
        match self {
            Stack::Dense(matrices, order) => grouped::linear(x, matrices.clone(), *order, groups),
            Stack::Nf4(matrices, order) => matrices.grouped_linear(x, *order, groups),
        }
    }

    /// The matrix of one of `count` experts in f32, `[in, out]`.
    pub fn matrix(&self, expert: usize, count: usize) -> Tensor<2> {
        let (matrix, order): (Tensor<2>, Order) = match self {
            Stack::Dense(matrices, order) => {
                let one: Tensor<2> = matrices.clone().narrow(0, expert, 1).squeeze_dim(0);
                let one = match one.dtype() {
                    DType::F32 => one,
                    _ => one.cast(DType::F32),
                };
                (one, *order)
            }
            Stack::Nf4(matrices, order) => {
                let rows = matrices.shape()[0] / count;
                let first = (expert * rows) as i64;
                let device = matrices.device();
                let numbers = Tensor::<1, Int>::arange(first..first + rows as i64, &device);
                (matrices.rows(numbers), *order)
            }
        };
        match order {
            Order::InOut => matrix,
            Order::OutIn => matrix.transpose(),
        }
    }

    /// Rows and columns of one of `count` matrices as it lies.
    pub(super) fn shape(&self, count: usize) -> [usize; 2] {
        match self {
            Stack::Dense(matrices, _) => {
                let [experts, rows, columns] = matrices.dims();
                assert_eq!(experts, count, "a matrix for every expert");
                [rows, columns]
            }
            Stack::Nf4(matrices, _) => {
                let [rows, columns] = matrices.shape();
                assert!(rows.is_multiple_of(count), "the experts share the rows");
                [rows / count, columns]
            }
        }
    }

    pub(super) fn order(&self) -> Order {
        match self {
            Stack::Dense(_, order) | Stack::Nf4(_, order) => *order,
        }
    }
}
