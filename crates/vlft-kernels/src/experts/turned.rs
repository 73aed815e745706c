//! `out = x weight^T` for a few rows: sums along the lines of both.

use crate::gemm::Lines;
use crate::simd::{sum2, vectorised};

/// `weight`: `[width, inner]`. Each number of `out` depends on its row only.
pub(super) fn turned(x: Lines, weight: Lines, out: &mut [f32]) {
    assert_eq!(x.length, weight.length, "inner sizes of a product agree");
    assert!(x.count * weight.count <= out.len(), "the output has room");
    #[cfg(target_arch = "x86_64")]
    if crate::simd::has_avx512() {
        #[allow(unsafe_code)]
        // SAFETY: the features were just found on this machine.
        return unsafe { avx512::turned(x, weight, out) };
    }
    one_by_one(x, weight, out);
}

vectorised! {
    fn one_by_one(x: Lines, weight: Lines, out: &mut [f32]) {
        for column in 0..weight.count {
            let line = weight.line(column);
            for row in 0..x.count {
                out[row * weight.count + column] = sum2(x.line(row), line, |a, b| a * b);
            }
        }
    }
}

/// Adding up the lanes of a register takes ten instructions, more than a short sum itself. Sixteen sums
/// that end together need three each, which compilers do not find.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_maskz_loadu_ps, _mm512_setzero_ps,
        _mm512_shuffle_f32x4, _mm512_shuffle_ps, _mm512_storeu_ps,
    };

    use crate::gemm::Lines;
    use crate::simd::LANES;

    #[target_feature(enable = "avx512f")]
    pub(super) fn turned(x: Lines, weight: Lines, out: &mut [f32]) {
        let mut row = 0;
        while row < x.count {
            let out = &mut out[row * weight.count..];
            row += match x.count - row {
                1 => tiles::<1, 16>(x, row, weight, out),
                2 | 3 => tiles::<2, 8>(x, row, weight, out),
                _ => tiles::<4, 4>(x, row, weight, out),
            };
        }
    }

    /// `R` rows of the output, `C` columns at a time; as many as a register has lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn tiles<const R: usize, const C: usize>(
        x: Lines,
        row: usize,
        weight: Lines,
        out: &mut [f32],
    ) -> usize {
        const { assert!(R * C == LANES) };
        let mut rows = [x.line(row); R];
        for (i, line) in rows.iter_mut().enumerate() {
            *line = x.line(row + i);
        }
        for column in (0..weight.count).step_by(C) {
            let here = C.min(weight.count - column);
            let mut lines = [weight.line(column); C];
            for (c, line) in lines.iter_mut().enumerate().take(here) {
                *line = weight.line(column + c);
            }
            let sums = tile(rows, lines);
            for (i, sums) in sums.chunks_exact(C).enumerate() {
                let start = i * weight.count + column;
                out[start..start + here].copy_from_slice(&sums[..here]);
            }
        }
        R
    }

    /// The products of each of `x` with each of `lines`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn tile<const R: usize, const C: usize>(x: [&[f32]; R], lines: [&[f32]; C]) -> [f32; LANES] {
        let inner = x[0].len();
        for line in x.iter().chain(&lines) {
            assert_eq!(line.len(), inner, "lines of one length");
        }
        let mut sums = [[_mm512_setzero_ps(); C]; R];
        let mut k = 0;
        while k < inner {
            // The lanes that are there; the others are zeros.
            let lanes = u16::MAX >> LANES.saturating_sub(inner - k);
            let mut numbers = [_mm512_setzero_ps(); R];
            for i in 0..R {
                // SAFETY: so many lanes are left in each of the slices.
                numbers[i] = unsafe { _mm512_maskz_loadu_ps(lanes, x[i].as_ptr().add(k)) };
            }
            for c in 0..C {
                // SAFETY: as above.
                let line = unsafe { _mm512_maskz_loadu_ps(lanes, lines[c].as_ptr().add(k)) };
                for i in 0..R {
                    sums[i][c] = _mm512_fmadd_ps(numbers[i], line, sums[i][c]);
                }
            }
            k += LANES;
        }
        add_up(sums.as_flattened())
    }

    /// The sum of each register. In each step two of them become one: halves, quarters and so on of both
    /// are added onto each other.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add_up(sums: &[__m512]) -> [f32; LANES] {
        let mut quads = [_mm512_setzero_ps(); 4];
        for i in 0..4 {
            let (left, right) = (
                halves(sums[i], sums[i + 4]),
                halves(sums[i + 8], sums[i + 12]),
            );
            quads[i] = quarters(left, right);
        }
        let [a, b, c, d] = quads;
        let all = singles(pairs(a, b), pairs(c, d));
        let mut out = [0f32; LANES];
        // SAFETY: an array of as many floats as a register has is written whole.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), all) };
        out
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn halves(a: __m512, b: __m512) -> __m512 {
        let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
        _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn quarters(a: __m512, b: __m512) -> __m512 {
        let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
        _mm512_add_ps(even, _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn pairs(a: __m512, b: __m512) -> __m512 {
        let low = _mm512_shuffle_ps::<0b01_00_01_00>(a, b);
        _mm512_add_ps(low, _mm512_shuffle_ps::<0b11_10_11_10>(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn singles(a: __m512, b: __m512) -> __m512 {
        let even = _mm512_shuffle_ps::<0b10_00_10_00>(a, b);
        _mm512_add_ps(even, _mm512_shuffle_ps::<0b11_01_11_01>(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Matrix;

    #[test]
    fn whatever_the_machine_has_gives_the_sums_one_by_one() {
        let numbers = |n: usize, by: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * by) % 31) as f32 * 0.1 - 1.5).collect()
        };
        for (rows, inner, width) in [(1, 1, 1), (2, 16, 17), (3, 33, 8), (7, 100, 30), (4, 0, 3)] {
            let (x, weight) = (numbers(rows * inner, 37), numbers(width * inner, 53));
            let x = Matrix::new(&x, rows, inner, inner).lines().expect("rows");
            let weight = Matrix::new(&weight, width, inner, inner);
            let weight = weight.lines().expect("rows");
            let (mut fast, mut slow) = (vec![7f32; rows * width], vec![0f32; rows * width]);
            turned(x, weight, &mut fast);
            one_by_one(x, weight, &mut slow);
            for (fast, slow) in fast.iter().zip(&slow) {
                assert!(
                    (fast - slow).abs() <= 1e-4,
                    "{rows} {inner} {width}: {fast} {slow}"
                );
            }
        }
    }
}
