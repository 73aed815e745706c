//! Position ids of the interleaved M-RoPE: three numbers per token (time, row, column).

/// A run of tokens, as far as positions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// So many tokens of text.
    Text(usize),
    /// An image of so many rows and columns of language model tokens, in raster order.
    Image { rows: usize, columns: usize },
}

/// [3][L]. Text counts up on all three axes. An image stands still in time and spreads over rows
/// and columns; what follows it continues after its longer side, not after its last token.
pub(crate) fn position_ids(runs: impl IntoIterator<Item = Run>) -> [Vec<i32>; 3] {
    let mut ids: [Vec<i32>; 3] = Default::default();
    let mut next = 0;
    for run in runs {
        match run {
            Run::Text(n) => {
                for axis in &mut ids {
                    axis.extend((0..n).map(|i| (next + i) as i32));
                }
                next += n;
            }
            Run::Image { rows, columns } => {
                for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                    ids[0].push(next as i32);
                    ids[1].push((next + row) as i32);
                    ids[2].push((next + column) as i32);
                }
                next += rows.max(columns);
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_image_text() {
        let runs = [
            Run::Text(2),
            Run::Image {
                rows: 2,
                columns: 3,
            },
            Run::Text(2),
        ];
        assert_eq!(
            position_ids(runs),
            [
                vec![0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
                vec![0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
                vec![0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
            ]
        );
        let text = position_ids([Run::Text(3)]);
        assert!(text.iter().all(|axis| axis == &[0, 1, 2]));
    }
}
