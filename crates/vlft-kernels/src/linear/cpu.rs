//! Products that read every matrix as it lies, and add where an addition follows.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType};

use super::{LinearGradients, LinearOps, LowRank};
use crate::gemm::{Matrix, Threads, multiply, product};
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

    fn fused_add_low_rank(
        y: FlexTensor,
        x: FlexTensor,
        a: FlexTensor,
        b: FlexTensor,
        scale: f32,
    ) -> FlexTensor {
        Self::fused_add_low_rank_middle(y, Self::low_rank_middle(x, a, scale), b)
    }
}

impl LinearGradients for Flex {
    fn fused_linear_backward(dy: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let (dy, weight) = (Rows::new(dy), Rows::new(in_f32(weight)));
        let dx = product(dy.matrix(), weight.matrix(), 1.0);
        matrix(dx, dy.rows, weight.columns)
    }

    fn low_rank_middle(x: FlexTensor, a: FlexTensor, scale: f32) -> FlexTensor {
        let (x, a) = (Rows::new(x), Rows::new(a));
        let h = product(x.matrix(), a.matrix().transposed(), scale);
        matrix(h, x.rows, a.rows)
    }

    fn fused_add_low_rank_middle(y: FlexTensor, h: FlexTensor, b: FlexTensor) -> FlexTensor {
        let (mut y, h, b) = (whole(y), Rows::new(h), Rows::new(b));
        let transposed = b.matrix().transposed();
        // In place if nobody else has `y`, and after a copy otherwise.
        let out = y.storage_mut::<f32>();
        multiply(out, b.rows, 1.0, 1.0, h.matrix(), transposed, Threads::All);
        y
    }

    fn fused_add_low_rank_backward(
        dy: FlexTensor,
        kept: LowRank<Self>,
        wants_dx: bool,
    ) -> [Option<FlexTensor>; 3] {
        let (dy, x, middle) = (Rows::new(dy), Rows::new(kept.x), Rows::new(kept.middle));
        let (a, b) = (Rows::new(kept.a), Rows::new(kept.b));
        let d_middle = product(dy.matrix(), b.matrix(), kept.scale);
        let d_middle = Matrix::new(&d_middle, dy.rows, b.columns, b.columns);

        let dx = wants_dx.then(|| matrix(product(d_middle, a.matrix(), 1.0), x.rows, x.columns));
        let da = product(d_middle.transposed(), x.matrix(), 1.0);
        let db = product(dy.matrix().transposed(), middle.matrix(), 1.0);
        let (da, db) = (matrix(da, a.rows, a.columns), matrix(db, b.rows, b.columns));
        [dx, Some(da), Some(db)]
    }
}

/// The same values filling their storage, without a copy if they do already.
fn whole(x: FlexTensor) -> FlexTensor {
    let elements = x.layout().num_elements();
    match x.is_contiguous() && x.storage::<f32>().len() == elements {
        true => x,
        false => x.to_contiguous(),
    }
}
