//! The definitions.

use burn::tensor::Tensor;

pub(crate) fn lora_a(x: Tensor<2>, a: Tensor<2>, scale: f64) -> Tensor<2> {
    x.matmul(a.transpose()) * scale
}

pub(crate) fn lora_b(y: Tensor<2>, h: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    y + h.matmul(b.transpose())
}
