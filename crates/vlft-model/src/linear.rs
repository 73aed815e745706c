//! One linear layer for everything: frozen weight, optional bias, optional LoRA.
//!
//! LoRA and QLoRA are this one code path: what differs is how [`Weight`] is held. Arithmetic is in
//! the type of the activations that come in.

use burn::tensor::{DType, Int, Tensor};
use vlft_kernels::linear::linear;
use vlft_kernels::nf4::Nf4Matrix;

use crate::lora::Adapters;

/// A frozen matrix `[out, in]`, held as the base says.
#[expect(clippy::large_enum_variant, reason = "there is one for each matrix")]
#[derive(Clone)]
pub(crate) enum Weight {
    Dense(Tensor<2>),
    Nf4(Nf4Matrix),
}

impl Weight {
    /// `x W^T`, in the type of `x`: `[N, in]` -> `[N, out]`.
    pub(crate) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Weight::Dense(matrix) => {
                let weight = as_type(matrix.clone(), x.dtype());
                x.matmul(weight.transpose())
            }
            Weight::Nf4(matrix) => matrix.linear(x),
        }
    }

    /// The dense matrix, as the loss wants it beside states of this type.
    pub(crate) fn matrix(&self, dtype: DType) -> Tensor<2> {
        match self {
            Weight::Dense(matrix) => as_type(matrix.clone(), dtype),
            Weight::Nf4(matrix) => matrix.matrix_in(dtype.into()),
        }
    }

    /// Rows of the matrix, as an embedding looks them up: `[n, in]` in f32.
    pub(crate) fn rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Weight::Dense(matrix) => as_type(matrix.clone().select(0, rows), DType::F32),
            Weight::Nf4(matrix) => matrix.rows(rows),
        }
    }
}

/// A cast where there is one to do; one pass, small beside a product.
pub(crate) fn as_type<const R: usize>(tensor: Tensor<R>, dtype: DType) -> Tensor<R> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        tensor.cast(dtype)
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
        let [y] = forward_together([self], x, adapters);
        y
    }

    /// Without the adapter.
    fn frozen(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.weight {
            Weight::Dense(weight) => linear(x, weight.clone(), self.bias.clone()),
            Weight::Nf4(matrix) => {
                let dtype = x.dtype();
                let y = matrix.linear(x);
                match &self.bias {
                    Some(bias) => y + as_type(bias.clone(), dtype).unsqueeze(),
                    None => y,
                }
            }
        }
    }
}

/// Layers with one input, `[N, in]` -> `[N, out]` each: their adapters see it once.
pub(crate) fn forward_together<const K: usize>(
    layers: [&Linear; K],
    x: Tensor<2>,
    adapters: &Adapters,
) -> [Tensor<2>; K] {
    let ys = layers.map(|layer| layer.frozen(x.clone()));
    adapters.add_deltas(layers.map(|layer| layer.adapter), ys, &x)
}
