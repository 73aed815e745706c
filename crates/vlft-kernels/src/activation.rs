//! Gated and Gaussian activations.

use burn::tensor::{Tensor, activation};

/// `silu(gate) * up`, the feed-forward gate of the language model.
pub fn swiglu<const R: usize>(gate: Tensor<R>, up: Tensor<R>) -> Tensor<R> {
    activation::silu(gate) * up
}

/// GELU in its tanh form, `gelu_pytorch_tanh`:
/// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
///
/// burn's own `gelu_approximate` cubes with `powf`, which is slow and drops digits.
pub fn gelu_tanh<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * 0.044715) * SQRT_2_OVER_PI;
    x * 0.5 * (inner.tanh() + 1.0)
}

/// GELU with the exact error function, as the mergers use it.
pub fn gelu_erf<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    activation::gelu(x)
}
