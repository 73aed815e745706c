//! The two products of LoRA beside a frozen matrix: `y + s (x A^T) B^T`.

mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod reference;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use crate::path::{Path, is_cube};
use crate::profile::{Family, span};
use crate::tape::record;

/// Whether one [`lora_a`] for several modules beats one for each: on a GPU each of them reads `x` from its
/// memory, on a CPU from the cache, where joining and parting the small matrices takes longer.
pub fn pays_together(x: &Tensor<2>) -> bool {
    is_cube(&x.device())
}

/// `s x A^T`, the small middle. `x`: `[N, in]`, `a`: `[r, in]`.
pub fn lora_a(x: Tensor<2>, a: Tensor<2>, scale: f64) -> Tensor<2> {
    let _span = span(Family::LowRank);
    if !Path::has_kernel(&x) {
        return reference::lora_a(x, a, scale);
    }
    let (x, a) = (x.into_dispatch(), a.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_lora_a(x, a, scale as f32))
}

/// `y + h B^T`. `y`: `[N, out]`, `h`: `[N, r]`, `b`: `[out, r]`.
///
/// On a CPU `y` is added to in place if it is not used elsewhere.
pub fn lora_b(y: Tensor<2>, h: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let _span = span(Family::LowRank);
    if !Path::has_kernel(&y) {
        return reference::lora_b(y, h, b);
    }
    let (y, h, b) = (y.into_dispatch(), h.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_lora_b(y, h, b))
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait LowRankOps: Backend {
    fn fused_lora_a(x: FloatTensor<Self>, a: FloatTensor<Self>, scale: f32) -> FloatTensor<Self>;

    fn fused_lora_b(
        y: FloatTensor<Self>,
        h: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

pub(crate) trait LowRankGradients: LowRankOps {
    /// Of x, if it is wanted, and of A.
    fn fused_lora_a_backward(
        dh: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        scale: f32,
        wants_dx: bool,
    ) -> [Option<FloatTensor<Self>>; 2];

    /// Of h and of B. That of y is `dy`.
    fn fused_lora_b_backward(
        dy: FloatTensor<Self>,
        h: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];
}

impl<B: LowRankGradients, C: CheckpointStrategy> LowRankOps for Autodiff<B, C> {
    fn fused_lora_a(x: FloatTensor<Self>, a: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let nodes = [x.node(), a.node()];
        let (x, a) = (x.into_primitive(), a.into_primitive());
        let h = B::fused_lora_a(x.clone(), a.clone(), scale);
        record::<B, C, 2>(Family::LowRank, nodes, h, move |dh, [wants_dx, _]| {
            B::fused_lora_a_backward(dh, x, a, scale, wants_dx)
        })
    }

    fn fused_lora_b(
        y: FloatTensor<Self>,
        h: FloatTensor<Self>,
        b: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [y.node(), h.node(), b.node()];
        let (h, b) = (h.into_primitive(), b.into_primitive());
        let sum = B::fused_lora_b(y.into_primitive(), h.clone(), b.clone());
        record::<B, C, 3>(Family::LowRank, nodes, sum, move |dy, _| {
            let [dh, db] = B::fused_lora_b_backward(dy.clone(), h, b);
            [Some(dy), Some(dh), Some(db)]
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::twins::{agree, tracked};

    const SIZES: [(usize, usize, usize, usize); 3] =
        [(1, 1, 1, 1), (7, 12, 10, 3), (130, 96, 200, 16)];

    /// Of y, x, A and B.
    fn shapes((n, inner, out, rank): (usize, usize, usize, usize)) -> [[usize; 2]; 4] {
        [[n, out], [n, inner], [rank, inner], [out, rank]]
    }

    fn fast(x: &[Tensor<2>]) -> Tensor<2> {
        let [y, x, a, b] = [0, 1, 2, 3].map(|i| x[i].clone());
        lora_b(y, lora_a(x, a, 0.7), b)
    }

    fn slow(x: &[Tensor<2>]) -> Tensor<2> {
        let [y, x, a, b] = [0, 1, 2, 3].map(|i| x[i].clone());
        reference::lora_b(y, reference::lora_a(x, a, 0.7), b)
    }

    #[test]
    fn the_low_rank_update_agrees_with_its_definition() {
        for size in SIZES {
            let [y, x, a, b] = shapes(size).map(tracked);
            agree(&[&y, &x, &a, &b], 2e-4, |x| (fast(x), slow(x)));
        }
    }

    #[test]
    fn a_part_of_a_wider_middle_is_taken_as_it_lies() {
        let [y, x, a] = [[9, 10], [9, 12], [7, 12]].map(tracked);
        let b = tracked([10, 4]);
        let columns = |h: Tensor<2>| h.slice([0..9, 3..7]);
        agree(&[&y, &x, &a, &b], 2e-4, |x| {
            let [y, x, a, b] = [0, 1, 2, 3].map(|i| x[i].clone());
            let fast = lora_b(
                y.clone(),
                columns(lora_a(x.clone(), a.clone(), 0.7)),
                b.clone(),
            );
            let slow = reference::lora_b(y, columns(reference::lora_a(x, a, 0.7)), b.clone());
            (fast, slow)
        });
    }

    #[test]
    fn an_input_in_use_elsewhere_is_not_overwritten() {
        let device = Device::flex();
        let ones = |shape: [usize; 2]| Tensor::<2>::ones(shape, &device);
        let y = ones([2, 3]);
        let sum = lora_b(
            y.clone(),
            lora_a(ones([2, 4]), ones([1, 4]), 1.0),
            ones([3, 1]),
        );
        assert_eq!(y.into_data().iter::<f32>().sum::<f32>(), 6.0);
        assert_eq!(sum.into_data().iter::<f32>().sum::<f32>(), 30.0);
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_low_rank_updates_agree_with_their_definition() {
        use crate::twins::gpu::agrees;

        for size in [(1, 4, 3, 1), (3, 12, 10, 2), (43, 96, 300, 16)] {
            agrees(&shapes(size), &[], 2e-4, |x, _| fast(x), |x, _| slow(x));
        }
    }
}
