//! One pass per row; the backward computes the row's statistics again instead of keeping them.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::{NormGradients, NormOps};
use crate::host::{Rows, Values, for_rows, matrix};
use crate::simd::{sum, sum2, vectorised};

impl NormOps for Flex {
    fn fused_rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        let (x, weight) = (Rows::new(x), Values::new(weight));
        let mut out = vec![0f32; x.rows * x.columns];
        for_rows(&mut out, x.columns, |first, out| {
            rms_norm(&x, first, weight.data(), eps as f32, out);
        });
        matrix(out, x.rows, x.columns)
    }

    fn fused_layer_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        eps: f64,
    ) -> FlexTensor {
        let (x, weight, bias) = (Rows::new(x), Values::new(weight), Values::new(bias));
        let mut out = vec![0f32; x.rows * x.columns];
        for_rows(&mut out, x.columns, |first, out| {
            layer_norm(&x, first, weight.data(), bias.data(), eps as f32, out);
        });
        matrix(out, x.rows, x.columns)
    }
}

impl NormGradients for Flex {
    fn fused_rms_norm_backward(
        dy: FlexTensor,
        x: FlexTensor,
        weight: FlexTensor,
        eps: f64,
    ) -> FlexTensor {
        let (dy, x, weight) = (Rows::new(dy), Rows::new(x), Values::new(weight));
        let mut out = vec![0f32; x.rows * x.columns];
        for_rows(&mut out, x.columns, |first, out| {
            rms_norm_backward(&dy, &x, first, weight.data(), eps as f32, out);
        });
        matrix(out, x.rows, x.columns)
    }

    fn fused_layer_norm_backward(
        dy: FlexTensor,
        x: FlexTensor,
        weight: FlexTensor,
        eps: f64,
    ) -> FlexTensor {
        let (dy, x, weight) = (Rows::new(dy), Rows::new(x), Values::new(weight));
        let mut out = vec![0f32; x.rows * x.columns];
        for_rows(&mut out, x.columns, |first, out| {
            layer_norm_backward(&dy, &x, first, weight.data(), eps as f32, out);
        });
        matrix(out, x.rows, x.columns)
    }
}

vectorised! {
    fn rms_norm(x: &Rows, first: usize, weight: &[f32], eps: f32, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            let x = x.row(first + i);
            let scale = row_scale(x, eps);
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        }
    }
}

vectorised! {
    /// With `n = x s`, `s = rsqrt(mean(x^2) + eps)`: `dx = s (g - n mean(g n))`, `g = dy w`.
    fn rms_norm_backward(
        dy: &Rows,
        x: &Rows,
        first: usize,
        weight: &[f32],
        eps: f32,
        out: &mut [f32],
    ) {
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            let (x, dy) = (x.row(first + i), dy.row(first + i));
            let scale = row_scale(x, eps);
            for ((out, dy), weight) in out.iter_mut().zip(dy).zip(weight) {
                *out = dy * weight;
            }
            let mean = sum2(out, x, |g, x| g * x) * scale / x.len() as f32;
            let along = mean * scale;
            for (out, x) in out.iter_mut().zip(x) {
                *out = scale * (*out - x * along);
            }
        }
    }
}

#[inline(always)]
fn row_scale(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum(x, |x| x * x) / x.len() as f32 + eps).sqrt()
}

/// Mean and `rsqrt(var + eps)` of a row.
#[inline(always)]
fn row_statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

vectorised! {
    fn layer_norm(
        x: &Rows,
        first: usize,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        out: &mut [f32],
    ) {
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            let x = x.row(first + i);
            let (mean, scale) = row_statistics(x, eps);
            for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *out = (x - mean) * scale * weight + bias;
            }
        }
    }
}

vectorised! {
    /// With `n = (x - mean) s`: `dx = s (g - mean(g) - n mean(g n))`, `g = dy w`.
    fn layer_norm_backward(
        dy: &Rows,
        x: &Rows,
        first: usize,
        weight: &[f32],
        eps: f32,
        out: &mut [f32],
    ) {
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            let (x, dy) = (x.row(first + i), dy.row(first + i));
            let count = x.len() as f32;
            let (mean, scale) = row_statistics(x, eps);
            for ((out, dy), weight) in out.iter_mut().zip(dy).zip(weight) {
                *out = dy * weight;
            }
            let mean_g = sum(out, |g| g) / count;
            let along = sum2(out, x, |g, x| g * (x - mean)) * scale * scale / count;
            for (out, x) in out.iter_mut().zip(x) {
                *out = scale * (*out - mean_g - (x - mean) * along);
            }
        }
    }
}
