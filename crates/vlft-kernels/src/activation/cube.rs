//! One pass each.

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{ActivationGradients, ActivationOps, Gelu};
use crate::cube::{Flat, contiguous, room_like, stored};

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// `1 / sqrt(2 pi)`
const DENSITY: f32 = 0.398_942_3;

impl ActivationOps for CubeBackend {
    fn fused_swiglu(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        let (gate, up) = (contiguous(gate), contiguous(up));
        let (flat, y, client) = (Flat::of(&gate), room_like(&gate), gate.client.clone());
        let dtype = stored(&gate);
        swiglu::launch(
            &client,
            flat.cubes(),
            flat.dim(),
            flat.vector,
            gate.into_buffer_arg(),
            up.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            dtype,
        );
        y
    }

    fn fused_gelu(x: CubeTensor, form: Gelu) -> CubeTensor {
        let x = contiguous(x);
        let (flat, y, client) = (Flat::of(&x), room_like(&x), x.client.clone());
        let dtype = stored(&x);
        gelu::launch(
            &client,
            flat.cubes(),
            flat.dim(),
            flat.vector,
            x.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            form == Gelu::Tanh,
            dtype,
        );
        y
    }
}

impl ActivationGradients for CubeBackend {
    fn fused_swiglu_backward(dy: CubeTensor, gate: CubeTensor, up: CubeTensor) -> [CubeTensor; 2] {
        let (dy, gate, up) = (contiguous(dy), contiguous(gate), contiguous(up));
        let (flat, client, dtype) = (Flat::of(&gate), gate.client.clone(), stored(&gate));
        let (d_gate, d_up) = (room_like(&gate), room_like(&gate));
        swiglu_backward::launch(
            &client,
            flat.cubes(),
            flat.dim(),
            flat.vector,
            dy.into_buffer_arg(),
            gate.into_buffer_arg(),
            up.into_buffer_arg(),
            d_gate.clone().into_buffer_arg(),
            d_up.clone().into_buffer_arg(),
            dtype,
        );
        [d_gate, d_up]
    }

    fn fused_gelu_backward(dy: CubeTensor, x: CubeTensor, form: Gelu) -> CubeTensor {
        let (dy, x) = (contiguous(dy), contiguous(x));
        let (flat, dx, client) = (Flat::of(&x), room_like(&x), x.client.clone());
        let dtype = stored(&x);
        gelu_backward::launch(
            &client,
            flat.cubes(),
            flat.dim(),
            flat.vector,
            dy.into_buffer_arg(),
            x.into_buffer_arg(),
            dx.clone().into_buffer_arg(),
            form == Gelu::Tanh,
            dtype,
        );
        dx
    }
}

#[cube]
fn one<N: Size>() -> Vector<f32, N> {
    Vector::<f32, N>::new(1.0)
}

#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    one::<N>() / (one::<N>() + (Vector::<f32, N>::new(0.0) - x).exp())
}

#[cube(launch)]
fn swiglu<F: Float, N: Size>(
    gate: &[Vector<F, N>],
    up: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let gate = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let up = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
    y[ABSOLUTE_POS] = Vector::cast_from(gate * sigmoid(gate) * up);
}

/// `silu(g) = g s`, `silu'(g) = s (1 + g (1 - s))`, s the sigmoid.
#[cube(launch)]
fn swiglu_backward<F: Float, N: Size>(
    dy: &[Vector<F, N>],
    gate: &[Vector<F, N>],
    up: &[Vector<F, N>],
    d_gate: &mut [Vector<F, N>],
    d_up: &mut [Vector<F, N>],
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= d_up.len() {
        terminate!();
    }
    let dy = Vector::<f32, N>::cast_from(dy[ABSOLUTE_POS]);
    let gate = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
    let up = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
    let s = sigmoid(gate);
    let slope = s * (one::<N>() + gate * (one::<N>() - s));
    d_gate[ABSOLUTE_POS] = Vector::cast_from(dy * up * slope);
    d_up[ABSOLUTE_POS] = Vector::cast_from(dy * gate * s);
}

#[cube(launch)]
fn gelu<F: Float, N: Size>(
    x: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    #[comptime] tanh: bool,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    let half = Vector::<f32, N>::new(0.5);
    y[ABSOLUTE_POS] = Vector::cast_from(half * x * (one::<N>() + curve(x, tanh)));
}

/// The odd curve between -1 and 1 that a form of GELU has in it.
#[cube]
fn curve<N: Size>(x: Vector<f32, N>, #[comptime] tanh: bool) -> Vector<f32, N> {
    if tanh {
        let cube = x * x * x * Vector::<f32, N>::new(0.044715);
        ((x + cube) * Vector::<f32, N>::new(SQRT_2_OVER_PI)).tanh()
    } else {
        (x * Vector::<f32, N>::new(SQRT_HALF)).erf()
    }
}

/// `(1 + c + x c') / 2` with c the curve.
#[cube(launch)]
fn gelu_backward<F: Float, N: Size>(
    dy: &[Vector<F, N>],
    x: &[Vector<F, N>],
    dx: &mut [Vector<F, N>],
    #[comptime] tanh: bool,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= dx.len() {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
    let dy = Vector::<f32, N>::cast_from(dy[ABSOLUTE_POS]);
    let (c, half) = (curve(x, tanh), Vector::<f32, N>::new(0.5));
    let slope = if tanh {
        let inner = Vector::<f32, N>::new(3.0 * 0.044715) * x * x;
        (one::<N>() - c * c) * (one::<N>() + inner) * Vector::<f32, N>::new(SQRT_2_OVER_PI)
    } else {
        (Vector::<f32, N>::new(-0.5) * x * x).exp() * Vector::<f32, N>::new(2.0 * DENSITY)
    };
    dx[ABSOLUTE_POS] = Vector::cast_from(dy * half * (one::<N>() + c + x * slope));
}
