//! AdamW and the norm of gradients on a GPU: one pass over each matrix, and sums that are read once.
//!
//! On the CPU the optimiser has a loop of its own (`vlft-train/src/optim.rs`), whose arithmetic this is.

#[cfg(feature = "cube")]
mod cube;

use burn::tensor::{DType, Tensor};

use crate::path::is_cube;

/// The numbers of one update, in f32 as torch has them.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub betas: [f32; 2],
    /// `1 - beta`, rounded once.
    pub rests: [f32; 2],
    /// `1 - lr wd`
    pub decay: f32,
    /// `lr / (1 - beta1^t)`
    pub step_size: f32,
    /// `sqrt(1 - beta2^t)`
    pub correction: f32,
    pub eps: f32,
    /// What the gradient is multiplied by first: averaging and clipping.
    pub factor: f32,
}

/// Whether [`update`] and [`squares`] take the tensor: f32 on a GPU.
pub fn has_kernel(x: &Tensor<2>) -> bool {
    x.dtype() == DType::F32 && is_cube(&x.device())
}

/// `[p, m, v]` after one update, in place where nobody else has them.
///
/// # Panics
/// The tensors are not of one shape, in f32 on a GPU.
#[cfg(feature = "cube")]
pub fn update(tensors: [Tensor<2>; 3], gradient: Tensor<2>, update: Update) -> [Tensor<2>; 3] {
    let shapes = tensors.each_ref().map(Tensor::dims);
    assert!(shapes.iter().all(|shape| *shape == gradient.dims()));
    cube::update(tensors, gradient, update)
}

/// [`has_kernel`] is never true in this build.
#[cfg(not(feature = "cube"))]
pub fn update(_: [Tensor<2>; 3], _: Tensor<2>, _: Update) -> [Tensor<2>; 3] {
    unreachable!("asked only where `has_kernel`")
}

/// Numbers whose sum is the sum of squares of all matrices, for the host to add up: `[n, parts]`, f32.
///
/// # Panics
/// There are none, or they are not in f32 on one GPU.
#[cfg(feature = "cube")]
pub fn squares(matrices: Vec<Tensor<2>>) -> Tensor<2> {
    cube::squares(matrices)
}

/// [`has_kernel`] is never true in this build.
#[cfg(not(feature = "cube"))]
pub fn squares(_: Vec<Tensor<2>>) -> Tensor<2> {
    unreachable!("asked only where `has_kernel`")
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;
    use crate::twins::gpu::{device, sent, settled};

    #[test]
    fn gpu_updates_are_those_of_the_formula() {
        let random = |shape, std| {
            let normal = Distribution::Normal(0.0, std);
            Tensor::<2>::random(shape, normal, &Device::flex())
        };
        let step = Update {
            betas: [0.9, 0.999],
            rests: [0.1, 0.001],
            decay: 0.99,
            step_size: 1e-2,
            correction: 0.05,
            eps: 1e-8,
            factor: 0.5,
        };
        for shape in [[1, 1], [3, 7], [16, 300]] {
            let (p, g) = (random(shape, 1.0), random(shape, 0.3));
            let (m, v) = (random(shape, 0.1), random(shape, 0.1).abs());
            let on_gpu = [&p, &m, &v].map(|x| sent(x, DType::F32));
            let got = update(on_gpu, sent(&g, DType::F32), step);

            let g = g * 0.5;
            let m = m * 0.9 + g.clone() * 0.1;
            let v = v * 0.999 + g.clone() * g * 0.001;
            let p = p * 0.99 - m.clone() / (v.clone().sqrt() / 0.05 + 1e-8) * 1e-2;
            for (got, expected) in got.into_iter().zip([p, m, v]) {
                got.into_data()
                    .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::relative(1e-5));
            }
        }
        settled(&device());
    }

    #[test]
    fn gpu_squares_add_up() {
        let random = |shape| {
            let normal = Distribution::Normal(0.0, 1.0);
            Tensor::<2>::random(shape, normal, &Device::flex())
        };
        let matrices = [[1, 1], [3, 7], [16, 3000]].map(random);
        let expected: f64 = matrices
            .iter()
            .map(|x| crate::reduce::sum_of_squares(x.clone()))
            .sum();
        let on_gpu: Vec<_> = matrices.iter().map(|x| sent(x, DType::F32)).collect();
        let parts = squares(on_gpu.clone()).into_data();
        let sum: f64 = parts.iter::<f32>().map(f64::from).sum();
        assert!((sum / expected - 1.0).abs() < 1e-6, "{sum}, {expected}");
        assert_eq!(squares(on_gpu).into_data(), parts, "the same bits again");
        settled(&device());
    }
}
