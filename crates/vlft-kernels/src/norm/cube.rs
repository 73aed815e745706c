//! A cube for each row; the backward computes the row's statistics again instead of keeping them.

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{NormGradients, NormOps};
use crate::cube::{Rows, contiguous, room_like, row_of_cube, stored, sum_of_cube, sum_of_vector};

impl NormOps for CubeBackend {
    fn fused_rms_norm(x: CubeTensor, weight: CubeTensor, eps: f64) -> CubeTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let (rows, y, client) = (Rows::of(&x), room_like(&x), x.client.clone());
        let types = [stored(&x), stored(&weight)];
        rms_norm::launch(
            &client,
            rows.count(),
            rows.dim(),
            rows.vector,
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            rows.rows,
            rows.width,
            eps as f32,
            rows.units,
            types,
        );
        y
    }

    fn fused_layer_norm(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        eps: f64,
    ) -> CubeTensor {
        let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
        let (rows, y, client) = (Rows::of(&x), room_like(&x), x.client.clone());
        let types = [stored(&x), stored(&weight)];
        layer_norm::launch(
            &client,
            rows.count(),
            rows.dim(),
            rows.vector,
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            bias.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            rows.rows,
            rows.width,
            eps as f32,
            rows.units,
            types,
        );
        y
    }
}

impl NormGradients for CubeBackend {
    fn fused_rms_norm_backward(
        dy: CubeTensor,
        x: CubeTensor,
        weight: CubeTensor,
        eps: f64,
    ) -> CubeTensor {
        let (dy, x, weight) = (contiguous(dy), contiguous(x), contiguous(weight));
        let (rows, dx, client) = (Rows::of(&x), room_like(&x), x.client.clone());
        let types = [stored(&x), stored(&weight)];
        rms_norm_backward::launch(
            &client,
            rows.count(),
            rows.dim(),
            rows.vector,
            dy.into_buffer_arg(),
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            dx.clone().into_buffer_arg(),
            rows.rows,
            rows.width,
            eps as f32,
            rows.units,
            types,
        );
        dx
    }

    fn fused_layer_norm_backward(
        dy: CubeTensor,
        x: CubeTensor,
        weight: CubeTensor,
        eps: f64,
    ) -> CubeTensor {
        let (dy, x, weight) = (contiguous(dy), contiguous(x), contiguous(weight));
        let (rows, dx, client) = (Rows::of(&x), room_like(&x), x.client.clone());
        let types = [stored(&x), stored(&weight)];
        layer_norm_backward::launch(
            &client,
            rows.count(),
            rows.dim(),
            rows.vector,
            dy.into_buffer_arg(),
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            dx.clone().into_buffer_arg(),
            rows.rows,
            rows.width,
            eps as f32,
            rows.units,
            types,
        );
        dx
    }
}

#[cube(launch)]
fn rms_norm<F: Float, W: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    y: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] units: usize,
    #[define(F, W)] _types: [ElemType; 2],
) {
    let first = row_of_cube(rows) * width;
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < width {
        let x = Vector::<f32, N>::cast_from(x[first + i]);
        squares += x * x;
        i += units;
    }
    let count = f32::cast_from(width * N::value());
    let mean = sum_of_cube(sum_of_vector(squares), units) / count;
    let scale = Vector::<f32, N>::new(1.0 / (mean + eps).sqrt());
    let mut i = UNIT_POS as usize;
    while i < width {
        let normal = Vector::<f32, N>::cast_from(x[first + i]) * scale;
        y[first + i] = Vector::cast_from(normal * Vector::cast_from(weight[i]));
        i += units;
    }
}

