//! One linear layer for everything: frozen weight, optional bias, optional LoRA.
//!
//! LoRA and QLoRA are this one code path: what differs is how [`Weight`] is held, and it becomes a
//! matrix of the compute type only for the product.

use burn::tensor::{DType, Tensor};
use vlft_kernels::linear::linear;

use crate::lora::Adapters;

/// A frozen matrix `[out, in]`, held as the base says and multiplied in f32.
///
/// A 4-bit base becomes one more variant here.
#[derive(Clone)]
pub(crate) enum Weight {
    Dense(Tensor<2>),
}

impl Weight {
    /// The matrix in the compute type; a cast is one pass over it, small beside the product.
    pub(crate) fn matrix(&self) -> Tensor<2> {
        match self {
            Weight::Dense(matrix) => compute_type(matrix.clone()),
        }
    }

    /// Rows of the matrix, as an embedding looks them up: `[n, in]`.
    pub(crate) fn rows(&self, rows: Tensor<1, burn::tensor::Int>) -> Tensor<2> {
        match self {
            Weight::Dense(matrix) => compute_type(matrix.clone().select(0, rows)),
        }
    }
}

/// Frozen values may be stored in 16 bits; arithmetic on the CPU is f32.
pub(crate) fn compute_type<const R: usize>(tensor: Tensor<R>) -> Tensor<R> {
    if tensor.dtype() == DType::F32 {
        tensor
    } else {
        tensor.cast(DType::F32)
    }
}

/// `y = x W^T + b + s (x A^T) B^T`.
#[derive(Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Tensor<1>>,
    /// Which adapter of the list belongs to this layer.
    pub(crate) adapter: Option<usize>,
}

impl Linear {
    /// `x`: `[N, in]` -> `[N, out]`. The frozen weight is a constant to autodiff; the adapter never
    /// becomes a dense `W + s B A`.
    pub(crate) fn forward(&self, x: Tensor<2>, adapters: &Adapters) -> Tensor<2> {
        let Weight::Dense(weight) = &self.weight;
        let y = linear(x.clone(), weight.clone(), self.bias.clone());
        match self.adapter {
            Some(index) => adapters.add_delta(index, y, x),
            None => y,
        }
    }
}
