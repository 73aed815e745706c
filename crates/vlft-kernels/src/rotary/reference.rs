//! The definition.

use burn::tensor::Tensor;

pub(crate) fn rotary(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
    let ([n, width], [_, d]) = (x.dims(), cos.dims());
    let heads = x.reshape([n, width / d, d]);
    let (cos, sin) = (cos.unsqueeze_dim(1), sin.unsqueeze_dim(1));
    let first = heads.clone().narrow(2, 0, d / 2);
    let second = heads.clone().narrow(2, d / 2, d / 2);
    let rotated = Tensor::cat(vec![-second, first], 2);
    (heads * cos + rotated * sin).reshape([n, width])
}
