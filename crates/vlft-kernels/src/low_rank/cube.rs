//! burn's products, and the update in one pass over what is updated: not a product and a sum.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Scalar;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{LowRankGradients, LowRankOps};
use crate::cube::{MAX_UNITS, contiguous, cubes, room_like, stored, vector_size};

/// Rows of a unit: so often is a part of `b` used that was read once.
const ROWS: usize = 8;

fn product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    CubeBackend::float_matmul(a, b)
}

fn transposed(x: CubeTensor) -> CubeTensor {
    CubeBackend::float_transpose(x)
}

fn scaled(x: CubeTensor, scale: f32) -> CubeTensor {
    CubeBackend::float_mul_scalar(x, Scalar::from(scale))
}

impl LowRankOps for CubeBackend {
    fn fused_lora_a(x: CubeTensor, a: CubeTensor, scale: f32) -> CubeTensor {
        scaled(product(x, transposed(a)), scale)
    }

    fn fused_lora_b(y: CubeTensor, h: CubeTensor, b: CubeTensor) -> CubeTensor {
        add_product(y, h, transposed(b))
    }
}

impl LowRankGradients for CubeBackend {
    fn fused_lora_a_backward(
        dh: CubeTensor,
        x: CubeTensor,
        a: CubeTensor,
        scale: f32,
        wants_dx: bool,
    ) -> [Option<CubeTensor>; 2] {
        let dh = scaled(dh, scale);
        let dx = wants_dx.then(|| product(dh.clone(), a));
        [dx, Some(product(transposed(dh), x))]
    }

    fn fused_lora_b_backward(dy: CubeTensor, h: CubeTensor, b: CubeTensor) -> [CubeTensor; 2] {
        [product(dy.clone(), b), product(transposed(dy), h)]
    }
}

/// `y + h b`, summed in f32 and rounded once. `y`: `[N, C]`, `h`: `[N, r]`, `b`: `[r, C]`.
fn add_product(y: CubeTensor, h: CubeTensor, b: CubeTensor) -> CubeTensor {
    let [y, h, b] = [y, h, b].map(contiguous);
    let ([rows, columns], rank) = ([y.shape()[0], y.shape()[1]], h.shape()[1]);
    let (client, dtype, out) = (y.client.clone(), stored(&y), room_like(&y));
    let vector = vector_size(&client, columns);
    let width = columns / vector;
    let units = rows.div_ceil(ROWS) * width;
    sum_with_product::launch(
        &client,
        cubes(units.div_ceil(MAX_UNITS)),
        CubeDim::new_1d(MAX_UNITS as u32),
        vector,
        y.into_buffer_arg(),
        h.into_buffer_arg(),
        b.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        rows,
        width,
        rank,
        dtype,
    );
    out
}

/// A unit for each vector of columns of each few rows.
#[cube(launch)]
fn sum_with_product<F: Float, N: Size>(
    y: &[Vector<F, N>],
    h: &[F],
    b: &[Vector<F, N>],
    out: &mut [Vector<F, N>],
    rows: usize,
    width: usize,
    rank: usize,
    #[define(F)] _dtype: ElemType,
) {
    let (column, first) = (ABSOLUTE_POS % width, ABSOLUTE_POS / width * ROWS);
    if first >= rows {
        terminate!();
    }
    let mut sums = Array::<Vector<f32, N>>::new(ROWS);
    #[unroll]
    for i in 0..ROWS {
        sums[i] = Vector::new(0.0);
    }
    for k in 0..rank {
        let b = Vector::<f32, N>::cast_from(b[k * width + column]);
        #[unroll]
        for i in 0..ROWS {
            // Beyond the last row: that one again, which is not written.
            let row = select(first + i < rows, first + i, rows - 1);
            let h = Vector::<f32, N>::new(f32::cast_from(h[row * rank + k]));
            sums[i] += h * b;
        }
    }
    #[unroll]
    for i in 0..ROWS {
        if first + i < rows {
            let at = (first + i) * width + column;
            out[at] = Vector::cast_from(Vector::<f32, N>::cast_from(y[at]) + sums[i]);
        }
    }
}
