//! Group by group: what one expert makes of its rows stays in the cache from one product to the next.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::held::{Held, Way};
use super::{ExpertGradients, ExpertOps, Projections, Wanted};
use crate::gemm::Matrix;
use crate::grouped::{Groups, sums};
use crate::host::{Rows, matrix};
use crate::simd::{sigmoid, sum2, vectorised};

/// Multiplications that one task should have at least: below, handing it to a thread costs more.
const TASK_WORK: usize = 1 << 20;

/// Some groups, one after the other, and what is written for their copies.
struct Task<'a> {
    groups: Range<usize>,
    copies: Range<usize>,
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// Runs `f(room, group, its copies, their part of both outputs)` for every group that has rows, in
/// parallel. `widths`: of the two outputs, for each copy; `work`: multiplications for each copy.
fn for_groups(
    groups: &Groups,
    mut outputs: [&mut [f32]; 2],
    widths: [usize; 2],
    work: usize,
    f: impl Fn(&mut Room, usize, Range<usize>, [&mut [f32]; 2]) + Sync,
) {
    let mut tasks = Vec::new();
    let (mut from, mut copies) = (0, 0..0);
    for group in 0..groups.count() {
        copies.end = groups.range(group).end;
        let last = group + 1 == groups.count();
        if copies.is_empty() || copies.len() * work < TASK_WORK && !last {
            continue;
        }
        let [first, second] = [0, 1].map(|i| {
            let (here, rest) =
                std::mem::take(&mut outputs[i]).split_at_mut(copies.len() * widths[i]);
            outputs[i] = rest;
            here
        });
        let next = copies.end..copies.end;
        let copies_here = std::mem::replace(&mut copies, next);
        tasks.push(Task {
            groups: from..group + 1,
            copies: copies_here,
            first,
            second,
        });
        from = group + 1;
    }
    let run = |room: &mut Room, task: Task| {
        let Task {
            groups: here,
            copies,
            first,
            second,
        } = task;
        for group in here {
            let range = groups.range(group);
            if range.is_empty() {
                continue;
            }
            let within = range.start - copies.start..range.end - copies.start;
            let part = |width: usize| within.start * width..within.end * width;
            let outputs = [&mut first[part(widths[0])], &mut second[part(widths[1])]];
            f(room, group, range, outputs);
        }
    };
    match tasks.len() {
        0 | 1 => tasks
            .into_iter()
            .for_each(|task| run(&mut Room::default(), task)),
        _ => tasks
            .into_par_iter()
            .with_max_len(1)
            .for_each_init(Room::default, run),
    }
}

/// What a group needs on the way; one for each thread.
#[derive(Default)]
struct Room {
    /// Rows of the group, side by side.
    rows: Vec<f32>,
    gate_up: Vec<f32>,
    hidden: Vec<f32>,
    /// A packed matrix.
    dense: Vec<f32>,
}

/// The rows of some copies, one below the other.
fn gather(x: &Rows, groups: &Groups, copies: Range<usize>, out: &mut Vec<f32>) {
    out.clear();
    for copy in copies {
        out.extend_from_slice(x.row(groups.row_of(copy)));
    }
}

/// The output, and gates and ups of all copies if they are to be kept.
fn forward(
    x: FlexTensor,
    weights: FlexTensor,
    [gate_up, down]: &[Held; 2],
    groups: &Groups,
    keep: bool,
    wanted: Wanted,
) -> (FlexTensor, Vec<f32>) {
    let (x, weights) = (Rows::new(x), Rows::new(weights));
    let (d, width, both) = (gate_up.inputs(), down.inputs(), gate_up.outputs());
    assert_eq!(
        (x.columns, 2 * width, down.outputs()),
        (d, both, d),
        "projections that fit each other"
    );
    let kept_width = if keep { both } else { 0 };
    let y_width = if wanted == Wanted::Values { d } else { 0 };
    let mut y = vec![0f32; groups.copies() * y_width];
    let mut kept = vec![0f32; groups.copies() * kept_width];
    for_groups(
        groups,
        [&mut y, &mut kept],
        [y_width, kept_width],
        (2 * d + y_width) * width,
        |room, expert, copies, [y, kept]| {
            let n = copies.len();
            gather(&x, groups, copies, &mut room.rows);
            let values = match keep {
                true => kept,
                false => {
                    room.gate_up.resize(n * both, 0.0);
                    &mut room.gate_up[..]
                }
            };
            let rows = Matrix::new(&room.rows, n, d, d);
            gate_up.multiply(expert, Way::Forward, rows, values, &mut room.dense);
            if wanted == Wanted::Gradients {
                return;
            }
            room.hidden.resize(n * width, 0.0);
            swiglu(values, width, &mut room.hidden);
            let hidden = Matrix::new(&room.hidden, n, width, width);
            down.multiply(expert, Way::Forward, hidden, y, &mut room.dense);
        },
    );
    if wanted == Wanted::Gradients {
        return (matrix(vec![0f32; x.rows * d], x.rows, d), kept);
    }
    let y = Rows::new(matrix(y, groups.copies(), d));
    (sums(&y, groups, Some(&weights)), kept)
}

