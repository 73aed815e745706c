//! A backward that begins with a gradient in hand, as where a model is differentiated block by block.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use crate::tape::record;

/// A scalar whose backward sends `dy` into `y`, like that of `sum(y dy)`, without computing anything:
/// its value is 0.
///
/// `dy`: of the shape and type of `y`, outside autodiff.
pub fn cotangent(y: Tensor<2>, dy: Tensor<2>) -> Tensor<1> {
    assert_eq!(y.dims(), dy.dims(), "a gradient for every element");
    let (y, dy) = (y.into_dispatch(), dy.into_dispatch());
    Tensor::from_dispatch(<Dispatch as CotangentOps>::cotangent(y, dy))
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait CotangentOps: Backend {
    fn cotangent(y: FloatTensor<Self>, _dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let (device, dtype) = (y.device(), y.dtype().into());
        Self::float_zeros(Shape::new([1]), &device, dtype)
    }
}

impl CotangentOps for Flex {}

#[cfg(feature = "cube")]
impl CotangentOps for burn_cubecl::CubeBackend {}

impl<B: CotangentOps, C: CheckpointStrategy> CotangentOps for Autodiff<B, C> {
    fn cotangent(y: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let (node, dy) = (y.node(), dy.into_primitive());
        let zero = B::cotangent(y.into_primitive(), dy.clone());
        record::<B, C, 1>(None, [node], zero, move |_, _| [Some(dy)])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::twins::tracked;

    #[test]
    fn the_gradient_is_that_of_the_sum_of_products() {
        let x = tracked([5, 7]);
        let dy = Tensor::<2>::random([5, 7], Distribution::Default, &Device::flex());
        let of = |scalar: Tensor<1>| {
            let gradient = x.grad_remove(&mut scalar.backward());
            gradient.expect("x is a leaf").into_data()
        };
        let slow = of((x.clone() * 2.0 * dy.clone().autodiff()).sum());
        assert_eq!(of(cotangent(x.clone() * 2.0, dy)), slow);
    }
}
