//! Groups one after the other, in plain loops. What runs on the CPU runs in [`crate::experts`]; this is
//! its slow twin, and what a test of the steps on a GPU comes down to.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::{GroupedGradients, GroupedOps, Groups, Order};
use crate::experts::DenseStack;
use crate::gemm::{Matrix, Threads, multiply};
use crate::host::{Rows, matrix};

/// Each group's rows of `x` times its matrix as it lies, or turned. `numbers(group)` are those of
/// the matrix, `[rows, columns]`.
pub(crate) fn products(
    x: FlexTensor,
    groups: &Groups,
    [rows, columns]: [usize; 2],
    turned: bool,
    numbers: impl Fn(usize) -> Vec<f32>,
) -> FlexTensor {
    let x = Rows::new(x);
    let width = if turned { rows } else { columns };
    let mut out = vec![0f32; groups.copies() * width];
    for (group, range) in groups.filled() {
        let numbers = numbers(group);
        let weight = Matrix::new(&numbers, rows, columns, columns);
        let weight = if turned { weight.transposed() } else { weight };
        let out = &mut out[range.start * width..range.end * width];
        multiply(out, width, 0.0, 1.0, x.some(range), weight, Threads::One);
    }
    matrix(out, groups.copies(), width)
}

fn dense_products(x: FlexTensor, weights: FlexTensor, turned: bool, groups: &Groups) -> FlexTensor {
    let stack = DenseStack::new(weights);
    let [_, rows, columns] = stack.shape;
    products(x, groups, [rows, columns], turned, |group| {
        stack.numbers(group, &mut Vec::new()).to_vec()
    })
}

/// For every copy: which row it is of, and its weight.
fn copies<'a>(groups: &'a Groups, weights: &'a Rows) -> impl Iterator<Item = (usize, usize, f32)> {
    (0..groups.rows()).flat_map(move |row| {
        let places = groups.places_of(row).iter().zip(weights.row(row));
        places.map(move |(place, weight)| (row, *place as usize, *weight))
    })
}

impl GroupedOps for Flex {
    fn fused_spread(x: FlexTensor, groups: Arc<Groups>) -> FlexTensor {
        let x = Rows::new(x);
        let rows = (0..groups.copies()).map(|copy| x.row(groups.row_of(copy)));
        matrix(
            rows.collect::<Vec<_>>().concat(),
            groups.copies(),
            x.columns,
        )
    }

    fn fused_collect(y: FlexTensor, weights: FlexTensor, groups: Arc<Groups>) -> FlexTensor {
        let (y, weights) = (Rows::new(y), Rows::new(weights));
        let width = y.columns;
        let mut out = vec![0f32; groups.rows() * width];
        for (row, copy, weight) in copies(&groups, &weights) {
            for (out, y) in out[row * width..].iter_mut().zip(y.row(copy)) {
                *out += weight * y;
            }
        }
        matrix(out, groups.rows(), width)
    }

    fn fused_grouped_linear(
        x: FlexTensor,
        weights: FlexTensor,
        order: Order,
        groups: Arc<Groups>,
    ) -> FlexTensor {
        dense_products(x, weights, order == Order::OutIn, &groups)
    }
}

impl GroupedGradients for Flex {
    fn fused_spread_backward(dy: FlexTensor, groups: &Groups) -> FlexTensor {
        let dy = Rows::new(dy);
        let mut out = vec![0f32; groups.rows() * dy.columns];
        for copy in 0..groups.copies() {
            let row = groups.row_of(copy) * dy.columns;
            for (out, dy) in out[row..].iter_mut().zip(dy.row(copy)) {
                *out += dy;
            }
        }
        matrix(out, groups.rows(), dy.columns)
    }

    fn fused_collect_backward(
        dy: FlexTensor,
        y: FlexTensor,
        weights: FlexTensor,
        groups: &Groups,
    ) -> [FlexTensor; 2] {
        let (dy, y, weights) = (Rows::new(dy), Rows::new(y), Rows::new(weights));
        let width = y.columns;
        let (mut d_y, mut d_weights) = (vec![0f32; groups.copies() * width], Vec::new());
        // Row by row, in the order of a row's choices, as the weights lie.
        for (row, copy, weight) in copies(groups, &weights) {
            let pairs = dy.row(row).iter().zip(y.row(copy));
            d_weights.push(pairs.map(|(dy, y)| dy * y).sum::<f32>());
            for (out, dy) in d_y[copy * width..].iter_mut().zip(dy.row(row)) {
                *out = weight * dy;
            }
        }
        [
            matrix(d_y, groups.copies(), width),
            matrix(d_weights, groups.rows(), groups.per_row()),
        ]
    }

    fn fused_grouped_linear_backward(
        dy: FlexTensor,
        weights: FlexTensor,
        order: Order,
        groups: &Groups,
    ) -> FlexTensor {
        dense_products(dy, weights, order == Order::InOut, groups)
    }
}
