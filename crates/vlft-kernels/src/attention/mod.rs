//! Scaled dot-product attention with grouped queries, within segments of rows.

mod cpu;
#[cfg(any(feature = "cuda", test))]
mod cuda;
mod reference;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor};

use crate::path::Path;
use crate::profile::{Family, span};
use crate::tape::record;

/// Who may look at whom.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub head_dim: usize,
    /// Lengths of consecutive runs of rows; a row sees only rows of its own run. Batch rows,
    /// images and samples packed into one row are all segments. They add up to N.
    pub segments: Vec<usize>,
    /// A row sees itself and the rows before it, not those after it.
    pub causal: bool,
}

/// Softmax attention, scale `D^-0.5`.
///
/// `q`: `[N, Hq D]`; `k`, `v`: `[N, Hkv D]`; Hq is a multiple of Hkv and query head i reads key head
/// `i / (Hq / Hkv)`. Returns `[N, Hq D]`.
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, pattern: &Pattern) -> Tensor<2> {
    let _span = span(Family::Attention);
    let rows: usize = pattern.segments.iter().sum();
    assert_eq!(rows, q.dims()[0], "segments add up to all rows");
    if !has_kernel(&q, pattern) {
        return reference::attention(q, k, v, pattern);
    }
    let (k, v) = (k.into_dispatch(), v.into_dispatch());
    let y = Dispatch::fused_attention(q.into_dispatch(), k, v, pattern.clone());
    Tensor::from_dispatch(y)
}

/// Whether `device` is an NVIDIA GPU, but attention with heads of `head_dim` runs by its definition there:
/// slow, and with all scores in memory. Whoever computes with it should say so.
#[cfg(feature = "cuda")]
pub fn lacks_kernel(device: &Device, head_dim: usize) -> bool {
    cuda::lacks(device, head_dim)
}

/// The same without GPUs in this build: no.
#[cfg(not(feature = "cuda"))]
pub fn lacks_kernel(_device: &Device, _head_dim: usize) -> bool {
    false
}

fn has_kernel(q: &Tensor<2>, pattern: &Pattern) -> bool {
    Path::is_host(q) || has_gpu_kernel(q, pattern.head_dim)
}

#[cfg(feature = "cuda")]
use cuda::takes as has_gpu_kernel;

/// Not in this build.
#[cfg(not(feature = "cuda"))]
fn has_gpu_kernel(_q: &Tensor<2>, _head_dim: usize) -> bool {
    false
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cuda"), Flex)]
pub(crate) trait AttentionOps: Backend {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        pattern: Pattern,
    ) -> FloatTensor<Self>;
}

/// What the backward may need from the forward besides its inputs: the output and one number per row
/// and head. None: it does without.
type Kept<B> = Option<[FloatTensor<B>; 2]>;

pub(crate) trait AttentionGradients: AttentionOps {
    fn fused_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        pattern: Pattern,
    ) -> (FloatTensor<Self>, Kept<Self>);

    /// Of q, k and v.
    fn fused_attention_backward(
        dy: FloatTensor<Self>,
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        kept: Kept<Self>,
        pattern: Pattern,
    ) -> [FloatTensor<Self>; 3];
}

impl<B: AttentionGradients, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        pattern: Pattern,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        let (q, k, v) = (q.into_primitive(), k.into_primitive(), v.into_primitive());
        let (y, kept) =
            B::fused_attention_forward(q.clone(), k.clone(), v.clone(), pattern.clone());
        record::<B, C, 3>(Family::Attention, nodes, y, move |dy, _| {
            B::fused_attention_backward(dy, q, k, v, kept, pattern).map(Some)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twins::{agree, tracked};

    #[test]
    fn attention_agrees_with_its_definition() {
        let cases: [(usize, usize, usize, bool, &[usize]); 5] = [
            (4, 4, 8, false, &[7]),
            (4, 2, 8, true, &[7, 1, 12]),
            (6, 1, 4, true, &[9, 0, 9]),
            (2, 1, 16, true, &[250]),
            (2, 2, 6, false, &[130, 70]),
        ];
        for (hq, hkv, head_dim, causal, segments) in cases {
            let pattern = Pattern {
                head_dim,
                segments: segments.to_vec(),
                causal,
            };
            let rows = segments.iter().sum();
            let random = |heads: usize| tracked([rows, heads * head_dim]);
            agree(&[&random(hq), &random(hkv), &random(hkv)], 1e-5, |x| {
                let (q, k, v) = (x[0].clone(), x[1].clone(), x[2].clone());
                let slow = reference::attention(q.clone(), k.clone(), v.clone(), &pattern);
                (attention(q, k, v, &pattern), slow)
            });
        }
    }

    #[test]
    fn columns_of_one_wide_matrix_are_taken_where_they_lie() {
        let (rows, width) = (40, 16);
        let pattern = Pattern {
            head_dim: 8,
            segments: vec![rows],
            causal: false,
        };
        agree(&[&tracked([rows, 3 * width])], 1e-5, |x| {
            let part = |i: usize| x[0].clone().narrow(1, i * width, width);
            let slow = reference::attention(part(0), part(1), part(2), &pattern);
            (attention(part(0), part(1), part(2), &pattern), slow)
        });
    }
}
