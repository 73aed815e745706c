//! Row by row, in place.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::simd::{exp, max, sum, vectorised};

/// As [`super::reference::loss_of_logits`]; the gradient takes the place of the logits.
pub(super) fn loss_of_logits(
    logits: Tensor<2>,
    targets: &[i32],
    with_gradient: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    let ([rows, width], device) = (logits.dims(), logits.device());
    let mut logits: Vec<f32> = logits
        .into_data()
        .try_into_vec()
        .expect("the caller chose this path for f32");
    let mut nll = vec![0f32; rows];
    logits
        .par_chunks_mut(width)
        .zip(&mut nll)
        .zip(targets)
        .for_each(|((row, nll), target)| loss_of_row(row, *target as usize, with_gradient, nll));
    let gradient = || Tensor::from_data(TensorData::new(logits, [rows, width]), &device);
    let nll = Tensor::from_data(TensorData::new(nll, [rows]), &device);
    (nll, with_gradient.then(gradient))
}

vectorised! {
    fn loss_of_row(row: &mut [f32], target: usize, with_gradient: bool, nll: &mut f32) {
        // Sums of pieces keep their digits however wide the vocabulary is.
        const PIECE: usize = 1024;
        let (largest, right) = (max(row), row[target]);
        for x in row.iter_mut() {
            *x = exp(*x - largest);
        }
        let total: f64 = row.chunks(PIECE).map(|piece| f64::from(sum(piece, |x| x))).sum();
        *nll = (total.ln() + f64::from(largest) - f64::from(right)) as f32;
        if with_gradient {
            let normal = (1.0 / total) as f32;
            for x in row.iter_mut() {
                *x *= normal;
            }
            row[target] -= 1.0;
        }
    }
}
