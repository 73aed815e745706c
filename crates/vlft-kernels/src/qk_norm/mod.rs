//! QK-norm: each head of the queries or keys normalised, then rotated.

#[cfg(feature = "cube")]
mod cube;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use crate::norm::{self, NormGradients, NormOps};
use crate::path::Path;
use crate::profile::{Family, span};
use crate::rotary::{self, RotaryOps};
use crate::tape::record;

/// [`rotary`](rotary::rotary) of the [`rms_norm`](norm::rms_norm) of each head: one pass over memory on a
/// GPU.
///
/// `x`: `[N, H D]`; `weight`: `[D]`, the same for all heads; `cos`, `sin`: `[N, D]`, constants.
pub fn qk_norm(
    x: Tensor<2>,
    weight: Tensor<1>,
    eps: f64,
    cos: &Tensor<2>,
    sin: &Tensor<2>,
) -> Tensor<2> {
    if !Path::has_kernel(&x) {
        return separate(x, weight, eps, cos, sin);
    }
    let _span = span(Family::Norm);
    let (cos, sin) = (cos.clone().into_dispatch(), sin.clone().into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_qk_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        cos,
        sin,
        eps,
    ))
}

/// The definition.
fn separate(
    x: Tensor<2>,
    weight: Tensor<1>,
    eps: f64,
    cos: &Tensor<2>,
    sin: &Tensor<2>,
) -> Tensor<2> {
    let ([n, width], [_, d]) = (x.dims(), cos.dims());
    let heads = x.reshape([n * width / d, d]);
    let normal = norm::rms_norm(heads, weight, eps).reshape([n, width]);
    rotary::rotary(normal, cos, sin)
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait QkNormOps: Backend {
    fn fused_qk_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

pub(crate) trait QkNormGradients: QkNormOps {
    fn fused_qk_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

/// The input is all that is kept for the backward.
impl<B: QkNormGradients, C: CheckpointStrategy> QkNormOps for Autodiff<B, C> {
    fn fused_qk_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (node, x, weight) = (x.node(), x.into_primitive(), weight.into_primitive());
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let (table, kept) = ([cos.clone(), sin.clone()], [x.clone(), weight.clone()]);
        let y = B::fused_qk_norm(x, weight, cos, sin, eps);
        record::<B, C, 1>(Family::Norm, [node], y, move |dy, _| {
            let ([x, weight], [cos, sin]) = (kept, table);
            [Some(B::fused_qk_norm_backward(
                dy, x, weight, cos, sin, eps,
            ))]
        })
    }
}

/// On a CPU both passes stay in the cache.
impl QkNormOps for Flex {
    fn fused_qk_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (shape, heads) = shapes::<Self>(&x, &cos);
        let normal = Self::fused_rms_norm(Self::float_reshape(x, heads), weight, eps);
        Self::fused_rotary(Self::float_reshape(normal, shape), cos, sin, 1.0)
    }
}

impl QkNormGradients for Flex {
    fn fused_qk_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (shape, heads) = shapes::<Self>(&x, &cos);
        let d_normal = Self::fused_rotary(dy, cos, sin, -1.0);
        let d_normal = Self::float_reshape(d_normal, heads.clone());
        let x = Self::float_reshape(x, heads);
        Self::float_reshape(
            Self::fused_rms_norm_backward(d_normal, x, weight, eps),
            shape,
        )
    }
}

/// `[N, H D]`, and the same by heads: `[N H, D]`.
fn shapes<B: Backend>(x: &FloatTensor<B>, cos: &FloatTensor<B>) -> (Shape, Shape) {
    let (shape, d) = (x.shape(), cos.shape()[1]);
    let heads = Shape::new([shape.num_elements() / d, d]);
    (shape, heads)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::twins::{agree, tracked};

    const SIZES: [(usize, usize, usize); 5] = [
        (1, 1, 2),
        (33, 3, 12),
        (20, 4, 72),
        (9, 2, 128),
        (50, 8, 16),
    ];

    /// cos, sin and weight.
    fn constants(tokens: usize, d: usize) -> [Tensor<2>; 3] {
        let random = |shape, range| Tensor::<2>::random(shape, range, &Device::flex());
        let half = random([tokens, d / 2], Distribution::Uniform(-9.0, 9.0));
        let angles = Tensor::cat(vec![half.clone(), half], 1);
        let weight = random([1, d], Distribution::Default);
        [angles.clone().cos(), angles.sin(), weight]
    }

    #[test]
    fn qk_norm_agrees_with_its_definition() {
        for (tokens, heads, d) in SIZES {
            let [cos, sin, weight] = constants(tokens, d);
            let weight = weight.squeeze_dim::<1>(0);
            agree(&[&tracked([tokens, heads * d])], 2e-6, |x| {
                let slow = separate(x[0].clone(), weight.clone(), 1e-6, &cos, &sin);
                let fast = qk_norm(x[0].clone(), weight.clone(), 1e-6, &cos, &sin);
                (fast, slow)
            });
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_qk_norm_agrees_with_its_definition() {
        use crate::twins::gpu::agrees;

        for (tokens, heads, d) in SIZES {
            let vector = |x: &Tensor<2>| x.clone().squeeze_dim::<1>(0);
            agrees(
                &[[tokens, heads * d]],
                &constants(tokens, d),
                1e-5,
                |x, c| qk_norm(x[0].clone(), vector(&c[2]), 1e-6, &c[0], &c[1]),
                |x, c| separate(x[0].clone(), vector(&c[2]), 1e-6, &c[0], &c[1]),
            );
        }
    }
}
