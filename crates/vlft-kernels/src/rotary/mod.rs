//! Rotary position embedding in the rotate-half convention.

mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod reference;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::path::Path;
use crate::profile::{Family, span};
use crate::tape::record;

/// `x cos + rotate_half(x) sin` for every head, pairs are `i` and `i + D/2`.
///
/// `x`: `[N, H D]`; `cos`, `sin`: `[N, D]`, constants, each half of D the same.
pub fn rotary(x: Tensor<2>, cos: &Tensor<2>, sin: &Tensor<2>) -> Tensor<2> {
    let _span = span(Family::Rotary);
    let (cos, sin) = (cos.clone(), sin.clone());
    if !Path::has_kernel(&x) {
        return reference::rotary(x, cos, sin);
    }
    let (cos, sin) = (cos.into_dispatch(), sin.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_rotary(x.into_dispatch(), cos, sin, 1.0))
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait RotaryOps: Backend {
    /// `direction` is 1, or -1 to rotate back: the transpose, which is the backward.
    fn fused_rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        direction: f32,
    ) -> FloatTensor<Self>;
}

impl<B: RotaryOps, C: CheckpointStrategy> RotaryOps for Autodiff<B, C> {
    fn fused_rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        direction: f32,
    ) -> FloatTensor<Self> {
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let (node, x) = (x.node(), x.into_primitive());
        let y = B::fused_rotary(x, cos.clone(), sin.clone(), direction);
        record::<B, C, 1>(Family::Rotary, [node], y, move |dy, _| {
            [Some(B::fused_rotary(dy, cos, sin, -direction))]
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::twins::{agree, tracked};

    #[test]
    fn rotary_agrees_with_its_definition() {
        for (tokens, heads, d) in [(1, 1, 2), (33, 3, 12), (200, 4, 64)] {
            let half = Tensor::<2>::random(
                [tokens, d / 2],
                Distribution::Uniform(-9.0, 9.0),
                &Device::flex(),
            );
            let angles = Tensor::cat(vec![half.clone(), half], 1);
            let (cos, sin) = (angles.clone().cos(), angles.sin());
            agree(&[&tracked([tokens, heads * d])], 1e-6, |x| {
                let slow = reference::rotary(x[0].clone(), cos.clone(), sin.clone());
                (rotary(x[0].clone(), &cos, &sin), slow)
            });
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_rotary_agrees_with_its_definition() {
        use crate::twins::gpu::agrees;

        for (tokens, heads, d) in [(1, 1, 2), (33, 3, 12), (20, 4, 72), (9, 2, 128)] {
            let angles = Distribution::Uniform(-9.0, 9.0);
            let half = Tensor::<2>::random([tokens, d / 2], angles, &Device::flex());
            let angles = Tensor::cat(vec![half.clone(), half], 1);
            agrees(
                &[[tokens, heads * d]],
                &[angles.clone().cos(), angles.sin()],
                1e-5,
                |x, c| rotary(x[0].clone(), &c[0], &c[1]),
                |x, c| reference::rotary(x[0].clone(), c[0].clone(), c[1].clone()),
            );
        }
    }
}
