//! What the tests of all operations share: a fast path and its definition agree, in values and in
//! gradients.

use burn::tensor::{Device, Distribution, Tensor, Tolerance};

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
