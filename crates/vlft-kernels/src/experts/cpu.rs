//! Group by group: what one expert makes of its rows stays in the cache from one product to the next.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::held::Held;
use super::{ExpertGradients, ExpertOps, Kept, Projections, Wanted, few_rows};
use crate::gemm::{Matrix, Threads, multiply};
use crate::grouped::Groups;
use crate::host::{Rows, for_rows, matrix};
use crate::simd::{sigmoid, sum2, vectorised};

/// Multiplications that one task should have at least: below, handing it to a thread costs more.
const TASK_WORK: usize = 1 << 18;
/// As many tasks as this are enough for any machine's threads to end together.
const TASKS: usize = 64;

/// Some groups, one after the other, and what is written for their copies.
struct Task<'a> {
    groups: Range<usize>,
    copies: Range<usize>,
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// Whose turn it is, and who is next in the same task.
struct Turn {
    group: usize,
    next: Option<usize>,
}

/// Runs `f(room, group, its copies, their part of both outputs)` for every group that has rows, in
/// parallel. `widths`: of the two outputs, for each copy; `work`: multiplications for each copy.
fn for_groups(
    groups: &Groups,
    mut outputs: [&mut [f32]; 2],
    widths: [usize; 2],
    work: usize,
    f: impl Fn(&mut Room, Turn, Range<usize>, [&mut [f32]; 2]) + Sync,
) {
    let mut tasks = Vec::new();
    let task_work = (groups.copies() * work / TASKS).max(TASK_WORK);
    let (mut from, mut copies) = (0, 0..0);
    for group in 0..groups.count() {
        copies.end = groups.range(group).end;
        let last = group + 1 == groups.count();
        if copies.is_empty() || copies.len() * work < task_work && !last {
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
        let mut filled = here
            .filter(|group| !groups.range(*group).is_empty())
            .peekable();
        while let Some(group) = filled.next() {
            let range = groups.range(group);
            let within = range.start - copies.start..range.end - copies.start;
            let part = |width: usize| within.start * width..within.end * width;
            let outputs = [&mut first[part(widths[0])], &mut second[part(widths[1])]];
            f(
                room,
                Turn {
                    group,
                    next: filled.peek().copied(),
                },
                range,
                outputs,
            );
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
    d_gate_up: Vec<f32>,
    hidden: Vec<f32>,
    /// Matrices that are not held in f32.
    up_matrix: Vec<f32>,
    down_matrix: Vec<f32>,
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
) -> (FlexTensor, Vec<f32>) {
    let (x, weights) = (Rows::new(x), Rows::new(weights));
    let (d, width, both) = widths(gate_up, down);
    assert_eq!(x.columns, d, "rows as wide as the matrices");
    let kept_width = if keep { both } else { 0 };
    let mut y = vec![0f32; groups.copies() * d];
    let mut kept = vec![0f32; groups.copies() * kept_width];
    for_groups(
        groups,
        [&mut y, &mut kept],
        [d, kept_width],
        3 * d * width,
        |room,
         Turn {
             group: expert,
             next,
         },
         copies,
         [y, kept]| {
            let n = copies.len();
            gather(&x, groups, copies, &mut room.rows);
            let values = match keep {
                true => kept,
                false => resized(&mut room.gate_up, n * both),
            };
            let up_matrix = gate_up.matrix(expert, &mut room.up_matrix);
            multiply_group(Matrix::new(&room.rows, n, d, d), up_matrix, values);
            next.inspect(|next| gate_up.fetch(*next));
            let hidden = resized(&mut room.hidden, n * width);
            swiglu(values, width, hidden);
            let down_matrix = down.matrix(expert, &mut room.down_matrix);
            multiply_group(Matrix::new(hidden, n, width, width), down_matrix, y);
            next.inspect(|next| down.fetch(*next));
        },
    );
    let y = Rows::new(matrix(y, groups.copies(), d));
    (sums(&y, groups, Some(&weights)), kept)
}

/// Of rows, of hidden states, of gates and ups.
fn widths(gate_up: &Held, down: &Held) -> (usize, usize, usize) {
    let (d, width, both) = (gate_up.inputs(), down.inputs(), gate_up.outputs());
    assert_eq!(
        (2 * width, down.outputs()),
        (both, d),
        "projections that fit each other"
    );
    (d, width, both)
}

fn resized(room: &mut Vec<f32>, length: usize) -> &mut [f32] {
    room.resize(length, 0.0);
    room
}

impl ExpertOps for Flex {
    fn fused_experts(
        x: FlexTensor,
        weights: FlexTensor,
        projections: Projections,
        groups: Arc<Groups>,
        _wanted: Wanted,
    ) -> FlexTensor {
        forward(x, weights, &projections, &groups, false).0
    }
}

impl ExpertGradients for Flex {
    fn fused_experts_keeping(
        x: FlexTensor,
        weights: FlexTensor,
        projections: &[Held; 2],
        groups: &Groups,
    ) -> [FlexTensor; 2] {
        let (y, kept) = forward(x, weights, projections, groups, true);
        let both = projections[0].outputs();
        [y, matrix(kept, groups.copies(), both)]
    }

    fn fused_experts_backward(
        dy: FlexTensor,
        kept: Kept<FlexTensor>,
        weights: FlexTensor,
        [up_projection, down]: &[Held; 2],
        groups: &Groups,
    ) -> [FlexTensor; 2] {
        let kept = match kept {
            Kept::Rows(x) => Kept::Rows(Rows::new(x)),
            Kept::GatesAndUps(values) => Kept::GatesAndUps(Rows::new(values)),
        };
        let (dy, weights) = (Rows::new(dy), Rows::new(weights));
        let (d, width, both) = widths(up_projection, down);
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
            5 * width * d,
            |room,
             Turn {
                 group: expert,
                 next,
             },
             copies,
             [dx, d_weights]| {
                let n = copies.len();
                let up_matrix = up_projection.matrix(expert, &mut room.up_matrix);
                let gate_up = match &kept {
                    Kept::GatesAndUps(values) => {
                        &values.data()[copies.start * both..copies.end * both]
                    }
                    Kept::Rows(x) => {
                        gather(x, groups, copies.clone(), &mut room.rows);
                        let gate_up = resized(&mut room.gate_up, n * both);
                        multiply_group(Matrix::new(&room.rows, n, d, d), up_matrix, gate_up);
                        gate_up
                    }
                };
                // The gradient of what the expert made is the row's times the weight; the weight comes
                // in behind the product, where the gradient of the weight itself is at hand too.
                gather(&dy, groups, copies.clone(), &mut room.rows);
                let dy = Matrix::new(&room.rows, n, d, d);
                let down_matrix = down.matrix(expert, &mut room.down_matrix);
                let d_hidden = resized(&mut room.hidden, n * width);
                multiply_group(dy, down_matrix.transposed(), d_hidden);
                next.inspect(|next| up_projection.fetch(*next));
                let d_gate_up = resized(&mut room.d_gate_up, n * both);
                let of_copy = &of_copy[copies];
                swiglu_backward(d_hidden, gate_up, of_copy, width, d_gate_up, d_weights);
                let d_gate_up = Matrix::new(d_gate_up, n, both, both);
                multiply_group(d_gate_up, up_matrix.transposed(), dx);
                next.inspect(|next| down.fetch(*next));
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

/// `out = x weight`
fn multiply_group(x: Matrix, weight: Matrix, out: &mut [f32]) {
    if !few_rows::multiply(&x, &weight, out) {
        multiply(out, weight.columns, 0.0, 1.0, x, weight, Threads::All);
    }
}

/// Each row's copies times their weights (or as they are), added up in the order of the row's choices.
fn sums(y: &Rows, groups: &Groups, weights: Option<&Rows>) -> FlexTensor {
    let width = y.columns;
    let mut out = vec![0f32; groups.rows() * width];
    for_rows(&mut out, width, |first, out| {
        some_sums(y, groups, weights, first, out);
    });
    matrix(out, groups.rows(), width)
}

vectorised! {
    fn some_sums(y: &Rows, groups: &Groups, weights: Option<&Rows>, first: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(y.columns).enumerate() {
            let weights = weights.map(|weights| weights.row(first + i));
            for (choice, place) in groups.places_of(first + i).iter().enumerate() {
                let weight = weights.map_or(1.0, |weights| weights[choice]);
                for (out, y) in out.iter_mut().zip(y.row(*place as usize)) {
                    *out += weight * y;
                }
            }
        }
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
