//! Which experts a row goes to, and how much each of them counts.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};

use crate::host::{Rows, matrix};
use crate::path::Path;
use crate::profile::{Family, span};
use crate::simd::vectorised;
use crate::tape::record;

/// Columns of the `count` largest logits of each row, `[N * count]`, the largest first; among equals the
/// first goes first.
pub fn best(logits: &Tensor<2>, count: usize) -> Arc<[u32]> {
    let _span = span(Family::Experts);
    let [rows, columns] = logits.dims();
    assert!(count <= columns, "as many experts as are chosen");
    let data = logits.to_data().convert::<f32>();
    let values = data.as_slice::<f32>().expect("they were just converted");
    let mut chosen = vec![0u32; rows * count];
    best_of_all(values, columns, count, &mut Vec::new(), &mut chosen);
    chosen.into()
}

/// Values that are looked at together.
const PIECE: usize = 16;

vectorised! {
    /// One after the other: the largest value is looked for in the piece that has it, and taken away.
    fn best_of_all(
        values: &[f32],
        columns: usize,
        count: usize,
        room: &mut Vec<[i32; PIECE]>,
        chosen: &mut [u32],
    ) {
        let largest = |piece: &[i32; PIECE]| piece.iter().fold(i32::MIN, |a, b| a.max(*b));
        let mut tops: Vec<i32> = Vec::new();
        let rows = values.chunks_exact(columns.max(1)).zip(chosen.chunks_exact_mut(count.max(1)));
        for (row, chosen) in rows {
            room.clear();
            room.extend(row.chunks(PIECE).map(|values| {
                let mut piece = [i32::MIN; PIECE];
                for (out, value) in piece.iter_mut().zip(values) {
                    *out = in_order(*value);
                }
                piece
            }));
            tops.clear();
            tops.extend(room.iter().map(largest));
            for chosen in chosen {
                let top = tops.iter().fold(i32::MIN, |a, b| a.max(*b));
                let first = |values: &[i32]| values.iter().position(|value| *value == top);
                let piece = first(&tops).unwrap_or(0);
                let place = first(&room[piece]).unwrap_or(0);
                *chosen = (piece * PIECE + place) as u32;
                room[piece][place] = i32::MIN;
                tops[piece] = largest(&room[piece]);
            }
        }
    }
}

/// Numbers in the order of `f32::total_cmp`, all of them above the smallest integer, which marks what was
/// taken.
#[inline(always)]
fn in_order(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    (bits ^ (((bits >> 31) as u32) >> 1) as i32).max(i32::MIN + 1)
}

/// Softmax over all experts, the chosen ones of it, these scaled to add up to 1: which is the softmax over
/// the chosen ones alone. `chosen`: as [`best`] has it, `logits`: `[N, experts]` f32 -> `[N, count]`.
pub fn weights(logits: Tensor<2>, chosen: &Arc<[u32]>, count: usize) -> Tensor<2> {
    if !Path::is_host(&logits) {
        return weights_by_definition(logits, chosen, count);
    }
    let _span = span(Family::Experts);
    Tensor::from_dispatch(Dispatch::fused_router_weights(
        logits.into_dispatch(),
        chosen.clone(),
        count,
    ))
}

