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

fn as_type<const R: usize>(x: Tensor<R>, dtype: DType) -> Tensor<R> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
