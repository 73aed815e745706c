//! A unit for each vector of pairs.

use burn::backend::TensorMetadata;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::RotaryOps;
use crate::cube::{Flat, contiguous, room_like, stored, vector_size};

impl RotaryOps for CubeBackend {
    fn fused_rotary(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, direction: f32) -> CubeTensor {
        let (x, cos, sin) = (contiguous(x), contiguous(cos), contiguous(sin));
        let (y, client, dtype) = (room_like(&x), x.client.clone(), stored(&x));
        let (width, d) = (x.shape()[1], cos.shape()[1]);
        let vector = vector_size(&client, d / 2);
        let half = d / 2 / vector;
        let flat = Flat {
            count: x.shape().num_elements() / 2 / vector,
            vector,
        };
        rotary::launch(
            &client,
            flat.cubes(),
            flat.dim(),
            flat.vector,
            x.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            direction,
            half,
            width / d,
            dtype,
        );
        y
    }
}

/// `half` vectors are half a head; its pairs are `j` and `j + half`.
#[cube(launch)]
fn rotary<F: Float, N: Size>(
    x: &[Vector<F, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    y: &mut [Vector<F, N>],
    direction: f32,
    #[comptime] half: usize,
    #[comptime] heads: usize,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= y.len() / 2 {
        terminate!();
    }
    let (head, j) = (ABSOLUTE_POS / half, ABSOLUTE_POS % half);
    let table = head / heads * (2 * half) + j;
    let (cos, sin) = (cos[table], sin[table] * Vector::<f32, N>::new(direction));
    let low = head * (2 * half) + j;
    let high = low + half;
    let a = Vector::<f32, N>::cast_from(x[low]);
    let b = Vector::<f32, N>::cast_from(x[high]);
    y[low] = Vector::cast_from(a * cos - b * sin);
    y[high] = Vector::cast_from(b * cos + a * sin);
}
