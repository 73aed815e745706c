//! The definition, for the logits of some rows.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

/// `-log softmax(logits)[target]` of each row and its gradient, if that is wanted.
pub(super) fn loss_of_logits(
    logits: Tensor<2>,
    targets: &[i32],
    with_gradient: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    let (device, rows) = (logits.device(), targets.len());
    let target: Tensor<2, Int> =
        Tensor::from_data(TensorData::new(targets.to_vec(), [rows, 1]), &device);
    let max = logits.clone().max_dim(1);
    let exp = (logits.clone() - max.clone()).exp();
    let sum = exp.clone().sum_dim(1);
    let nll = sum.clone().log() + max - logits.gather(1, target.clone());
    let nll = nll.reshape([rows]);
    let gradient = with_gradient.then(|| {
        // d nll / d logits = softmax - one_hot(target)
        let minus_one = Tensor::<2>::full([rows, 1], -1.0, &device);
        (exp / sum).scatter(1, target, minus_one, IndexingUpdateOp::Add)
    });
    (nll, gradient)
}
