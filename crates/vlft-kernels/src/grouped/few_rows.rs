//! Products of a few rows with a matrix, which is read where it lies. The product library copies the
//! matrix into another order first; with eight rows that costs as much as the product.

use crate::gemm::Matrix;
use crate::simd::{LANES, sum2, vectorised};

/// More rows are left to the product library: as many as a register has lanes.
const FEW: usize = LANES;
/// Rows of the output made together: what is read of the matrix serves all of them.
const ROWS: usize = 4;
/// Columns of the output made together: with [`ROWS`] rows they fit the registers.
const COLUMNS: usize = 2 * LANES;

/// `out = x weight`, if there are so few rows and the matrix has adjacent columns or rows. Whether it was
/// done depends on the shapes only, and each number of `out` on its row only.
pub(super) fn multiply(x: &Matrix, weight: &Matrix, out: &mut [f32]) -> bool {
    if x.rows > FEW {
        return false;
    }
    let as_it_lies = weight.as_rows().map(|held| (lying as Kernel, held));
    let turned_round = || {
        weight
            .transposed()
            .as_rows()
            .map(|held| (turned as Kernel, held))
    };
    let kernel = as_it_lies.or_else(turned_round);
    let (Some((x_data, x_stride)), Some((kernel, (data, stride)))) = (x.as_rows(), kernel) else {
        return false;
    };
    let (inner, width) = (weight.rows, weight.columns);
    kernel(x_data, x_stride, x.rows, data, stride, inner, width, out);
    true
}

/// x, its stride and rows; the matrix as it is held and its stride; inner size, width; the output.
type Kernel = fn(&[f32], usize, usize, &[f32], usize, usize, usize, &mut [f32]);

vectorised! {
    /// `weight`: `[inner, width]`
    fn lying(
        x: &[f32], x_stride: usize, rows: usize,
        weight: &[f32], stride: usize, inner: usize, width: usize,
        out: &mut [f32],
    ) {
        let mut row = 0;
        while row < rows {
            let here = ROWS.min(rows - row);
            let x: [&[f32]; ROWS] = std::array::from_fn(|i| {
                let start = (row + i.min(here - 1)) * x_stride;
                &x[start..start + inner]
            });
            let mut column = 0;
            while column + COLUMNS <= width {
                let sums = block(x, |k| {
                    let start = k * stride + column;
                    weight[start..start + COLUMNS].try_into().expect("COLUMNS of them")
                });
                for (i, sums) in sums.iter().enumerate().take(here) {
                    let start = (row + i) * width + column;
                    out[start..start + COLUMNS].copy_from_slice(sums);
                }
                column += COLUMNS;
            }
            if column < width {
                let rest = width - column;
                let sums = block(x, |k| {
                    let start = k * stride + column;
                    let mut values = [0f32; COLUMNS];
                    values[..rest].copy_from_slice(&weight[start..start + rest]);
                    values
                });
                for (i, sums) in sums.iter().enumerate().take(here) {
                    let start = (row + i) * width + column;
                    out[start..start + rest].copy_from_slice(&sums[..rest]);
                }
            }
            row += here;
        }
    }
}

/// For each row the sum over k of `x[k]` times what `weight` says of k.
#[inline(always)]
fn block(x: [&[f32]; ROWS], weight: impl Fn(usize) -> [f32; COLUMNS]) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0f32; COLUMNS]; ROWS];
    for k in 0..x[0].len() {
        let weight = weight(k);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = x[k];
            for (sum, weight) in sums.iter_mut().zip(weight) {
                *sum += x * weight;
            }
        }
    }
    sums
}

vectorised! {
    /// `weight`: `[width, inner]`, used turned.
    fn turned(
        x: &[f32],
        x_stride: usize,
        rows: usize,
        weight: &[f32],
        stride: usize,
        inner: usize,
        width: usize,
        out: &mut [f32],
    ) {
        for column in 0..width {
            let weight = &weight[column * stride..column * stride + inner];
            for row in 0..rows {
                let x = &x[row * x_stride..row * x_stride + inner];
                out[row * width + column] = sum2(x, weight, |a, b| a * b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::{Threads, multiply as by_library};

    #[test]
    fn few_rows_agree_with_the_product_library() {
        let numbers = |n: usize, by: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * by) % 29) as f32 * 0.1 - 1.4).collect()
        };
        for (rows, inner, width) in [
            (1, 1, 1),
            (3, 7, 5),
            (4, 64, 64),
            (9, 33, 100),
            (16, 130, 31),
        ] {
            let (x, weight) = (
                numbers(rows * (inner + 3), 37),
                numbers((inner + 2) * (width + 2), 53),
            );
            let x = Matrix::new(&x, rows, inner, inner + 3);
            for weight in [
                Matrix::new(&weight, inner, width, width + 2),
                Matrix::new(&weight, width, inner, inner + 2).transposed(),
            ] {
                let (mut fast, mut slow) = (vec![7f32; rows * width], vec![0f32; rows * width]);
                assert!(multiply(&x, &weight, &mut fast));
                by_library(&mut slow, width, 0.0, 1.0, x, weight, Threads::One);
                for (fast, slow) in fast.iter().zip(&slow) {
                    assert!(
                        (fast - slow).abs() <= 1e-4,
                        "{rows} {inner} {width}: {fast} {slow}"
                    );
                }
            }
        }
    }

    #[test]
    fn many_rows_are_left_to_the_library() {
        let (x, weight) = (vec![1f32; 17 * 2], vec![1f32; 4]);
        let x = Matrix::new(&x, FEW + 1, 2, 2);
        assert!(!multiply(
            &x,
            &Matrix::new(&weight, 2, 2, 2),
            &mut [0f32; 34]
        ));
    }
}
