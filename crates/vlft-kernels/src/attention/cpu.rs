//! Blocks of query rows against all keys they may see: the scores of one block and head are in the
//! cache, nothing after a causal block's last row is computed, keys and values are never repeated.
//! For the backward only q, k and v are kept; the scores are computed again.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{AttentionGradients, AttentionOps, Kept, Pattern};
use crate::gemm::{Matrix, Threads, multiply};
use crate::host::{Rows, matrix};
use crate::simd::{exp, max, sum2, vectorised};

/// Query rows of one block.
const BLOCK: usize = 96;

/// Rows of a block and the keys it sees, within a segment.
#[derive(Clone, Copy)]
struct Block {
    /// First row of the segment, in the whole tensor.
    segment: usize,
    /// First row of the block, within the segment.
    start: usize,
    rows: usize,
    /// How many keys of the segment the last row sees.
    keys: usize,
    causal: bool,
}

fn blocks(segment: usize, tokens: usize, causal: bool) -> impl Iterator<Item = Block> {
    (0..tokens).step_by(BLOCK).map(move |start| {
        let rows = BLOCK.min(tokens - start);
        Block {
            segment,
            start,
            rows,
            keys: if causal { start + rows } else { tokens },
            causal,
        }
    })
}

/// First row and length of each segment.
fn segments(pattern: &Pattern) -> impl Iterator<Item = (usize, usize)> {
    pattern.segments.iter().scan(0, |next, &tokens| {
        let start = *next;
        *next += tokens;
        Some((start, tokens))
    })
}

/// Head `head` of rows `start..start + rows`.
fn head_of(x: &Rows, head: usize, d: usize, start: usize, rows: usize) -> Matrix<'_> {
    Matrix::new(&x.data()[start * x.stride + head * d..], rows, d, x.stride)
}

impl AttentionOps for Flex {
    fn fused_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        pattern: Pattern,
    ) -> FlexTensor {
        let (q, k, v) = (Rows::new(q), Rows::new(k), Rows::new(v));
        let (d, width) = (pattern.head_dim, q.columns);
        let heads = width / d;
        let group = heads / (k.columns / d);
        let scale = (d as f32).sqrt().recip();
        let mut out = vec![0f32; q.rows * width];

        let mut tasks = Vec::new();
        let mut rest = out.as_mut_slice();
        for (segment, tokens) in segments(&pattern) {
            for block in blocks(segment, tokens, pattern.causal) {
                let (out, after) = rest.split_at_mut(block.rows * width);
                tasks.push((block, out));
                rest = after;
            }
        }
        let run = |(scores, sums): &mut (Vec<f32>, Vec<f32>), (block, out): (Block, &mut [f32])| {
            let Block {
                segment,
                start,
                rows,
                keys,
                ..
            } = block;
            scores.resize(rows * keys, 0.0);
            sums.resize(rows, 0.0);
            for head in 0..heads {
                let q = head_of(&q, head, d, segment + start, rows);
                let k = head_of(&k, head / group, d, segment, keys);
                let v = head_of(&v, head / group, d, segment, keys);
                multiply(scores, keys, 0.0, scale, q, k.transposed(), Threads::One);
                exponentials(scores, block, sums);
                let p = Matrix::new(scores, rows, keys, keys);
                let out = &mut out[head * d..];
                multiply(out, width, 0.0, 1.0, p, v, Threads::One);
                for (row, sum) in out.chunks_mut(width).zip(&*sums) {
                    row[..d].iter_mut().for_each(|x| *x /= sum);
                }
            }
        };
        tasks
            .into_par_iter()
            .with_max_len(1)
            .for_each_init(Default::default, run);
        matrix(out, q.rows, width)
    }
}

impl AttentionGradients for Flex {
    fn fused_attention_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        pattern: Pattern,
    ) -> (FlexTensor, Kept<Self>) {
        (Self::fused_attention(q, k, v, pattern), None)
    }

    fn fused_attention_backward(
        dy: FlexTensor,
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        _: Kept<Self>,
        pattern: Pattern,
    ) -> [FlexTensor; 3] {
        let dy = Rows::new(dy);
        let (q, k, v) = (Rows::new(q), Rows::new(k), Rows::new(v));
        let d = pattern.head_dim;
        let kv_heads = k.columns / d;
        let group = q.columns / k.columns;

        let mut tasks = Vec::new();
        for (segment, tokens) in segments(&pattern) {
            tasks.extend((0..kv_heads).map(|kv_head| (segment, tokens, kv_head)));
        }
        let inputs = Inputs {
            dy,
            q,
            k,
            v,
            d,
            group,
            causal: pattern.causal,
        };
        let gradients: Vec<_> = tasks
            .par_iter()
            .with_max_len(1)
            .map(|&(segment, tokens, kv_head)| inputs.backward(segment, tokens, kv_head))
            .collect();

        // From one piece per segment and head to rows of all heads.
        let Inputs { q, k, .. } = &inputs;
        let mut d_q = vec![0f32; q.rows * q.columns];
        let mut d_k = vec![0f32; k.rows * k.columns];
        let mut d_v = vec![0f32; k.rows * k.columns];
        for (&(segment, tokens, kv_head), piece) in tasks.iter().zip(&gradients) {
            for member in 0..group {
                let from = &piece.d_q[member * tokens * d..(member + 1) * tokens * d];
                let head = kv_head * group + member;
                spread(
                    &mut d_q[segment * q.columns..],
                    q.columns,
                    head * d,
                    from,
                    d,
                );
            }
            spread(
                &mut d_k[segment * k.columns..],
                k.columns,
                kv_head * d,
                &piece.d_k,
                d,
            );
            spread(
                &mut d_v[segment * k.columns..],
                k.columns,
                kv_head * d,
                &piece.d_v,
                d,
            );
        }
        [
            matrix(d_q, q.rows, q.columns),
            matrix(d_k, k.rows, k.columns),
            matrix(d_v, k.rows, k.columns),
        ]
    }
}

