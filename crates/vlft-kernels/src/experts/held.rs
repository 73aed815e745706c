//! A projection of all experts as plain numbers.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{Int, Tensor};

use super::Stack;
use crate::gemm::Matrix;
use crate::grouped::{DenseStack, Order, multiply_group};
use crate::nf4::PackedStack;

pub(crate) struct Held {
    numbers: Numbers,
    order: Order,
    /// Of one matrix as it lies.
    rows: usize,
    columns: usize,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each projection"
)]
enum Numbers {
    Dense(DenseStack),
    Nf4(PackedStack),
}

/// Which way through a projection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From inputs to outputs.
    Forward,
    /// From the gradient of outputs to that of inputs.
    Back,
}

impl Held {
    pub(super) fn new(stack: &Stack, count: usize) -> Self {
        let [rows, columns] = stack.shape(count);
        Self {
            numbers: match stack {
                Stack::Dense(matrices, _) => Numbers::Dense(DenseStack::new(floats(matrices))),
                Stack::Nf4(matrix, _) => Numbers::Nf4(PackedStack::of(matrix)),
            },
            order: stack.order(),
            rows,
            columns,
        }
    }

    pub(super) fn inputs(&self) -> usize {
        match self.order {
            Order::InOut => self.rows,
            Order::OutIn => self.columns,
        }
    }

    pub(super) fn outputs(&self) -> usize {
        self.rows + self.columns - self.inputs()
    }

    /// `out = x` times the matrix of one expert, or times its transpose. `dense` is room for a packed one.
    pub(super) fn multiply(
        &self,
        expert: usize,
        way: Way,
        x: Matrix,
        out: &mut [f32],
        dense: &mut Vec<f32>,
    ) {
        let (rows, columns) = (self.rows, self.columns);
        let turned = (self.order == Order::OutIn) == (way == Way::Forward);
        let mut product = |values: &[f32]| {
            let weight = Matrix::new(values, rows, columns, columns);
            let weight = if turned { weight.transposed() } else { weight };
            multiply_group(x, weight, out);
        };
        match &self.numbers {
            Numbers::Dense(stack) => stack.with(expert, product),
            Numbers::Nf4(stack) => {
                dense.resize(rows * columns, 0.0);
                stack.unpack(expert * rows * columns, dense);
                product(dense);
            }
        }
    }
}

pub(crate) fn floats<const R: usize>(x: &Tensor<R>) -> FlexTensor {
    match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(x)) => x,
        _ => panic!("frozen, and on the CPU"),
    }
}

pub(crate) fn integers<const R: usize>(x: &Tensor<R, Int>) -> FlexTensor {
    match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Int(x)) => x,
        _ => panic!("on the CPU"),
    }
}
