//! Products that read every matrix as it lies, and add where an addition follows.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::{LowRankGradients, LowRankOps};
use crate::gemm::{Threads, multiply, product};
use crate::host::{Rows, matrix};

impl LowRankOps for Flex {
    fn fused_lora_a(x: FlexTensor, a: FlexTensor, scale: f32) -> FlexTensor {
        let (x, a) = (Rows::new(x), Rows::new(a));
        let h = product(x.matrix(), a.matrix().transposed(), scale);
        matrix(h, x.rows, a.rows)
    }

    fn fused_lora_b(y: FlexTensor, h: FlexTensor, b: FlexTensor) -> FlexTensor {
        let (mut y, h, b) = (whole(y), Rows::new(h), Rows::new(b));
        let transposed = b.matrix().transposed();
        // In place if nobody else has `y`, and after a copy otherwise.
        let out = y.storage_mut::<f32>();
        multiply(out, b.rows, 1.0, 1.0, h.matrix(), transposed, Threads::All);
        y
    }
}

impl LowRankGradients for Flex {
    fn fused_lora_a_backward(
        dh: FlexTensor,
        x: FlexTensor,
        a: FlexTensor,
        scale: f32,
        wants_dx: bool,
    ) -> [Option<FlexTensor>; 2] {
        let (dh, x, a) = (Rows::new(dh), Rows::new(x), Rows::new(a));
        let dx = || product(dh.matrix(), a.matrix(), scale);
        let dx = wants_dx.then(|| matrix(dx(), x.rows, x.columns));
        let da = product(dh.matrix().transposed(), x.matrix(), scale);
        [dx, Some(matrix(da, a.rows, a.columns))]
    }

    fn fused_lora_b_backward(dy: FlexTensor, h: FlexTensor, b: FlexTensor) -> [FlexTensor; 2] {
        let (dy, h, b) = (Rows::new(dy), Rows::new(h), Rows::new(b));
        let dh = product(dy.matrix(), b.matrix(), 1.0);
        let db = product(dy.matrix().transposed(), h.matrix(), 1.0);
        [
            matrix(dh, dy.rows, b.columns),
            matrix(db, b.rows, b.columns),
        ]
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
