//! The head and its loss, fused: logits of a few rows at a time, the gradient at once, so that
//! `[N, V]` logits (151 936 wide in Qwen3-VL) never exist as a whole.

mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod reference;

use burn::tensor::Tensor;

use crate::linear::linear;
use crate::path::Path;
use crate::profile::{Family, span};

/// Logit elements held at a time: 16 Mi, 64 MiB in f32.
const CHUNK_ELEMENTS: usize = 16 << 20;

/// What [`cross_entropy`] returns.
pub struct CrossEntropy {
    /// Negative log-likelihood of each row's target, in nats. `[N]`, f32, on the device: reading it
    /// waits for everything before.
    pub nll: Tensor<1>,
    /// Gradient of the *sum* of `nll` with respect to `hidden`. `[N, C]`; absent if not asked for.
    pub d_hidden: Option<Tensor<2>>,
}

/// `-log softmax(hidden weight^T)[target]` for each row, in f32; the logits are of the type of `hidden`.
///
/// `hidden`: `[N, C]`, outside autodiff; `weight`: `[V, C]`; `targets`: N ids below V.
pub fn cross_entropy(
    hidden: Tensor<2>,
    weight: &Tensor<2>,
    targets: &[i32],
    with_gradient: bool,
) -> CrossEntropy {
    let _span = span(Family::Loss);
    let vocabulary = weight.dims()[0];
    cross_entropy_in_chunks(
        hidden,
        weight,
        targets,
        with_gradient,
        CHUNK_ELEMENTS / vocabulary,
    )
}

fn cross_entropy_in_chunks(
    hidden: Tensor<2>,
    weight: &Tensor<2>,
    targets: &[i32],
    with_gradient: bool,
    rows_per_chunk: usize,
) -> CrossEntropy {
    let mut nll = Vec::new();
    let mut d_hidden = Vec::new();
    let mut start = 0;
    for chunk in targets.chunks(rows_per_chunk.max(1)) {
        let rows = hidden.clone().narrow(0, start, chunk.len());
        start += chunk.len();
        let logits = linear(rows, weight.clone(), None);
        let (row_nll, d_logits) = match Path::of(&logits) {
            Path::Host => cpu::loss_of_logits(logits, chunk, with_gradient),
            #[cfg(feature = "cube")]
            Path::Cube => cube::loss_of_logits(logits, chunk, with_gradient),
            Path::Reference => reference::loss_of_logits(logits, chunk, with_gradient),
        };
        nll.push(row_nll);
        d_hidden.extend(d_logits.map(|d_logits| d_logits.matmul(weight.clone())));
    }
    let nll = match nll.is_empty() {
        true => Tensor::empty([0], &hidden.device()),
        false => Tensor::cat(nll, 0),
    };
    let d_hidden = (!d_hidden.is_empty()).then(|| Tensor::cat(d_hidden, 0));
    CrossEntropy { nll, d_hidden }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Int, TensorData, Tolerance, activation};

    use super::*;

    #[test]
    fn chunks_and_their_gradient_agree_with_autodiff_over_all_logits() {
        let (n, v, c) = (11, 37, 8);
        let device = Device::flex();
        let hidden = Tensor::<2>::random([n, c], Distribution::Normal(0.0, 2.0), &device);
        let weight = Tensor::<2>::random([v, c], Distribution::Normal(0.0, 1.0), &device);
        let targets: Vec<i32> = (0..11).map(|i| (i * 17) % 37).collect();

        let tracked = hidden.clone().autodiff().require_grad();
        let target = Tensor::<2, Int>::from_data(TensorData::new(targets.clone(), [n, 1]), &device);
        let log_p = activation::log_softmax(tracked.clone().matmul(weight.clone().transpose()), 1);
        let expected = -log_p.gather(1, target.autodiff());
        let mut gradients = expected.clone().sum().backward();
        let expected_gradient = tracked.grad_remove(&mut gradients).unwrap();

        for rows in [1, 4, 100] {
            let got = cross_entropy_in_chunks(hidden.clone(), &weight, &targets, true, rows);
            let tolerance = Tolerance::absolute(1e-5);
            let nll = got.nll.reshape([n, 1]).into_data();
            nll.assert_approx_eq::<f32>(&expected.to_data(), tolerance);
            let gradient = got.d_hidden.unwrap().into_data();
            gradient.assert_approx_eq::<f32>(&expected_gradient.to_data(), tolerance);
        }
    }
    #[test]
    fn rows_agree_with_the_definition() {
        for (rows, width) in [(1, 1), (3, 37), (5, 2500)] {
            let device = Device::flex();
            let logits =
                Tensor::<2>::random([rows, width], Distribution::Normal(0.0, 4.0), &device);
            let targets: Vec<i32> = (0..rows).map(|i| (i * 17) % width).collect();
            let (fast, fast_gradient) = cpu::loss_of_logits(logits.clone(), &targets, true);
            let (slow, slow_gradient) = reference::loss_of_logits(logits, &targets, true);
            let tolerance = Tolerance::absolute(2e-6);
            fast.into_data()
                .assert_approx_eq::<f32>(&slow.into_data(), tolerance);
            let fast = fast_gradient.unwrap().into_data();
            fast.assert_approx_eq::<f32>(&slow_gradient.unwrap().into_data(), tolerance);
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_rows_agree_with_the_definition() {
        use burn::tensor::DType;

        use crate::twins::gpu::{device, sent, settled};

        for (rows, width) in [(1, 4), (3, 37), (5, 2500)] {
            let spread = Distribution::Normal(0.0, 4.0);
            let logits = Tensor::<2>::random([rows, width], spread, &Device::flex());
            let targets: Vec<i32> = (0..rows).map(|i| ((i * 17 + 2) % width) as i32).collect();
            for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F16, 2e-3)] {
                let logits = logits.clone().cast(dtype).cast(DType::F32);
                let on_gpu = sent(&logits, dtype);
                let (slow, slow_gradient) = reference::loss_of_logits(logits, &targets, true);
                let (fast, fast_gradient) = cube::loss_of_logits(on_gpu.clone(), &targets, true);
                let (without, none) = cube::loss_of_logits(on_gpu, &targets, false);
                assert!(none.is_none());
                let tolerance = Tolerance::absolute(tolerance).set_relative(tolerance);
                for fast in [fast, without] {
                    fast.into_data()
                        .assert_approx_eq::<f32>(&slow.to_data(), tolerance);
                }
                let fast = fast_gradient.unwrap().into_data().convert::<f32>();
                fast.assert_approx_eq::<f32>(&slow_gradient.unwrap().into_data(), tolerance);
                settled(&device());
            }
        }
    }
}
