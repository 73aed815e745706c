//! What the tests of all operations share: a fast path and its definition agree, in values and in
//! gradients.

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor, Tolerance};

use crate::grouped::Groups;

/// Different groups for each of some rows; some groups get none.
pub(crate) fn groups(rows: usize, per_row: usize, count: usize) -> Arc<Groups> {
    let chosen = (0..rows).flat_map(|row| {
        (0..per_row).map(move |j| ((row * row * 5 + row + j * 3 + j) % count) as u32)
    });
    Arc::new(Groups::new(&chosen.collect::<Vec<_>>(), per_row, count))
}

/// Normal random values as a leaf of an autodiff graph.
pub(crate) fn tracked<const R: usize>(shape: [usize; R]) -> Tensor<R> {
    let device = Device::flex();
    let x = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
    x.autodiff().require_grad()
}

/// Runs `both` for (fast, slow), compares the values, then the gradients that the same random
/// output gradient sends into each of `inputs`.
pub(crate) fn agree(
    inputs: &[&Tensor<2>],
    tolerance: f64,
    both: impl Fn(&[Tensor<2>]) -> (Tensor<2>, Tensor<2>),
) {
    let inputs: Vec<Tensor<2>> = inputs.iter().map(|x| (*x).clone()).collect();
    let (fast, slow) = both(&inputs);
    let tolerance = Tolerance::absolute(tolerance).set_relative(tolerance);
    let fast_values = fast.to_data();
    fast_values.assert_approx_eq::<f32>(&slow.to_data(), tolerance);

    let dy = Tensor::<2>::random(fast.dims(), Distribution::Normal(0.0, 1.0), &Device::flex());
    let mut fast_gradients = (fast * dy.clone().autodiff()).sum().backward();
    let mut slow_gradients = (slow * dy.autodiff()).sum().backward();
    for (i, x) in inputs.iter().enumerate() {
        let fast = x.grad_remove(&mut fast_gradients);
        let slow = x.grad_remove(&mut slow_gradients);
        let (Some(fast), Some(slow)) = (fast, slow) else {
            panic!("input {i} has no gradient");
        };
        fast.into_data()
            .assert_approx_eq::<f32>(&slow.into_data(), tolerance);
    }
}

/// The same for a GPU kernel: on Mesa's software device, in 32 and in 16 bits, against the definition
/// on the CPU.
#[cfg(feature = "wgpu")]
pub(crate) mod gpu {
    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use burn::tensor::{DType, DeviceKind};

    use super::*;

    /// The device, in a process that counts what goes wrong on its threads: a panic there ends nothing,
    /// and what should have been computed is whatever was in memory.
    pub(crate) fn device() -> Device {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // A test that fails is counted by itself; its thread has its name.
                let thread = std::thread::current();
                if !thread.name().is_some_and(|name| name.contains("tests::")) {
                    PANICS.fetch_add(1, Ordering::SeqCst);
                }
                before(panic);
            }));
        });
        Device::wgpu(DeviceKind::Cpu)
    }

    static PANICS: AtomicUsize = AtomicUsize::new(0);

    /// All that was asked of the device has been done, without a panic of any thread.
    pub(crate) fn settled(device: &Device) {
        device.sync().expect("the device does what it is asked");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a thread panicked");
    }

    fn normal(shape: [usize; 2]) -> Tensor<2> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    /// Numbers that a type has, on the CPU in f32.
    fn rounded<const R: usize>(x: &Tensor<R>, dtype: DType) -> Tensor<R> {
        x.clone().cast(dtype).cast(DType::F32)
    }

    /// From the CPU to the GPU.
    pub(crate) fn sent<const R: usize>(x: &Tensor<R>, dtype: DType) -> Tensor<R> {
        Tensor::from_data(x.to_data().convert_dtype(dtype), (&device(), dtype))
    }

    /// Runs `fast` on the GPU and `slow` on the CPU with the same random inputs of these shapes, and
    /// compares values and gradients. Both get the constants too, on their device in f32.
    pub(crate) fn agrees(
        shapes: &[[usize; 2]],
        constants: &[Tensor<2>],
        tolerance: f64,
        fast: impl Fn(&[Tensor<2>], &[Tensor<2>]) -> Tensor<2>,
        slow: impl Fn(&[Tensor<2>], &[Tensor<2>]) -> Tensor<2>,
    ) {
        // f16 has 11 bits; sums of what was rounded are off by a few of its last.
        let types = [(DType::F32, tolerance), (DType::F16, 4e-3)];
        agrees_in(&types, shapes, constants, fast, slow);
    }

    /// The same, in these types with these tolerances.
    pub(crate) fn agrees_in(
        types: &[(DType, f64)],
        shapes: &[[usize; 2]],
        constants: &[Tensor<2>],
        fast: impl Fn(&[Tensor<2>], &[Tensor<2>]) -> Tensor<2>,
        slow: impl Fn(&[Tensor<2>], &[Tensor<2>]) -> Tensor<2>,
    ) {
        let inputs: Vec<Tensor<2>> = shapes.iter().map(|shape| normal(*shape)).collect();
        let on_gpu: Vec<_> = constants.iter().map(|x| sent(x, DType::F32)).collect();
        for (dtype, tolerance) in types.iter().copied() {
            let leaves = |send: &dyn Fn(&Tensor<2>) -> Tensor<2>| -> Vec<Tensor<2>> {
                let leaf = |x| send(x).autodiff().require_grad();
                inputs.iter().map(leaf).collect()
            };
            let slow_inputs = leaves(&|x| rounded(x, dtype));
            let fast_inputs = leaves(&|x| sent(&rounded(x, dtype), dtype));
            let slow = slow(&slow_inputs, constants);
            let fast = fast(&fast_inputs, &on_gpu);
            assert_eq!(fast.dtype(), dtype, "the type of the input comes out");
            let same = |fast: Tensor<2>, slow: Tensor<2>| {
                let fast = fast.into_data().convert::<f32>();
                // In 16 bits what was added up and cancelled out was as large as the others are.
                let size = match dtype {
                    DType::F32 => 1.0,
                    _ => slow
                        .clone()
                        .powi_scalar(2)
                        .mean()
                        .into_scalar::<f32>()
                        .sqrt()
                        .max(1.0),
                };
                let absolute = tolerance * f64::from(size);
                let tolerance = Tolerance::absolute(absolute).set_relative(tolerance);
                fast.assert_approx_eq::<f32>(&slow.into_data(), tolerance);
            };
            same(fast.clone().inner(), slow.clone().inner());

            let dy = rounded(&normal(slow.dims()), dtype);
            let mut slow_gradients = (slow * dy.clone().autodiff()).sum().backward();
            let mut fast_gradients = (fast * sent(&dy, dtype).autodiff()).sum().backward();
            for (fast, slow) in fast_inputs.iter().zip(&slow_inputs) {
                let fast = fast.grad_remove(&mut fast_gradients).expect("a gradient");
                same(
                    fast,
                    slow.grad_remove(&mut slow_gradients).expect("a gradient"),
                );
            }
            settled(&device());
        }
    }
}