/// With `n = x s`, `s = rsqrt(mean(x^2) + eps)`: `dx = s (g - n mean(g n))`, `g = dy w`.
#[cube(launch)]
fn rms_norm_backward<F: Float, W: Float, N: Size>(
    dy: &[Vector<F, N>],
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    dx: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] units: usize,
    #[define(F, W)] _types: [ElemType; 2],
) {
    let first = row_of_cube(rows) * width;
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut products = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < width {
        let x = Vector::<f32, N>::cast_from(x[first + i]);
        let g = Vector::<f32, N>::cast_from(dy[first + i]) * Vector::cast_from(weight[i]);
        squares += x * x;
        products += g * x;
        i += units;
    }
    let count = f32::cast_from(width * N::value());
    let mean = sum_of_cube(sum_of_vector(squares), units) / count;
    let scale = 1.0 / (mean + eps).sqrt();
    let along = sum_of_cube(sum_of_vector(products), units) / count * scale * scale;
    let (scale, along) = (Vector::<f32, N>::new(scale), Vector::<f32, N>::new(along));
    let mut i = UNIT_POS as usize;
    while i < width {
        let x = Vector::<f32, N>::cast_from(x[first + i]);
        let g = Vector::<f32, N>::cast_from(dy[first + i]) * Vector::cast_from(weight[i]);
        dx[first + i] = Vector::cast_from(scale * (g - x * along));
        i += units;
    }
}

#[cube(launch)]
fn layer_norm<F: Float, W: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    bias: &[Vector<W, N>],
    y: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] units: usize,
    #[define(F, W)] _types: [ElemType; 2],
) {
    let first = row_of_cube(rows) * width;
    let mean = mean_of_row(x, first, width, units);
    let scale = scale_of_row(x, first, width, mean, eps, units);
    let (mean, scale) = (Vector::<f32, N>::new(mean), Vector::<f32, N>::new(scale));
    let mut i = UNIT_POS as usize;
    while i < width {
        let normal = (Vector::<f32, N>::cast_from(x[first + i]) - mean) * scale;
        let scaled = normal * Vector::cast_from(weight[i]);
        y[first + i] = Vector::cast_from(scaled + Vector::cast_from(bias[i]));
        i += units;
    }
}

/// With `n = (x - mean) s`: `dx = s (g - mean(g) - n mean(g n))`, `g = dy w`.
#[cube(launch)]
fn layer_norm_backward<F: Float, W: Float, N: Size>(
    dy: &[Vector<F, N>],
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    dx: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] units: usize,
    #[define(F, W)] _types: [ElemType; 2],
) {
    let first = row_of_cube(rows) * width;
    let mean = mean_of_row(x, first, width, units);
    let scale = scale_of_row(x, first, width, mean, eps, units);
    let centre = Vector::<f32, N>::new(mean);
    let mut sums = Vector::<f32, N>::new(0.0);
    let mut products = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < width {
        let x = Vector::<f32, N>::cast_from(x[first + i]);
        let g = Vector::<f32, N>::cast_from(dy[first + i]) * Vector::cast_from(weight[i]);
        sums += g;
        products += g * (x - centre);
        i += units;
    }
    let count = f32::cast_from(width * N::value());
    let mean_g = sum_of_cube(sum_of_vector(sums), units) / count;
    let along = sum_of_cube(sum_of_vector(products), units) / count * scale * scale;
    let (scale, mean_g, along) = (
        Vector::<f32, N>::new(scale),
        Vector::<f32, N>::new(mean_g),
        Vector::<f32, N>::new(along),
    );
    let mut i = UNIT_POS as usize;
    while i < width {
        let x = Vector::<f32, N>::cast_from(x[first + i]);
        let g = Vector::<f32, N>::cast_from(dy[first + i]) * Vector::cast_from(weight[i]);
        dx[first + i] = Vector::cast_from(scale * (g - mean_g - (x - centre) * along));
        i += units;
    }
}

#[cube]
fn mean_of_row<F: Float, N: Size>(
    x: &[Vector<F, N>],
    first: usize,
    width: usize,
    #[comptime] units: usize,
) -> f32 {
    let mut sums = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < width {
        sums += Vector::<f32, N>::cast_from(x[first + i]);
        i += units;
    }
    sum_of_cube(sum_of_vector(sums), units) / f32::cast_from(width * N::value())
}

/// `rsqrt(var + eps)`, the variance without Bessel's correction.
#[cube]
fn scale_of_row<F: Float, N: Size>(
    x: &[Vector<F, N>],
    first: usize,
    width: usize,
    mean: f32,
    eps: f32,
    #[comptime] units: usize,
) -> f32 {
    let centre = Vector::<f32, N>::new(mean);
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < width {
        let centred = Vector::<f32, N>::cast_from(x[first + i]) - centre;
        squares += centred * centred;
        i += units;
    }
    let variance = sum_of_cube(sum_of_vector(squares), units) / f32::cast_from(width * N::value());
    1.0 / (variance + eps).sqrt()
}
