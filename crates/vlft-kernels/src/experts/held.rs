//! A projection of all experts as plain numbers.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{Int, Tensor};

use super::{DenseStack, Stack};
use crate::gemm::Matrix;
use crate::grouped::Order;
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

    /// Asks for the numbers of an expert that is next, so that they are in the cache by then.
    pub(super) fn fetch(&self, expert: usize) {
        let numbers = self.rows * self.columns;
        match &self.numbers {
            Numbers::Dense(stack) => stack.fetch(expert),
            Numbers::Nf4(stack) => stack.fetch(expert * numbers, numbers),
        }
    }

    /// The matrix of one expert, `[in, out]`. `room`: for its numbers, if they are not held in f32.
    pub(super) fn matrix<'a>(&'a self, expert: usize, room: &'a mut Vec<f32>) -> Matrix<'a> {
        let (rows, columns) = (self.rows, self.columns);
        let numbers = match &self.numbers {
            Numbers::Dense(stack) => stack.numbers(expert, room),
            Numbers::Nf4(stack) => {
                room.resize(rows * columns, 0.0);
                stack.unpack(expert * rows * columns, room);
                room
            }
        };
        let matrix = Matrix::new(numbers, rows, columns, columns);
        match self.order {
            Order::InOut => matrix,
            Order::OutIn => matrix.transposed(),
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
