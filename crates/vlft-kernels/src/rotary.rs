//! Rotary position embedding in the rotate-half convention.

use burn::tensor::Tensor;

/// `x cos + rotate_half(x) sin`, pairs are `i` and `i + D/2`.
///
/// `x`: `[B, H, T, D]`; `cos`, `sin`: `[B, 1, T, D]` (or 1 in place of B).
pub fn rotary(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let first = x.clone().narrow(3, 0, half);
    let second = x.clone().narrow(3, half, half);
    let rotated = Tensor::cat(vec![-second, first], 3);
    x * cos + rotated * sin
}
