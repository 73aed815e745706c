//! Matrix products of f32 slices with any strides, by the `gemm` crate: what burn's CPU backend uses,
//! with the two things it does not offer: adding onto an output, and scaling.

#![allow(unsafe_code)] // The crate takes pointers; everything is checked here first.

use gemm::Parallelism;

/// Products below this many multiplications stay on one thread.
const PARALLEL_THRESHOLD: usize = 1 << 20;

/// A matrix in memory that is only read.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` values, `stride` values from one to the next.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            rows == 0 || (rows - 1) * stride + columns <= data.len(),
            "the matrix lies within its slice"
        );
        Self {
            data,
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// Its rows, if the numbers of one are adjacent.
    pub(crate) fn lines(&self) -> Option<Lines<'a>> {
        (self.column_stride == 1).then_some(Lines {
            data: self.data,
            stride: self.row_stride,
            count: self.rows,
            length: self.columns,
        })
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// Rows of adjacent numbers.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    data: &'a [f32],
    stride: usize,
    pub(crate) count: usize,
    pub(crate) length: usize,
}

impl<'a> Lines<'a> {
    #[inline(always)]
    pub(crate) fn line(&self, i: usize) -> &'a [f32] {
        let start = i * self.stride;
        &self.data[start..start + self.length]
    }
}

/// Whether a product may use more than the calling thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    One,
    All,
}

/// `a b` into a new row-major matrix.
pub(crate) fn product(a: Matrix, b: Matrix, scale: f32) -> Vec<f32> {
    let length = a.rows * b.columns;
    let mut out = Vec::with_capacity(length);
    let stride = b.columns;
    // SAFETY: the room for all rows was just reserved, and nobody else has it. With `keep` 0 the
    // output is written and never read, so it may be uninitialised; afterwards every element is
    // initialised (also if the inner size is 0: then they are all zero).
    unsafe {
        call(out.as_mut_ptr(), stride, 0.0, scale, a, b, Threads::All);
        out.set_len(length);
    }
    out
}

/// `out = keep out + scale a b`. `out` has rows of `stride` values, of which the first
/// `b.columns` are written; with `keep` 0 they are not read.
pub(crate) fn multiply(
    out: &mut [f32],
    stride: usize,
    keep: f32,
    scale: f32,
    a: Matrix,
    b: Matrix,
    threads: Threads,
) {
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    assert!(b.columns <= stride, "rows of the output do not overlap");
    assert!(
        (a.rows - 1) * stride + b.columns <= out.len(),
        "the output lies within its slice"
    );
    // SAFETY: the output was just checked to hold all its rows, and the borrow is exclusive.
    unsafe { call(out.as_mut_ptr(), stride, keep, scale, a, b, threads) }
}

/// # Safety
/// `out` must be valid for writes (and reads, if `keep` is not 0) of `a.rows` rows of `b.columns`
/// values, `stride` apart.
unsafe fn call(
    out: *mut f32,
    stride: usize,
    keep: f32,
    scale: f32,
    a: Matrix,
    b: Matrix,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows, "inner sizes of a product agree");
    let work = a.rows.saturating_mul(b.columns).saturating_mul(a.columns);
    let parallelism = match threads {
        Threads::All if work >= PARALLEL_THRESHOLD => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    // SAFETY: the inputs lie within their slices (checked when they were made; `transposed` keeps
    // that), the output is the caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            stride as isize,
            keep != 0.0,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            keep,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37) % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn products_of_strided_and_transposed_matrices() {
        let (m, n, k) = (5, 4, 7);
        let a = numbers(m * 9);
        let b = numbers(n * 8);
        let by_hand =
            |i: usize, j: usize| -> f32 { (0..k).map(|l| a[i * 9 + l] * b[j * 8 + l]).sum() };

        let left = Matrix::new(&a, m, k, 9);
        let right = Matrix::new(&b, n, k, 8).transposed();
        let whole = product(left, right, 2.0);
        let mut into = vec![1.0; m * 6];
        multiply(&mut into, 6, 3.0, 1.0, left, right, Threads::One);
        for i in 0..m {
            for j in 0..n {
                assert_eq!(whole[i * n + j], 2.0 * by_hand(i, j));
                assert_eq!(into[i * 6 + j], 3.0 + by_hand(i, j));
            }
            assert_eq!(into[i * 6 + 4..i * 6 + 6], [1.0, 1.0], "beside the columns");
        }
    }

    #[test]
    fn an_empty_inner_size_gives_zeros() {
        let empty = Matrix::new(&[], 3, 0, 0);
        let none = Matrix::new(&[], 0, 2, 2);
        assert_eq!(product(empty, none, 1.0), [0.0; 6]);
    }
}
