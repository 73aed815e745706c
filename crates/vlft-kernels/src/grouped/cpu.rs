//! Groups side by side, each product by itself; rows side by side where copies are added up.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape};
use rayon::prelude::*;

use super::{GroupedGradients, GroupedOps, Groups, Order, few_rows};
use crate::gemm::{Matrix, Threads, multiply};
use crate::host::{Rows, for_rows, matrix};
use crate::simd::{sum2, vectorised};

/// Multiplications that one task should have at least: below, handing it to a thread costs more.
const TASK_WORK: usize = 1 << 20;

/// Runs `f(group, its copies, its rows of the output)` for every group that has rows, in parallel.
/// `inner` is the inner size of the products. Returns `[S, width]`.
pub(crate) fn for_groups(
    groups: &Groups,
    inner: usize,
    width: usize,
    f: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut out = vec![0f32; groups.copies() * width];
    let mut rest = &mut out[..];
    let mut tasks = Vec::new();
    for (group, range) in groups.filled() {
        let (rows, after) = rest.split_at_mut(range.len() * width);
        tasks.push((group, range, rows));
        rest = after;
    }
    let work = groups.copies() * inner * width;
    let together = (TASK_WORK * tasks.len()).div_ceil(work.max(1));
    if together >= tasks.len() {
        for (group, range, rows) in tasks {
            f(group, range, rows);
        }
        return out;
    }
    tasks
        .into_par_iter()
        .with_min_len(together)
        .for_each(|(group, range, rows)| f(group, range, rows));
    out
}

/// A stack of matrices as it is held.
pub(crate) struct Stack {
    tensor: FlexTensor,
    shape: [usize; 3],
}

impl Stack {
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        let shape = tensor.shape();
        Self {
            shape: [shape[0], shape[1], shape[2]],
            tensor: tensor.to_contiguous(),
        }
    }

    pub(crate) fn fetch(&self, group: usize) {
        let [_, rows, columns] = self.shape;
        let start = self.tensor.layout().start_offset() + group * rows * columns;
        if self.tensor.dtype() == DType::F32 {
            crate::simd::fetch(&self.tensor.storage::<f32>()[start..start + rows * columns]);
        }
    }

    /// The numbers of one matrix in f32; they are copied into `room` if they are not held so.
    pub(crate) fn numbers<'a>(&'a self, group: usize, room: &'a mut Vec<f32>) -> &'a [f32] {
        let [_, rows, columns] = self.shape;
        let start = self.tensor.layout().start_offset() + group * rows * columns;
        let range = start..start + rows * columns;
        if self.tensor.dtype() == DType::F32 {
            return &self.tensor.storage::<f32>()[range];
        }
        let one = Flex::float_slice(self.tensor.clone(), &[(group..group + 1).into()]);
        let one = Flex::float_reshape(one, Shape::new([rows * columns]));
        let one = Flex::float_cast(one, FloatDType::F32).to_contiguous();
        room.clear();
        room.extend_from_slice(one.storage::<f32>());
        room
    }

    /// Each group's rows times its matrix as it lies, `[in, out]`, or turned.
    fn product(&self, x: &Rows, turned: bool, groups: &Groups) -> FlexTensor {
        let [_, rows, columns] = self.shape;
        let (inner, width) = match turned {
            true => (columns, rows),
            false => (rows, columns),
        };
        let y = for_groups(groups, inner, width, |group, range, out| {
            let mut room = Vec::new();
            let weight = Matrix::new(self.numbers(group, &mut room), rows, columns, columns);
            let weight = if turned { weight.transposed() } else { weight };
            multiply_rows(x, range, weight, out);
        });
        matrix(y, groups.copies(), width)
    }
}

/// Some rows of `x` times `weight` into `out`.
pub(crate) fn multiply_rows(x: &Rows, range: Range<usize>, weight: Matrix, out: &mut [f32]) {
    multiply_group(x.some(range), weight, out);
}

