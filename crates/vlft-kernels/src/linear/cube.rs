//! burn's own products, which use the tensor cores; what is ours is what is kept for the backward.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Scalar, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::{LinearGradients, LinearOps, LowRank};

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

fn scaled(x: CubeTensor, scale: f32) -> CubeTensor {
    CubeBackend::float_mul_scalar(x, Scalar::from(scale))
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

    fn fused_add_low_rank(
        y: CubeTensor,
        x: CubeTensor,
        a: CubeTensor,
        b: CubeTensor,
        scale: f32,
    ) -> CubeTensor {
        Self::fused_add_low_rank_middle(y, Self::low_rank_middle(x, a, scale), b)
    }
}

impl LinearGradients for CubeBackend {
    fn fused_linear_backward(dy: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let weight = as_type(weight, &dy);
        product(dy, weight)
    }

    fn low_rank_middle(x: CubeTensor, a: CubeTensor, scale: f32) -> CubeTensor {
        scaled(product(x, transposed(a)), scale)
    }

    fn fused_add_low_rank_middle(y: CubeTensor, h: CubeTensor, b: CubeTensor) -> CubeTensor {
        CubeBackend::float_add(y, product(h, transposed(b)))
    }

    fn fused_add_low_rank_backward(
        dy: CubeTensor,
        kept: LowRank<Self>,
        wants_dx: bool,
    ) -> [Option<CubeTensor>; 3] {
        let d_middle = scaled(product(dy.clone(), kept.b), kept.scale);
        let dx = wants_dx.then(|| product(d_middle.clone(), kept.a));
        let da = product(transposed(d_middle), kept.x);
        let db = product(transposed(dy), kept.middle);
        [dx, Some(da), Some(db)]
    }
}
