//! Scaled dot-product attention with grouped queries.

use burn::tensor::{Device, Tensor, activation};

/// Softmax attention, scale `D^-0.5`.
///
/// `q`: `[B, Hq, T, D]`; `k`, `v`: `[B, Hkv, S, D]`; Hq is a multiple of Hkv and query head i
/// reads key head `i / (Hq / Hkv)`. `mask`: `[T, S]`, added to the scores (see [`causal_mask`]).
/// Returns `[B, Hq, T, D]`.
///
/// The queries of one group are stacked along T, so keys and values are never repeated. The scores
/// are held whole, `[B, Hq, T, S]`.
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<&Tensor<2>>) -> Tensor<4> {
    let [b, hq, t, d] = q.dims();
    let [_, hkv, s, _] = k.dims();
    let group = hq / hkv;
    let scale = (d as f64).powf(-0.5);

    let q = (q * scale).reshape([b, hkv, group * t, d]);
    let scores = q.matmul(k.swap_dims(2, 3));
    let probabilities = match mask {
        None => activation::softmax(scores, 3),
        Some(mask) => {
            let scores = scores.reshape([b * hkv, group, t, s]);
            let scores = scores + mask.clone().reshape([1, 1, t, s]);
            activation::softmax(scores, 3).reshape([b, hkv, group * t, s])
        }
    };
    probabilities.matmul(v).reshape([b, hq, t, d])
}

/// `[T, T]`: 0 where a token may look (itself and before), minus infinity after it.
pub fn causal_mask(tokens: usize, device: &Device) -> Tensor<2> {
    let mut mask = vec![0f32; tokens * tokens];
    for (row, values) in mask.chunks_exact_mut(tokens.max(1)).enumerate() {
        values[row + 1..].fill(f32::NEG_INFINITY);
    }
    Tensor::from_data(
        burn::tensor::TensorData::new(mask, [tokens, tokens]),
        device,
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    /// The definition, head by head, with keys and values repeated.
    fn slow(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, causal: bool) -> Tensor<4> {
        let [_, hq, t, d] = q.dims();
        let group = hq / k.dims()[1];
        let heads = (0..hq)
            .map(|h| {
                let q = q.clone().narrow(1, h, 1);
                let k = k.clone().narrow(1, h / group, 1);
                let v = v.clone().narrow(1, h / group, 1);
                let mut scores = q.matmul(k.swap_dims(2, 3)) / (d as f64).sqrt();
                if causal {
                    let keep = Tensor::<2>::ones([t, t], &scores.device()).tril(0);
                    scores = scores + ((keep - 1.0) * 1e30).reshape([1, 1, t, t]);
                }
                activation::softmax(scores, 3).matmul(v)
            })
            .collect();
        Tensor::cat(heads, 1)
    }

    #[test]
    fn grouped_attention_and_its_gradients_agree_with_the_definition() {
        let device = Device::flex().autodiff();
        for (hq, hkv, causal) in [(4, 4, false), (4, 2, true), (6, 1, true)] {
            let random = |h: usize| {
                let shape = [2, h, 7, 8];
                Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
            };
            let (q, k, v) = (random(hq), random(hkv), random(hkv));
            let weight = Tensor::<4>::random([2, hq, 7, 8], Distribution::Default, &device);
            let mask = causal.then(|| causal_mask(7, &Device::flex()));

            let fast = attention(q.clone(), k.clone(), v.clone(), mask.as_ref());
            let mut fast_grads = (fast.clone() * weight.clone()).sum().backward();
            let twin = slow(q.clone(), k.clone(), v.clone(), causal);
            let mut twin_grads = (twin.clone() * weight).sum().backward();

            let tolerance = Tolerance::absolute(1e-5);
            fast.into_data()
                .assert_approx_eq::<f32>(&twin.into_data(), tolerance);
            for x in [&q, &k, &v] {
                let fast = x.grad_remove(&mut fast_grads).unwrap().into_data();
                let twin = x.grad_remove(&mut twin_grads).unwrap().into_data();
                fast.assert_approx_eq::<f32>(&twin, tolerance);
            }
        }
    }
}