impl ExpertOps for Flex {
    fn fused_experts(
        x: FlexTensor,
        weights: FlexTensor,
        projections: Projections,
        groups: Arc<Groups>,
        wanted: Wanted,
    ) -> FlexTensor {
        forward(x, weights, &projections, &groups, false, wanted).0
    }
}

impl ExpertGradients for Flex {
    fn fused_experts_keeping(
        x: FlexTensor,
        weights: FlexTensor,
        projections: &[Held; 2],
        groups: &Groups,
        wanted: Wanted,
    ) -> [FlexTensor; 2] {
        let (y, kept) = forward(x, weights, projections, groups, true, wanted);
        let both = projections[0].outputs();
        [y, matrix(kept, groups.copies(), both)]
    }

    fn fused_experts_backward(
        dy: FlexTensor,
        gate_up: FlexTensor,
        weights: FlexTensor,
        [up_projection, down]: &[Held; 2],
        groups: &Groups,
    ) -> [FlexTensor; 2] {
        let (dy, gate_up, weights) = (Rows::new(dy), Rows::new(gate_up), Rows::new(weights));
        let (d, width, both) = (dy.columns, down.inputs(), gate_up.columns);
        let (rows, per_row) = (groups.rows(), groups.per_row());
        // The copies of a row are apart, so each copy looks up whose it is and which choice.
        let mut of_copy = vec![0f32; groups.copies()];
        for row in 0..rows {
            for (place, weight) in groups.places_of(row).iter().zip(weights.row(row)) {
                of_copy[*place as usize] = *weight;
            }
        }
        let mut dx = vec![0f32; groups.copies() * d];
        let mut d_of_copy = vec![0f32; groups.copies()];
        for_groups(
            groups,
            [&mut dx, &mut d_of_copy],
            [d, 1],
            3 * width * d,
            |room, expert, copies, [dx, d_weights]| {
                let n = copies.len();
                gather(&dy, groups, copies.clone(), &mut room.rows);
                // The gradient of what the expert made is the row's times the weight; the weight comes
                // in behind the product, where the gradient of the weight itself is at hand too.
                room.hidden.resize(n * width, 0.0);
                let rows = Matrix::new(&room.rows, n, d, d);
                down.multiply(expert, Way::Back, rows, &mut room.hidden, &mut room.dense);
                room.gate_up.resize(n * both, 0.0);
                swiglu_backward(
                    &room.hidden,
                    &gate_up.data()[copies.start * both..copies.end * both],
                    &of_copy[copies],
                    width,
                    &mut room.gate_up,
                    d_weights,
                );
                let d_gate_up = Matrix::new(&room.gate_up, n, both, both);
                up_projection.multiply(expert, Way::Back, d_gate_up, dx, &mut room.dense);
            },
        );
        let dx = Rows::new(matrix(dx, groups.copies(), d));
        let mut d_weights = vec![0f32; groups.copies()];
        for (row, out) in d_weights.chunks_exact_mut(per_row.max(1)).enumerate() {
            for (out, place) in out.iter_mut().zip(groups.places_of(row)) {
                *out = d_of_copy[*place as usize];
            }
        }
        [sums(&dx, groups, None), matrix(d_weights, rows, per_row)]
    }
}

vectorised! {
    /// `gate_up`: rows of gates and then ups, `width` each.
    fn swiglu(gate_up: &[f32], width: usize, out: &mut [f32]) {
        for (gate_up, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (gate, up) = gate_up.split_at(width);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate * sigmoid(*gate) * up;
            }
        }
    }
}

vectorised! {
    /// `dy`: of the hidden states, still without the weights of their rows. `d_weights`: the sum of `dy`
    /// times the hidden states themselves.
    fn swiglu_backward(
        dy: &[f32],
        gate_up: &[f32],
        weights: &[f32],
        width: usize,
        out: &mut [f32],
        d_weights: &mut [f32],
    ) {
        for (i, (weight, d_weight)) in weights.iter().zip(d_weights).enumerate() {
            let dy = &dy[i * width..(i + 1) * width];
            let (gate, up) = gate_up[2 * i * width..][..2 * width].split_at(width);
            let (d_gate, d_up) = out[2 * i * width..][..2 * width].split_at_mut(width);
            for j in 0..width {
                let s = sigmoid(gate[j]);
                d_gate[j] = weight * dy[j] * up[j] * s * (1.0 + gate[j] * (1.0 - s));
                d_up[j] = dy[j] * gate[j] * s;
            }
            *d_weight = sum2(d_up, up, |a, b| a * b);
            d_up.iter_mut().for_each(|x| *x *= weight);
        }
    }
}
