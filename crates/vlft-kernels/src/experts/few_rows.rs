//! Products of a few rows with a matrix, which is read where it lies. The product library copies the
//! matrix into another order first; with eight rows that costs as much as the product.

use crate::gemm::{Lines, Matrix};
use crate::simd::{LANES, vectorised};

use super::turned::turned;

/// As many rows as a register has lanes; more are left to the product library,
const FEW: usize = LANES;
/// unless the matrix has at most so many numbers: it stays in the cache from some rows to the next,
const SMALL: usize = 1 << 14;
/// and up to so many rows putting it into another order is still too much.
const FEW_OF_SMALL: usize = 4 * LANES;

/// `out = x weight`, if there are so few rows and the matrix has adjacent columns or rows. Whether it was
/// done depends on the shapes only, and each number of `out` on its row only.
pub(super) fn multiply(x: &Matrix, weight: &Matrix, out: &mut [f32]) -> bool {
    let few = match weight.rows * weight.columns <= SMALL {
        true => FEW_OF_SMALL,
        false => FEW,
    };
    if x.rows > few {
        return false;
    }
    let Some(x) = x.lines() else {
        return false;
    };
    if let Some(weight) = weight.lines() {
        lying(x, weight, out);
    } else if let Some(weight) = weight.transposed().lines() {
        turned(x, weight, out);
    } else {
        return false;
    }
    true
}

vectorised! {
    /// `weight`: `[inner, width]`
    fn lying(x: Lines, weight: Lines, out: &mut [f32]) {
        let mut row = 0;
        while row < x.count {
            // What is read of the matrix serves all rows that are made together. Few rows take more columns
            // instead, so that there are always sums enough that do not wait for each other.
            let out = &mut out[row * weight.length..];
            row += match x.count - row {
                1 => strips::<1>(x, row, weight, out),
                2 => strips::<2>(x, row, weight, out),
                3 => strips::<3>(x, row, weight, out),
                _ => strips::<4>(x, row, weight, out),
            };
        }
    }
}

/// `R` rows of the output.
#[inline(always)]
fn strips<const R: usize>(x: Lines, row: usize, weight: Lines, out: &mut [f32]) -> usize {
    const WIDE: usize = 4 * LANES;
    const NARROW: usize = 2 * LANES;
    let x: [&[f32]; R] = std::array::from_fn(|i| x.line(row + i));
    let width = weight.length;
    let mut write = |column: usize, i: usize, sums: &[f32]| {
        let start = i * width + column;
        out[start..start + sums.len()].copy_from_slice(sums);
    };
    let mut column = 0;
    while R <= 2 && column + WIDE <= width {
        let sums = sums_of_columns(x, |k| chunk::<WIDE>(&weight.line(k)[column..]));
        (0..R).for_each(|i| write(column, i, &sums[i]));
        column += WIDE;
    }
    while column + NARROW <= width {
        let sums = sums_of_columns(x, |k| chunk::<NARROW>(&weight.line(k)[column..]));
        (0..R).for_each(|i| write(column, i, &sums[i]));
        column += NARROW;
    }
    if column < width {
        let sums = sums_of_columns(x, |k| {
            let mut values = [0f32; NARROW];
            values[..width - column].copy_from_slice(&weight.line(k)[column..]);
            values
        });
        (0..R).for_each(|i| write(column, i, &sums[i][..width - column]));
    }
    R
}

#[inline(always)]
fn chunk<const C: usize>(values: &[f32]) -> [f32; C] {
    *values.first_chunk().expect("so many are left")
}

/// For each row the sum over k of `x[k]` times what `weight` says of k.
#[inline(always)]
fn sums_of_columns<const R: usize, const C: usize>(
    x: [&[f32]; R],
    weight: impl Fn(usize) -> [f32; C],
) -> [[f32; C]; R] {
    let mut sums = [[0f32; C]; R];
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
