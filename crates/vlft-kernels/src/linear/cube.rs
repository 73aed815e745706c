//! burn's own products, which use the tensor cores; what is ours is what is kept for the backward.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::{LinearGradients, LinearOps};

/// A frozen matrix or vector in the type of `like`, for the product.
fn as_type(x: CubeTensor, like: &CubeTensor) -> CubeTensor {
    match x.dtype == like.dtype {
        true => x,
        false => CubeBackend::float_cast(x, like.dtype.into()),
    }
}

fn product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    CubeBackend::float_matmul(a, b)
}

fn transposed(x: CubeTensor) -> CubeTensor {
    CubeBackend::float_transpose(x)
}

impl LinearOps for CubeBackend {
    fn fused_linear(x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
        let (weight, bias) = (as_type(weight, &x), as_type(bias, &x));
        let y = product(x, transposed(weight));
        let outputs = bias.shape().num_elements();
        if outputs == 0 {
            return y;
        }
        let bias = CubeBackend::float_reshape(bias, Shape::new([1, outputs]));
        CubeBackend::float_add(y, bias)
    }
}

impl LinearGradients for CubeBackend {
    fn fused_linear_backward(dy: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let weight = as_type(weight, &dy);
        product(dy, weight)
    }
}