/// The same in plain tensor operations.
pub fn weights_by_definition(logits: Tensor<2>, chosen: &[u32], count: usize) -> Tensor<2> {
    let indices: Vec<i32> = chosen.iter().map(|expert| *expert as i32).collect();
    let indices = TensorData::new(indices, [logits.dims()[0], count]);
    let indices = Tensor::<2, Int>::from_data(indices, &logits.device());
    softmax(logits.gather(1, indices), 1)
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait RouterOps: Backend {
    fn fused_router_weights(
        logits: FloatTensor<Self>,
        chosen: Arc<[u32]>,
        count: usize,
    ) -> FloatTensor<Self>;
}

pub(crate) trait RouterGradients: RouterOps {
    /// Of all logits.
    fn fused_router_weights_backward(
        dy: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        chosen: &[u32],
        experts: usize,
    ) -> FloatTensor<Self>;
}

impl RouterOps for Flex {
    fn fused_router_weights(logits: FlexTensor, chosen: Arc<[u32]>, count: usize) -> FlexTensor {
        let logits = Rows::new(logits);
        let mut out = vec![0f32; chosen.len()];
        let rows = out.chunks_exact_mut(count).zip(chosen.chunks_exact(count));
        for (row, (out, chosen)) in rows.enumerate() {
            let logits = logits.row(row);
            let largest = chosen.iter().map(|expert| logits[*expert as usize]);
            let largest = largest.fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for (out, expert) in out.iter_mut().zip(chosen) {
                *out = (logits[*expert as usize] - largest).exp();
                sum += *out;
            }
            out.iter_mut().for_each(|x| *x /= sum);
        }
        matrix(out, logits.rows, count)
    }
}

impl RouterGradients for Flex {
    fn fused_router_weights_backward(
        dy: FlexTensor,
        weights: FlexTensor,
        chosen: &[u32],
        experts: usize,
    ) -> FlexTensor {
        let (dy, weights) = (Rows::new(dy), Rows::new(weights));
        let (rows, count) = (weights.rows, weights.columns);
        let mut out = vec![0f32; rows * experts];
        let each = out
            .chunks_exact_mut(experts)
            .zip(chosen.chunks_exact(count));
        for (row, (out, chosen)) in each.enumerate() {
            let (dy, weights) = (dy.row(row), weights.row(row));
            let along: f32 = dy.iter().zip(weights).map(|(dy, weight)| dy * weight).sum();
            for ((expert, dy), weight) in chosen.iter().zip(dy).zip(weights) {
                out[*expert as usize] = weight * (dy - along);
            }
        }
        matrix(out, rows, experts)
    }
}

impl<B: RouterGradients, C: CheckpointStrategy> RouterOps for Autodiff<B, C> {
    fn fused_router_weights(
        logits: FloatTensor<Self>,
        chosen: Arc<[u32]>,
        count: usize,
    ) -> FloatTensor<Self> {
        use burn::backend::TensorMetadata;

        let (node, logits) = (logits.node(), logits.into_primitive());
        let experts = logits.shape()[1];
        let weights = B::fused_router_weights(logits, chosen.clone(), count);
        record::<B, C, 1>(Family::Experts, [node], weights.clone(), move |dy, _| {
            [Some(B::fused_router_weights_backward(
                dy, weights, &chosen, experts,
            ))]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twins::{agree, tracked};

    #[test]
    fn the_best_few_are_those_of_a_whole_sort() {
        // Not whole pieces.
        const WIDTH: usize = 37;
        let mut state = 1u32;
        for count in [1, 2, 8, WIDTH] {
            for _ in 0..200 {
                // Few different values, so that many are equal.
                let mut values: Vec<f32> = (0..WIDTH)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        ((state >> 28) as f32 - 7.0) * 0.5
                    })
                    .collect();
                values[3] = -0.0;
                values[5] = f32::NEG_INFINITY;
                values[7] = f32::NAN;
                let mut sorted: Vec<u32> = (0..WIDTH as u32).collect();
                sorted.sort_by(|a, b| {
                    let (left, right) = (values[*a as usize], values[*b as usize]);
                    right.total_cmp(&left).then(a.cmp(b))
                });
                let mut places = vec![0; count];
                best_of_all(&values, WIDTH, count, &mut Vec::new(), &mut places);
                assert_eq!(places, sorted[..count], "{values:?}");
            }
        }
    }

    #[test]
    fn weights_agree_with_their_definition() {
        for (rows, experts, count) in [(1, 1, 1), (7, 5, 5), (40, 128, 8)] {
            let logits = tracked([rows, experts]);
            let chosen = best(&logits, count);
            assert_eq!(chosen.len(), rows * count);
            agree(&[&logits], 1e-6, |x| {
                let slow = weights_by_definition(x[0].clone(), &chosen, count);
                (weights(x[0].clone(), &chosen, count), slow)
            });
        }
    }
}
