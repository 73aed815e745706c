use burn::backend::Flex;
use burn::tensor::{Device, Distribution, Tolerance};

use super::*;

fn values(n: usize, seed: u64) -> Vec<f32> {
    // A congruential generator is enough: any spread of magnitudes will do.
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        uniform * 2f32.powi((state >> 20) as i32 % 5)
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn nf4(shape: [usize; 2], double: bool) -> Nf4Matrix {
    let packed = quantize(&values(shape[0] * shape[1], 7), double).unwrap();
    Nf4Matrix::new(packed, &Code::default(), shape, &Device::flex())
}

const SHAPES: [[usize; 2]; 5] = [[64, 64], [7, 13], [96, 160], [1, 1], [33, 130]];

#[test]
fn the_fast_path_and_the_definition_give_the_same_bits() {
    for shape in SHAPES {
        for double in [false, true] {
            let nf4 = nf4(shape, double);
            let slow = op::dequantize_reference::<burn::backend::Dispatch>(
                nf4.codes.clone().into_dispatch(),
                nf4.levels.clone().into_dispatch(),
                nf4.scales().into_dispatch(),
                nf4.geometry,
            );
            let slow = Tensor::<2>::from_dispatch(slow).into_data();
            assert_eq!(nf4.matrix().into_data(), slow, "{shape:?}");
        }
    }
    // Nothing above would notice if the fast path were not the one in use.
    fn is_fast<B: op::Nf4Ops>() {}
    is_fast::<Flex>();
}

#[test]
fn values_come_back_within_half_a_step_and_packing_round_trips() {
    for double in [false, true] {
        let (shape, before) = ([96, 160], values(96 * 160, 7));
        let nf4 = nf4(shape, double);
        let after: Vec<f32> = nf4.matrix().into_data().iter().collect();
        for (before, after) in before.chunks(BLOCK).zip(after.chunks(BLOCK)) {
            let absmax = before.iter().fold(0f32, |max, x| max.max(x.abs()));
            for (before, after) in before.iter().zip(after) {
                // The widest gap between levels is 0.304; quantised scales add a little.
                assert!((before - after).abs() <= absmax * 0.16 + 0.05 * absmax);
            }
        }
        let again = Nf4Matrix::new(nf4.to_packed(), &Code::default(), shape, &Device::flex());
        assert_eq!(again.matrix().into_data(), nf4.matrix().into_data());
        assert_eq!(again.is_double(), double);
    }
}

#[test]
fn rows_are_rows_of_the_matrix() {
    for shape in [[9, 128], [9, 96], [9, 13]] {
        let nf4 = nf4(shape, true);
        let rows = || Tensor::<1, Int>::from_data([3, 0, 8, 3], &Device::flex());
        let expected = nf4.matrix().select(0, rows()).into_data();
        assert_eq!(nf4.rows(rows()).into_data(), expected, "{shape:?}");
    }
}

#[test]
fn the_product_and_its_gradient_agree_with_the_dense_matrix() {
    let device = Device::flex();
    for shape in SHAPES {
        let nf4 = nf4(shape, true);
        let random =
            |columns| Tensor::<2>::random([5, columns], Distribution::Normal(0.0, 1.0), &device);
        let (x, dy) = (random(shape[1]), random(shape[0]));
        let run = |product: &dyn Fn(Tensor<2>) -> Tensor<2>| {
            let x = x.clone().autodiff().require_grad();
            let y = product(x.clone());
            let mut gradients = (y.clone() * dy.clone().autodiff()).sum().backward();
            let dx = x.grad_remove(&mut gradients).unwrap();
            [y.inner().into_data(), dx.into_data()]
        };
        let packed = run(&|x| nf4.linear(x));
        let dense = run(&|x| x.matmul(nf4.matrix().transpose().autodiff()));
        for (packed, dense) in packed.iter().zip(&dense) {
            packed.assert_approx_eq::<f32>(dense, Tolerance::absolute(1e-5));
        }
    }
}

#[test]
#[cfg(feature = "wgpu")]
fn gpu_matrices_are_those_of_the_cpu() {
    use crate::twins::gpu::{device, settled};

    let gpu = device();
    for shape in SHAPES.into_iter().chain([[40, 256]]) {
        for double in [false, true] {
            let packed = quantize(&values(shape[0] * shape[1], 7), double).unwrap();
            let on_gpu = Nf4Matrix::new(packed.clone(), &Code::default(), shape, &gpu);
            assert_eq!(on_gpu.to_packed(), packed, "{shape:?}");
            let on_cpu = Nf4Matrix::new(packed, &Code::default(), shape, &Device::flex());
            // A GPU may round once where the CPU rounds twice, in a scale.
            let exact = match double {
                false => Tolerance::absolute(0.0),
                true => Tolerance::relative(1e-6),
            };
            let expected = on_cpu.matrix().into_data();
            let dense = on_gpu.matrix().into_data();
            dense.assert_approx_eq::<f32>(&expected, exact);
            let halves = on_gpu.matrix_in(FloatDType::F16).into_data();
            let halves = halves.convert::<f32>();
            halves.assert_approx_eq::<f32>(&expected, Tolerance::relative(1e-3));

            let rows = |device: &Device| {
                let last = shape[0] as i32 - 1;
                Tensor::<1, Int>::from_data([last, 0, last], (device, DType::I32))
            };
            let picked = on_gpu.rows(rows(&gpu)).into_data();
            let expected = on_cpu.rows(rows(&Device::flex())).into_data();
            picked.assert_approx_eq::<f32>(&expected, exact);
        }
    }
    settled(&gpu);
}

#[test]
#[cfg(feature = "wgpu")]
fn gpu_products_agree_with_the_dense_matrix() {
    use crate::twins::gpu::agrees;

    for shape in [[64, 64], [7, 13], [33, 130]] {
        let packed = quantize(&values(shape[0] * shape[1], 7), true).unwrap();
        let on = |device| Nf4Matrix::new(packed.clone(), &Code::default(), shape, device);
        let (on_gpu, on_cpu) = (on(&crate::twins::gpu::device()), on(&Device::flex()));
        agrees(
            &[[5, shape[1]]],
            &[],
            1e-4,
            |x, _| on_gpu.linear(x[0].clone()) * 0.1,
            |x, _| x[0].clone().matmul(on_cpu.matrix().transpose().autodiff()) * 0.1,
        );
    }
}
