//! The definitions.

use burn::tensor::{Tensor, activation};

pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

/// burn's own `gelu_approximate` cubes with `powf`, which is slow and drops digits.
pub(crate) fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * 0.044715) * SQRT_2_OVER_PI;
    x * 0.5 * (inner.tanh() + 1.0)
}

pub(crate) fn gelu_erf(x: Tensor<2>) -> Tensor<2> {
    activation::gelu(x)
}
