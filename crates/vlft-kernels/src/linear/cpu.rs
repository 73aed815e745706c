//! Products that read every matrix as it lies, and add onto a bias.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType};

use super::{LinearGradients, LinearOps};
use crate::gemm::{Threads, multiply, product};
use crate::host::{Rows, Values, matrix};

/// A frozen matrix or vector in f32; those held in 16 bits are cast for the product.
fn in_f32(x: FlexTensor) -> FlexTensor {
    match x.dtype() {
        DType::F32 => x,
        _ => Flex::float_cast(x, FloatDType::F32),
    }
}

impl LinearOps for Flex {
    fn fused_linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let (x, weight) = (Rows::new(x), Rows::new(in_f32(weight)));
        let bias = Values::new(in_f32(bias));
        let (rows, columns) = (x.rows, weight.rows);
        let transposed = weight.matrix().transposed();
        if bias.data().is_empty() {
            return matrix(product(x.matrix(), transposed, 1.0), rows, columns);
        }
        let mut y = bias.data().repeat(rows);
        multiply(
            &mut y,
            columns,
            1.0,
            1.0,
            x.matrix(),
            transposed,
            Threads::All,
        );
        matrix(y, rows, columns)
    }
}

impl LinearGradients for Flex {
    fn fused_linear_backward(dy: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let (dy, weight) = (Rows::new(dy), Rows::new(in_f32(weight)));
        let dx = product(dy.matrix(), weight.matrix(), 1.0);
        matrix(dx, dy.rows, weight.columns)
    }
}
