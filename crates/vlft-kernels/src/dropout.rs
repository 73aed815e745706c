//! Dropout whose mask is a function of a key, so that nothing of it has to be kept: the backward
//! makes it again, and so does a block that is run twice or a run that is resumed.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};

use crate::profile::{Family, span};
use crate::random::{Key, uniform};
use crate::tape::record;

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(crate) trait DropoutOps: Backend {
    /// Each element is 0 with the given probability, else divided by `1 - probability`.
    fn dropout(x: FloatTensor<Self>, probability: f64, key: Key) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype().into());
        let kept = (1.0 / (1.0 - probability)) as f32;
        let mask: Vec<f32> = uniform(key, shape.num_elements())
            .into_iter()
            .map(|u| {
                if f64::from(u) < probability {
                    0.0
                } else {
                    kept
                }
            })
            .collect();
        let mask = Self::float_from_data(TensorData::new(mask, shape), &x.device());
        Self::float_mul(x, Self::float_cast(mask, dtype))
    }
}

impl DropoutOps for Flex {}

#[cfg(feature = "cube")]
impl DropoutOps for burn_cubecl::CubeBackend {}

impl<B: Backend + DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn dropout(x: FloatTensor<Self>, probability: f64, key: Key) -> FloatTensor<Self> {
        let node = x.node();
        let y = B::dropout(x.into_primitive(), probability, key);
        record::<B, C, 1>(Family::Dropout, [node], y, move |dy, _| {
            [Some(B::dropout(dy, probability, key))]
        })
    }
}

/// [`DropoutOps::dropout`] over tensors. `probability` is in [0, 1).
pub fn dropout<const R: usize>(x: Tensor<R>, probability: f64, key: Key) -> Tensor<R> {
    let _span = span(Family::Dropout);
    Tensor::from_dispatch(<Dispatch as DropoutOps>::dropout(
        x.into_dispatch(),
        probability,
        key,
    ))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_gradient_passes_where_the_value_did() {
        let key = Key {
            seed: 5,
            pass: 0,
            module: 1,
        };
        let x = Tensor::<2>::ones([200, 50], &Device::flex())
            .autodiff()
            .require_grad();
        let y = dropout(x.clone(), 0.25, key);
        let mut gradients = y.clone().sum().backward();
        let values: Vec<f32> = y.inner().into_data().iter().collect();
        let gradient = x.grad_remove(&mut gradients).unwrap().into_data();
        assert_eq!(values, gradient.iter::<f32>().collect::<Vec<_>>());

        let dropped = values.iter().filter(|v| **v == 0.0).count();
        assert!((2300..2700).contains(&dropped), "{dropped}");
        assert!(
            values
                .iter()
                .all(|v| *v == 0.0 || *v == (1.0 / 0.75) as f32)
        );
    }
}