/// `out = x weight`
pub(crate) fn multiply_group(x: Matrix, weight: Matrix, out: &mut [f32]) {
    let width = weight.columns;
    if !few_rows::multiply(&x, &weight, out) {
        multiply(out, width, 0.0, 1.0, x, weight, Threads::All);
    }
}

impl GroupedOps for Flex {
    fn fused_spread(x: FlexTensor, groups: Arc<Groups>) -> FlexTensor {
        let x = Rows::new(x);
        let mut out = vec![0f32; groups.copies() * x.columns];
        for_rows(&mut out, x.columns, |first, out| {
            for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
                out.copy_from_slice(x.row(groups.row_of(first + i)));
            }
        });
        matrix(out, groups.copies(), x.columns)
    }

    fn fused_collect(y: FlexTensor, weights: FlexTensor, groups: Arc<Groups>) -> FlexTensor {
        let (y, weights) = (Rows::new(y), Rows::new(weights));
        sums(&y, &groups, Some(&weights))
    }

    fn fused_grouped_linear(
        x: FlexTensor,
        weights: FlexTensor,
        order: Order,
        groups: Arc<Groups>,
    ) -> FlexTensor {
        Stack::new(weights).product(&Rows::new(x), order == Order::OutIn, &groups)
    }
}

impl GroupedGradients for Flex {
    fn fused_spread_backward(dy: FlexTensor, groups: &Groups) -> FlexTensor {
        sums(&Rows::new(dy), groups, None)
    }

    fn fused_collect_backward(
        dy: FlexTensor,
        y: FlexTensor,
        weights: FlexTensor,
        groups: &Groups,
    ) -> [FlexTensor; 2] {
        let (dy, y, weights) = (Rows::new(dy), Rows::new(y), Rows::new(weights));
        // The copies of a row are apart, so each copy looks up whose it is and which choice.
        let mut of_copy = vec![0f32; groups.copies()];
        let mut d_weights = vec![0f32; groups.copies()];
        for row in 0..groups.rows() {
            for (place, weight) in groups.places_of(row).iter().zip(weights.row(row)) {
                of_copy[*place as usize] = *weight;
            }
        }
        for_rows(&mut d_weights, groups.per_row(), |first, out| {
            for (i, out) in out.chunks_exact_mut(groups.per_row()).enumerate() {
                let dy = dy.row(first + i);
                for (out, place) in out.iter_mut().zip(groups.places_of(first + i)) {
                    *out = dot(dy, y.row(*place as usize));
                }
            }
        });
        let width = y.columns;
        let mut d_y = vec![0f32; groups.copies() * width];
        for_rows(&mut d_y, width, |first, out| {
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                scaled(dy.row(groups.row_of(first + i)), of_copy[first + i], out);
            }
        });
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
        Stack::new(weights).product(&Rows::new(dy), order == Order::InOut, groups)
    }
}

/// Each row's copies times their weights (or as they are), added up in the order of the row's choices.
pub(crate) fn sums(y: &Rows, groups: &Groups, weights: Option<&Rows>) -> FlexTensor {
    let width = y.columns;
    let mut out = vec![0f32; groups.rows() * width];
    for_rows(&mut out, width, |first, out| {
        some_sums(y, groups, weights, first, out);
    });
    matrix(out, groups.rows(), width)
}

vectorised! {
    fn some_sums(y: &Rows, groups: &Groups, weights: Option<&Rows>, first: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(y.columns).enumerate() {
            let weights = weights.map(|weights| weights.row(first + i));
            for (choice, place) in groups.places_of(first + i).iter().enumerate() {
                let weight = weights.map_or(1.0, |weights| weights[choice]);
                for (out, y) in out.iter_mut().zip(y.row(*place as usize)) {
                    *out += weight * y;
                }
            }
        }
    }
}

vectorised! {
    fn scaled(x: &[f32], scale: f32, out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = scale * x;
        }
    }
}

/// Sum of products over fixed lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut out = [0f32];
    dot_into(a, b, &mut out);
    out[0]
}

vectorised! {
    fn dot_into(a: &[f32], b: &[f32], out: &mut [f32; 1]) {
        out[0] = sum2(a, b, |a, b| a * b);
    }
}
