//! The definitions.

use burn::tensor::Tensor;

pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let mean_square = (x.clone() * x.clone()).mean_dim(1);
    let normal = x / (mean_square + eps).sqrt();
    normal * weight.unsqueeze()
}

pub(crate) fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let normal = centred / (variance + eps).sqrt();
    normal * weight.unsqueeze() + bias.unsqueeze()
}
