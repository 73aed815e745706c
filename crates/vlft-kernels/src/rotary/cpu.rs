//! One pass over the rows.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;

use super::RotaryOps;
use crate::host::{Rows, for_rows, matrix};
use crate::simd::vectorised;

impl RotaryOps for Flex {
    fn fused_rotary(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, direction: f32) -> FlexTensor {
        let (x, cos, sin) = (Rows::new(x), Rows::new(cos), Rows::new(sin));
        let mut out = vec![0f32; x.rows * x.columns];
        for_rows(&mut out, x.columns, |first, out| {
            rotate(&x, &cos, &sin, direction, first, out);
        });
        matrix(out, x.rows, x.columns)
    }
}

vectorised! {
    fn rotate(x: &Rows, cos: &Rows, sin: &Rows, direction: f32, first: usize, out: &mut [f32]) {
        let d = cos.columns;
        for (i, out) in out.chunks_exact_mut(x.columns).enumerate() {
            let row = first + i;
            let (cos, _) = cos.row(row).split_at(d / 2);
            let (sin, _) = sin.row(row).split_at(d / 2);
            let heads = x.row(row).chunks_exact(d).zip(out.chunks_exact_mut(d));
            for (x, out) in heads {
                let (x0, x1) = x.split_at(d / 2);
                let (out0, out1) = out.split_at_mut(d / 2);
                for j in 0..d / 2 {
                    let (a, b, c, s) = (x0[j], x1[j], cos[j], direction * sin[j]);
                    out0[j] = a * c - b * s;
                    out1[j] = b * c + a * s;
                }
            }
        }
    }
}
