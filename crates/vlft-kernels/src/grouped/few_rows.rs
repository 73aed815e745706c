//! Products of a few rows with a matrix, which is read where it lies. The product library copies the
//! matrix into another order first; with eight rows that costs as much as the product.

use crate::gemm::Matrix;
use crate::simd::{LANES, sum2, vectorised};

/// As many rows as a register has lanes; more are left to the product library,
const FEW: usize = LANES;
/// unless the matrix has at most so many numbers: it stays in the cache from some rows to the next,
const SMALL: usize = 1 << 14;
/// and up to so many rows putting it into another order is still too much.
const FEW_OF_SMALL: usize = 4 * LANES;
/// Rows of the output made together: what is read of the matrix serves all of them.
const ROWS: usize = 4;
/// Columns of the output made together: with [`ROWS`] rows they fit the registers.
const COLUMNS: usize = 2 * LANES;

/// `out = x weight`, if there are so few rows and the matrix has adjacent columns or rows. Whether it was
/// done depends on the shapes only, and each number of `out` on its row and on how many there are.
pub(super) fn multiply(x: &Matrix, weight: &Matrix, out: &mut [f32]) -> bool {
    let few = match weight.rows * weight.columns <= SMALL {
        true => FEW_OF_SMALL,
        false => FEW,
    };
    if x.rows > few {
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

/// Columns of a turned product made together.
const TURNED: usize = 4;
/// Up to so many rows a turned product is made of sums along both; with more, of columns of `x`.
const ALONG: usize = 3;

/// `weight`: `[width, inner]`, used turned.
#[expect(clippy::too_many_arguments, reason = "a kernel, as the others")]
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
    // One register holds a column of some rows: nothing is added up across a register.
    let mut columns = Vec::new();
    for first in (0..rows).step_by(FEW) {
        let (x, here) = (&x[first * x_stride..], FEW.min(rows - first));
        let out = &mut out[first * width..];
        if here <= ALONG {
            along(x, x_stride, here, weight, stride, inner, width, out);
            continue;
        }
        columns.clear();
        columns.resize(inner.div_ceil(LANES), [[0f32; FEW]; LANES]);
        for row in 0..here {
            let x = &x[row * x_stride..row * x_stride + inner];
            for (column, x) in columns.as_flattened_mut().iter_mut().zip(x) {
                column[row] = *x;
            }
        }
        by_columns(&columns, here, weight, stride, inner, width, out);
    }
}

vectorised! {
    fn along(
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

vectorised! {
    /// `x`: column by column, padded to whole pieces.
    fn by_columns(
        x: &[[[f32; FEW]; LANES]],
        rows: usize,
        weight: &[f32],
        stride: usize,
        inner: usize,
        width: usize,
        out: &mut [f32],
    ) {
        let mut column = 0;
        while column < width {
            let here = TURNED.min(width - column);
            let mut sums = [[0f32; FEW]; TURNED];
            for (piece, x) in x.iter().enumerate() {
                let (first, last) = (piece * LANES, inner.min((piece + 1) * LANES));
                for (c, sums) in sums.iter_mut().enumerate() {
                    let start = (column + c.min(here - 1)) * stride;
                    let weight = &weight[start + first..start + last];
                    match weight.try_into() {
                        Ok(weight) => add_columns(x, weight, sums),
                        Err(_) => {
                            let mut padded = [0f32; LANES];
                            padded[..weight.len()].copy_from_slice(weight);
                            add_columns(x, &padded, sums);
                        }
                    }
                }
            }
            for row in 0..rows {
                let start = row * width + column;
                for (out, sums) in out[start..start + here].iter_mut().zip(&sums) {
                    *out = sums[row];
                }
            }
            column += TURNED;
        }
    }
}

#[inline(always)]
fn add_columns(x: &[[f32; FEW]; LANES], weight: &[f32; LANES], sums: &mut [f32; FEW]) {
    let mut all = *sums;
    for (x, weight) in x.iter().zip(weight) {
        for (sum, x) in all.iter_mut().zip(x) {
            *sum += x * weight;
        }
    }
    *sums = all;
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
            (3, 64, 40),
            (4, 64, 64),
            (9, 33, 100),
            (16, 130, 31),
            (35, 64, 33),
            (64, 20, 64),
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
        for (rows, inner, width) in [(FEW_OF_SMALL + 1, 2, 2), (FEW + 1, 2, SMALL / 2 + 1)] {
            let (x, weight) = (vec![1f32; rows * inner], vec![1f32; inner * width]);
            let x = Matrix::new(&x, rows, inner, inner);
            let weight = Matrix::new(&weight, inner, width, width);
            assert!(!multiply(&x, &weight, &mut vec![0f32; rows * width]));
        }
    }
}
