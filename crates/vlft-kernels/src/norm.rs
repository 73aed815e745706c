//! Normalisation over the last axis.

use burn::tensor::Tensor;

/// `x * rsqrt(mean(x^2) + eps) * weight`, over the last axis of `[.., C]` with weight `[C]`.
pub fn rms_norm<const R: usize>(x: Tensor<R>, weight: Tensor<1>, eps: f64) -> Tensor<R> {
    let mean_square = (x.clone() * x.clone()).mean_dim(R - 1);
    let normal = x / (mean_square + eps).sqrt();
    normal * weight.unsqueeze::<R>()
}

/// `(x - mean) * rsqrt(var + eps) * weight + bias`, variance without Bessel's correction.
pub fn layer_norm<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<R> {
    let centred = x.clone() - x.mean_dim(R - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(R - 1);
    let normal = centred / (variance + eps).sqrt();
    normal * weight.unsqueeze::<R>() + bias.unsqueeze::<R>()
}
