//! The definitions.

use burn::tensor::{DType, Tensor};

pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let dtype = x.dtype();
    let y = x.matmul(as_type(weight, dtype).transpose());
    match bias {
        Some(bias) => y + as_type(bias, dtype).unsqueeze(),
        None => y,
    }
}

pub(crate) fn add_low_rank(
    y: Tensor<2>,
    x: Tensor<2>,
    a: Tensor<2>,
    b: Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    y + x.matmul(a.transpose()).matmul(b.transpose()) * scale
}

fn as_type<const R: usize>(x: Tensor<R>, dtype: DType) -> Tensor<R> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
