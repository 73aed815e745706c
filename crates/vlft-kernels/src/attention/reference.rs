//! The definition, segment by segment. The scores are held whole, `[H, T, T]`.

use burn::tensor::{Tensor, TensorData, activation};

use super::Pattern;

pub(crate) fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, pattern: &Pattern) -> Tensor<2> {
    let d = pattern.head_dim;
    let heads = q.dims()[1] / d;
    let group = heads / (k.dims()[1] / d);
    let mut start = 0;
    let mut segments = Vec::new();
    for tokens in pattern
        .segments
        .iter()
        .copied()
        .filter(|tokens| *tokens > 0)
    {
        let part = |x: &Tensor<2>, head: usize| {
            let rows = x.clone().narrow(0, start, tokens);
            rows.narrow(1, head * d, d)
        };
        let heads = (0..heads).map(|head| {
            let (q, k, v) = (
                part(&q, head),
                part(&k, head / group),
                part(&v, head / group),
            );
            let mut scores = q.matmul(k.transpose()) * (d as f64).powf(-0.5);
            if pattern.causal {
                scores = scores + causal_mask(tokens, &v);
            }
            activation::softmax(scores, 1).matmul(v)
        });
        segments.push(Tensor::cat(heads.collect(), 1));
        start += tokens;
    }
    Tensor::cat(segments, 0)
}

/// `[T, T]`: 0 where a token may look (itself and before), minus infinity after it.
fn causal_mask(tokens: usize, like: &Tensor<2>) -> Tensor<2> {
    let mut mask = vec![0f32; tokens * tokens];
    for (row, values) in mask.chunks_exact_mut(tokens.max(1)).enumerate() {
        values[row + 1..].fill(f32::NEG_INFINITY);
    }
    let mask = TensorData::new(mask, [tokens, tokens]);
    Tensor::from_data(mask, (&like.device().inner(), like.dtype()))
}
