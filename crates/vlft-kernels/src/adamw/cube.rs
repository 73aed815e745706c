//! A unit for each vector of an update; several cubes for the squares of each matrix.

use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::Update;
use crate::cube::{Flat, contiguous, primitive, room, sum_of_cube, sum_of_vector, tensor};

/// Cubes that share a matrix.
const PARTS: usize = 32;
const UNITS: usize = 256;

pub(super) fn update(
    tensors: [Tensor<2>; 3],
    gradient: Tensor<2>,
    update: Update,
) -> [Tensor<2>; 3] {
    let [p, m, v] = tensors.map(|x| own(primitive(x)));
    let gradient = contiguous(primitive(gradient));
    let (flat, client) = (Flat::of(&p), p.client.clone());
    let Update {
        betas: [beta1, beta2],
        rests: [rest1, rest2],
        decay,
        step_size,
        correction,
        eps,
        factor,
    } = update;
    adamw::launch(
        &client,
        flat.cubes(),
        flat.dim(),
        flat.vector,
        p.clone().into_buffer_arg(),
        m.clone().into_buffer_arg(),
        v.clone().into_buffer_arg(),
        gradient.into_buffer_arg(),
        beta1,
        rest1,
        beta2,
        rest2,
        decay,
        step_size,
        correction,
        eps,
        factor,
    );
    [p, m, v].map(tensor)
}

pub(super) fn squares(matrices: Vec<Tensor<2>>) -> Tensor<2> {
    let matrices: Vec<CubeTensor> = matrices.into_iter().map(primitive).collect();
    let first = matrices.first().expect("there is a matrix");
    let client = first.client.clone();
    let sums = room(first, Shape::new([matrices.len(), PARTS]), DType::F32);
    for (number, matrix) in matrices.into_iter().map(contiguous).enumerate() {
        let flat = Flat::of(&matrix);
        add_squares::launch(
            &client,
            CubeCount::new_1d(PARTS as u32),
            CubeDim::new_1d(UNITS as u32),
            flat.vector,
            matrix.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            number * PARTS,
            UNITS,
        );
    }
    tensor(sums)
}

/// The tensor itself, or a copy if somebody else looks at it too.
fn own(x: CubeTensor) -> CubeTensor {
    let x = contiguous(x);
    match x.can_mut() {
        true => x,
        false => x.copy(),
    }
}

#[cube(launch)]
fn adamw<N: Size>(
    p: &mut [Vector<f32, N>],
    m: &mut [Vector<f32, N>],
    v: &mut [Vector<f32, N>],
    gradient: &[Vector<f32, N>],
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    decay: f32,
    step_size: f32,
    correction: f32,
    eps: f32,
    factor: f32,
) {
    if ABSOLUTE_POS >= p.len() {
        terminate!();
    }
    let i = ABSOLUTE_POS;
    let g = gradient[i] * Vector::new(factor);
    let first = m[i] * Vector::new(beta1) + g * Vector::new(rest1);
    let second = v[i] * Vector::new(beta2) + g * g * Vector::new(rest2);
    let denominator = second.sqrt() / Vector::new(correction) + Vector::new(eps);
    m[i] = first;
    v[i] = second;
    p[i] = p[i] * Vector::new(decay) - first / denominator * Vector::new(step_size);
}

/// Each cube adds up every `PARTS`th stretch of `units` vectors.
#[cube(launch)]
fn add_squares<N: Size>(
    x: &[Vector<f32, N>],
    sums: &mut [f32],
    first: usize,
    #[comptime] units: usize,
) {
    let mut squares = Vector::<f32, N>::new(0.0);
    let mut i = ABSOLUTE_POS;
    while i < x.len() {
        let value = x[i];
        squares += value * value;
        i += units * PARTS;
    }
    let sum = sum_of_cube(sum_of_vector(squares), units);
    if UNIT_POS == 0 {
        sums[first + CUBE_POS] = sum;
    }
}
