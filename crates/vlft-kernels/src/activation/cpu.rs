//! One pass each.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::{ActivationGradients, ActivationOps, Gelu};
use crate::host::{Rows, for_rows, for_rows_of_two, matrix};
use crate::simd::{erf, exp, sigmoid, vectorised};

impl ActivationOps for Flex {
    fn fused_swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let (gate, up) = (Rows::new(gate), Rows::new(up));
        let mut out = vec![0f32; gate.rows * gate.columns];
        for_rows(&mut out, gate.columns, |first, out| {
            swiglu(&gate, &up, first, out);
        });
        matrix(out, gate.rows, gate.columns)
    }

    fn fused_gelu(x: FlexTensor, form: Gelu) -> FlexTensor {
        let x = Rows::new(x);
        let mut out = vec![0f32; x.rows * x.columns];
        for_rows(&mut out, x.columns, |first, out| match form {
            Gelu::Tanh => gelu_tanh(&x, first, out),
            Gelu::Erf => gelu_erf(&x, first, out),
        });
        matrix(out, x.rows, x.columns)
    }
}

impl ActivationGradients for Flex {
    fn fused_swiglu_backward(dy: FlexTensor, gate: FlexTensor, up: FlexTensor) -> [FlexTensor; 2] {
        let (dy, gate, up) = (Rows::new(dy), Rows::new(gate), Rows::new(up));
        let (rows, columns) = (gate.rows, gate.columns);
        let mut d_gate = vec![0f32; rows * columns];
        let mut d_up = vec![0f32; rows * columns];
        for_rows_of_two(&mut d_gate, &mut d_up, columns, |first, d_gate, d_up| {
            swiglu_backward(&dy, &gate, &up, first, d_gate, d_up);
        });
        [matrix(d_gate, rows, columns), matrix(d_up, rows, columns)]
    }

    fn fused_gelu_backward(dy: FlexTensor, x: FlexTensor, form: Gelu) -> FlexTensor {
        let (dy, x) = (Rows::new(dy), Rows::new(x));
        let mut out = vec![0f32; x.rows * x.columns];
        for_rows(&mut out, x.columns, |first, out| match form {
            Gelu::Tanh => d_gelu_tanh(&dy, &x, first, out),
            Gelu::Erf => d_gelu_erf(&dy, &x, first, out),
        });
        matrix(out, x.rows, x.columns)
    }
}

vectorised! {
    fn swiglu(gate: &Rows, up: &Rows, first: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(gate.columns).enumerate() {
            let row = gate.row(first + i).iter().zip(up.row(first + i));
            for (out, (gate, up)) in out.iter_mut().zip(row) {
                *out = gate * sigmoid(*gate) * up;
            }
        }
    }
}

vectorised! {
    /// `silu(g) = g s`, `silu'(g) = s (1 + g (1 - s))`, s the sigmoid.
    fn swiglu_backward(
        dy: &Rows,
        gate: &Rows,
        up: &Rows,
        first: usize,
        d_gate: &mut [f32],
        d_up: &mut [f32],
    ) {
        let width = gate.columns;
        let out = d_gate.chunks_exact_mut(width).zip(d_up.chunks_exact_mut(width));
        for (i, (d_gate, d_up)) in out.enumerate() {
            let (dy, gate, up) = (dy.row(first + i), gate.row(first + i), up.row(first + i));
            for j in 0..width {
                let s = sigmoid(gate[j]);
                d_gate[j] = dy[j] * up[j] * s * (1.0 + gate[j] * (1.0 - s));
                d_up[j] = dy[j] * gate[j] * s;
            }
        }
    }
}

/// `2 sqrt(2/pi)`: `0.5 (1 + tanh(u)) = sigmoid(2 u)`, which saves the tanh.
const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044_715;

vectorised! {
    fn gelu_tanh(x: &Rows, first: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            for (out, x) in out.iter_mut().zip(x.row(first + i)) {
                *out = x * sigmoid(TWICE_SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
            }
        }
    }
}

vectorised! {
    fn d_gelu_tanh(dy: &Rows, x: &Rows, first: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            let row = dy.row(first + i).iter().zip(x.row(first + i));
            for (out, (dy, x)) in out.iter_mut().zip(row) {
                let s = sigmoid(TWICE_SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
                let slope = TWICE_SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
                *out = dy * s * (1.0 + x * (1.0 - s) * slope);
            }
        }
    }
}

vectorised! {
    fn gelu_erf(x: &Rows, first: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            for (out, x) in out.iter_mut().zip(x.row(first + i)) {
                *out = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            }
        }
    }
}

vectorised! {
    /// `gelu'(x) = Phi(x) + x phi(x)`.
    fn d_gelu_erf(dy: &Rows, x: &Rows, first: usize, out: &mut [f32]) {
        const ONE_OVER_SQRT_2_PI: f32 = 0.398_942_3;
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            let row = dy.row(first + i).iter().zip(x.row(first + i));
            for (out, (dy, x)) in out.iter_mut().zip(row) {
                let below = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
                *out = dy * (below + x * ONE_OVER_SQRT_2_PI * exp(-0.5 * x * x));
            }
        }
    }
}
