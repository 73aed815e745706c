//! Between tensors of burn's CPU backend and plain slices.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, TensorData};
use rayon::prelude::*;

use crate::gemm::Matrix;

/// Elements that one task of a row-wise kernel should have at least.
const TASK_ELEMENTS: usize = 1 << 14;

/// A matrix of f32 whose columns are adjacent; rows may be apart, as those of a slice of columns.
pub(crate) struct Rows {
    tensor: FlexTensor,
    start: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

impl Rows {
    /// Copies only if the columns are not adjacent.
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        let shape = tensor.shape();
        let (rows, columns) = (shape[0], shape[1]);
        let strides = tensor.layout().strides();
        let adjacent = (strides[1] == 1 || columns == 1) && strides[0] >= 0;
        if !adjacent {
            return Self::new(tensor.to_contiguous());
        }
        Self {
            start: tensor.layout().start_offset(),
            stride: strides[0] as usize,
            rows,
            columns,
            tensor,
        }
    }

    /// From the first row's first value on.
    pub(crate) fn data(&self) -> &[f32] {
        &self.tensor.storage::<f32>()[self.start..]
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        let at = self.start + row * self.stride;
        &self.tensor.storage::<f32>()[at..at + self.columns]
    }

    /// Some of the rows.
    pub(crate) fn some(&self, rows: Range<usize>) -> Matrix<'_> {
        assert!(rows.end <= self.rows, "the rows are there");
        let data = &self.data()[(rows.start * self.stride).min(self.data().len())..];
        Matrix::new(data, rows.len(), self.columns, self.stride)
    }

    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.data(), self.rows, self.columns, self.stride)
    }
}

/// A vector of f32.
pub(crate) struct Values(FlexTensor);

impl Values {
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    pub(crate) fn data(&self) -> &[f32] {
        self.0.storage()
    }
}

pub(crate) fn matrix(values: Vec<f32>, rows: usize, columns: usize) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, [rows, columns]))
}

/// Runs a whole forward or backward on one of the threads that its operations share their work with,
/// if it is computed on the CPU. A thread from outside hands each parallel operation over and sleeps
/// until it is done, which takes longer than a small one itself.
pub fn among_workers<R: Send>(device: &Device, f: impl FnOnce() -> R + Send) -> R {
    match *device == Device::flex() {
        true => rayon::scope(|_| f()),
        // What is queued for a GPU is queued by the thread that asks for it.
        false => f(),
    }
}

/// Runs `f(first row, rows)` over blocks of rows of `out`, in parallel. What is written depends on
/// the row only, so threads do not show in the result.
pub(crate) fn for_rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if out.is_empty() {
        return;
    }
    let rows = (TASK_ELEMENTS / width).max(1);
    if out.len() <= rows * width {
        return f(0, out);
    }
    out.par_chunks_mut(rows * width)
        .enumerate()
        .for_each(|(block, out)| f(block * rows, out));
}

/// The same for two outputs of the same shape.
pub(crate) fn for_rows_of_two(
    a: &mut [f32],
    b: &mut [f32],
    width: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    if a.is_empty() {
        return;
    }
    let rows = (TASK_ELEMENTS / width).max(1);
    a.par_chunks_mut(rows * width)
        .zip(b.par_chunks_mut(rows * width))
        .enumerate()
        .for_each(|(block, (a, b))| f(block * rows, a, b));
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_pass_runs_among_the_workers_of_the_pool_it_was_called_from() {
        let here = || (rayon::current_thread_index(), rayon::current_num_threads());
        let cpu = Device::flex();
        assert_eq!(here().0, None, "a test's thread is from outside");
        assert!(among_workers(&cpu, here).0.is_some());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let pool = pool.expect("threads can be started");
        let (worker, threads) = pool.install(|| among_workers(&cpu, here));
        assert_eq!((worker.is_some(), threads), (true, 3));
        // What the pass borrows is back when it is done, and one within another stays where it is.
        let mut seen = Vec::new();
        among_workers(&cpu, || {
            let outer = here();
            seen.push((among_workers(&cpu, here), outer));
        });
        assert!(seen.len() == 1 && seen[0].0 == seen[0].1, "{seen:?}");
    }

    #[test]
    fn a_panic_of_a_pass_is_the_callers() {
        let pass = AssertUnwindSafe(|| among_workers(&Device::flex(), || panic!("in the pass")));
        let panic = catch_unwind(pass).expect_err("it panicked");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"in the pass"));
    }
}