/// Writes rows of `d` values into the columns from `column` on of rows of `width`.
fn spread(out: &mut [f32], width: usize, column: usize, from: &[f32], d: usize) {
    for (out, from) in out.chunks_mut(width).zip(from.chunks_exact(d)) {
        out[column..column + d].copy_from_slice(from);
    }
}

struct Inputs {
    dy: Rows,
    q: Rows,
    k: Rows,
    v: Rows,
    d: usize,
    /// Query heads per key head.
    group: usize,
    causal: bool,
}

/// Of one segment and key head; `d_q` has the query heads of its group one after the other.
struct Piece {
    d_q: Vec<f32>,
    d_k: Vec<f32>,
    d_v: Vec<f32>,
}

impl Inputs {
    /// One task: its sums over blocks and query heads have one order.
    fn backward(&self, segment: usize, tokens: usize, kv_head: usize) -> Piece {
        let Inputs { d, group, .. } = *self;
        let scale = (d as f32).sqrt().recip();
        let mut piece = Piece {
            d_q: vec![0f32; group * tokens * d],
            d_k: vec![0f32; tokens * d],
            d_v: vec![0f32; tokens * d],
        };
        let (mut p, mut d_p, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for member in 0..group {
            let head = kv_head * group + member;
            let d_q = &mut piece.d_q[member * tokens * d..(member + 1) * tokens * d];
            for block in blocks(segment, tokens, self.causal) {
                let Block {
                    start, rows, keys, ..
                } = block;
                p.resize(rows * keys, 0.0);
                d_p.resize(rows * keys, 0.0);
                sums.resize(rows, 0.0);
                let q = head_of(&self.q, head, d, segment + start, rows);
                let dy = head_of(&self.dy, head, d, segment + start, rows);
                let k = head_of(&self.k, kv_head, d, segment, keys);
                let v = head_of(&self.v, kv_head, d, segment, keys);

                multiply(&mut p, keys, 0.0, scale, q, k.transposed(), Threads::One);
                exponentials(&mut p, block, &mut sums);
                multiply(&mut d_p, keys, 0.0, 1.0, dy, v.transposed(), Threads::One);
                score_gradients(&mut p, &mut d_p, block, &sums, scale);

                let p = Matrix::new(&p, rows, keys, keys);
                let d_s = Matrix::new(&d_p, rows, keys, keys);
                let (keep, one) = (1.0, Threads::One);
                multiply(&mut piece.d_v, d, keep, 1.0, p.transposed(), dy, one);
                multiply(&mut piece.d_k, d, keep, 1.0, d_s.transposed(), q, one);
                multiply(&mut d_q[start * d..], d, 0.0, 1.0, d_s, k, one);
            }
        }
        piece
    }
}

vectorised! {
    /// `exp(score - row maximum)` in place, 0 for keys the row must not see, and the row sums.
    fn exponentials(scores: &mut [f32], block: Block, sums: &mut [f32]) {
        let rows = scores.chunks_exact_mut(block.keys).zip(sums);
        for (i, (row, sum)) in rows.enumerate() {
            let seen = if block.causal { block.start + i + 1 } else { block.keys };
            let (row, hidden) = row.split_at_mut(seen);
            hidden.fill(0.0);
            let largest = max(row);
            for x in row.iter_mut() {
                *x = exp(*x - largest);
            }
            *sum = crate::simd::sum(row, |x| x);
        }
    }
}

vectorised! {
    /// Normalises `p` and turns `d_p` into the gradient of the scaled scores:
    /// `ds = scale p (dp - sum(p dp))`.
    fn score_gradients(
        p: &mut [f32],
        d_p: &mut [f32],
        block: Block,
        sums: &[f32],
        scale: f32,
    ) {
        let rows = p.chunks_exact_mut(block.keys).zip(d_p.chunks_exact_mut(block.keys));
        for ((p, d_p), sum) in rows.zip(sums) {
            let normal = sum.recip();
            for p in p.iter_mut() {
                *p *= normal;
            }
            let along = sum2(p, d_p, |p, d_p| p * d_p);
            for (d_p, p) in d_p.iter_mut().zip(p) {
                *d_p = scale * *p * (*d_p - along);
            }
        }
    }
}
